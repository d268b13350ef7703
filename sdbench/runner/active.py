"""A run while it goes on: what is restored, each launch with all that is kept of it, and the seal."""

import base64
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sdbench.compare.trust import check_trust
from sdbench.probes.devices import Device, worker_environment
from sdbench.probes.fingerprint import collect_fingerprint
from sdbench.probes.privacy import Redactor
from sdbench.probes.telemetry import Telemetry, open_telemetry
from sdbench.probes.virtual import describe, is_throttled, pretend, read_virtual_machine, virtual_conditions
from sdbench.runner.clock import SupervisorClock
from sdbench.runner.conditions import notice_conditions
from sdbench.runner.events import Listener, RunEvent
from sdbench.runner.folder import RunFolder
from sdbench.runner.interrupts import interrupts_held
from sdbench.runner.judge import Surroundings, build_launch, describe_end, judge_end
from sdbench.runner.process import WORKER_COMMAND, Watch, WorkerEnd, run_worker
from sdbench.runner.schedule import Progress, batch_that_did_not_fit, remaining_s
from sdbench.schema.base import Known
from sdbench.schema.fingerprint import Fingerprint
from sdbench.schema.manifest import Manifest
from sdbench.schema.outcome import (
    Outcome,
    OutOfMemory,
    Skipped,
    find_search,
    measuring_launches,
)
from sdbench.schema.record import DeviceGroup, PlannedExperiment, Record, Request, Result, Session
from sdbench.schema.study import BatchSearch
from sdbench.schema.versions import RECORD_SCHEMA
from sdbench.schema.wire import Measurement, ProbingEvent, SampleEvent, StageEvent, WorkerRequest
from sdbench.store.bundle import seal_record
from sdbench.store.files import write_whole
from sdbench.store.names import IMAGE_FOLDER
from sdbench.units import format_bytes

# Set for every worker: no chatter into its output, and no phoning home.
WORKER_VARIABLES = {
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "PYTHONUNBUFFERED": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "TRANSFORMERS_NO_ADVISORY_WARNINGS": "1",
}


@dataclass(frozen=True)
class RunSpec:
    """What to run, where, and where to put it.

    ``skipped`` maps experiment ids to why this machine cannot run them, ``estimated_launch_s`` all ids to a
    rough wall time (s) of one launch. ``environment`` is set for the workers beside the process's own; ``session``
    marks one of two sides that take turns, ``device_group`` one of several devices measured together.
    """

    manifest: Manifest
    manifest_text: str
    request: Request
    planned: tuple[PlannedExperiment, ...]
    skipped: Mapping[str, Skipped]
    estimated_launch_s: Mapping[str, float]
    device: Device
    out: Path
    cache_folder: Path
    budget_s: float | None
    fresh: bool
    rounds: int | None = None
    environment: Mapping[str, str] = field(default_factory=dict)
    session: Session | None = None
    device_group: DeviceGroup | None = None
    worker_command: Sequence[str] = WORKER_COMMAND


class ActiveRun:
    """One record in the making: launches are journaled one by one, and sealed at the end."""

    def __init__(self, spec: RunSpec, listener: Listener, fingerprint: Fingerprint, folder: "RunFolder") -> None:
        self.spec = spec
        self.listener = listener
        self.folder = folder
        self.fingerprint = fingerprint
        self.redactor = Redactor()
        self.virtual = read_virtual_machine(os.environ | spec.environment) if is_virtual(spec) else None
        self.started_s = time.monotonic()
        self.earlier_s = 0.0
        self.progress = [Progress(item, spec.estimated_launch_s[item.experiment_id]) for item in spec.planned]
        self._restore()

    @property
    def elapsed_s(self) -> float:
        """The time (s) this run has taken, with what it took before it was continued."""
        return self.earlier_s + time.monotonic() - self.started_s

    def _restore(self) -> None:
        by_id = {progress.planned.experiment_id: progress for progress in self.progress}
        for progress in self.progress:
            progress.ended = self.spec.skipped.get(progress.planned.experiment_id)
        for experiment_id, launch in self.folder.finished_launches():
            by_id[experiment_id].launches.append(launch)
            self.earlier_s += launch.wall_s
        for experiment_id, end, wall_s in self.folder.bad_ends():
            by_id[experiment_id].end_badly(end)
            self.earlier_s += wall_s
        for progress in self.progress:
            progress.restored_count = progress.next_index
        for progress in self.progress:
            search = find_search(progress.launches)
            if progress.ended is None and search is not None and search.largest_batch == 0:
                self._end_without_room(progress, search)
        if self.folder.resumed:
            count = sum(len(progress.launches) for progress in self.progress)
            self._tell("resumed", f"continuing {self.folder.path} with {count} finished launches; --fresh starts anew")

    def launch(self, progress: Progress, turn: int | None = None) -> None:
        """Run the next launch of an experiment and journal it; ``turn`` is its place in a session of two sides."""
        index = progress.next_index
        self._tell("launch", f"{progress.planned.label}: launch {index + 1}", progress)
        started_utc = utc_now()
        telemetry: list[Telemetry] = []
        watch = Watch(
            on_start=lambda pid: telemetry.append(open_telemetry(self.spec.device, pid, SupervisorClock())),
            on_event=lambda event: self._tell_event(event, progress),
            on_tick=lambda: telemetry[-1].sample(),  # noqa: PLW0108 - there is none before on_start
        )
        protocol = progress.planned.protocol
        self._advance_virtual(turn)
        request = WorkerRequest(
            experiment=progress.next_experiment,
            protocol=protocol,
            device=self.spec.device.torch_name,
            cache_folder=str(self.spec.cache_folder),
            image_prefix=None if measuring_launches(progress.launches) else self._image_prefix(progress),
            known_probes=progress.known_probes,
        )
        end = run_worker(
            request,
            protocol.launch_timeout_s,
            watch,
            self._worker_variables(),
            self.spec.worker_command,
        )
        with interrupts_held():
            self._keep(progress, end, telemetry[0], turn, started_utc)

    def _worker_variables(self) -> dict[str, str]:
        variables = WORKER_VARIABLES | worker_environment(self.spec.device) | dict(self.spec.environment)
        return variables | (self.virtual.environment() if self.virtual else {})

    def _advance_virtual(self, turn: int | None) -> None:
        """Put the virtual machine where the next launch is on its time line."""
        if self.virtual is not None:
            position = sum(item.next_index for item in self.progress) if turn is None else turn
            self.virtual = replace(self.virtual, position=position)

    def _image_prefix(self, progress: Progress) -> str:
        return f"{IMAGE_FOLDER}/{progress.planned.experiment_id}-{progress.next_index}-"

    def _keep(
        self, progress: Progress, end: WorkerEnd, telemetry: Telemetry, turn: int | None, started_utc: str
    ) -> None:
        index = progress.next_index
        experiment_id = progress.planned.experiment_id
        self.folder.append_telemetry(experiment_id, index, telemetry)
        bad_end = judge_end(end, progress.planned.protocol.launch_timeout_s, self.redactor)
        if bad_end is not None and (too_large := batch_that_did_not_fit(progress, end, bad_end)):
            progress.known_probes = too_large
            self._tell("stage", f"batch {too_large[-1].batch} does not fit", progress)
            return
        if bad_end is not None:
            self.folder.append_bad_end(experiment_id, bad_end, end.wall_s)
            progress.end_badly(bad_end)
            self._tell("ended", f"{progress.planned.label}: {describe_end(bad_end)}", progress)
            return
        around = Surroundings(
            index=index,
            turn=turn,
            started_utc=started_utc,
            throttled=telemetry.throttled(),
            conditions=telemetry.conditions(),
            notices=telemetry.notices(),
        )
        if self.virtual is not None:
            conditions = virtual_conditions(self.virtual, progress.planned.experiment)
            throttled = Known[bool](value=is_throttled(self.virtual, progress.planned.experiment))
            around = replace(around, conditions=conditions, throttled=throttled, notices=())
        launch = build_launch(end, around, self.redactor)
        self._write_pictures(self._image_prefix(progress), end.measurement)
        self.folder.append_launch(experiment_id, launch)
        progress.launches.append(launch)
        progress.known_probes = ()
        if isinstance(launch.study, BatchSearch) and launch.study.largest_batch == 0:
            self._end_without_room(progress, launch.study)
            return
        self._tell("launched", f"{progress.planned.label}: launch {index + 1} done", progress)

    def _end_without_room(self, progress: Progress, search: BatchSearch) -> None:
        end = OutOfMemory(
            stage="probe",
            where="device" if self.spec.device.kind == "cuda" else "host",
            message=f"not even one image fits into {format_bytes(search.limit_bytes)} ({search.limit_source})",
            partial=(),
        )
        self.folder.append_bad_end(progress.planned.experiment_id, end, 0.0)
        progress.end_badly(end)
        self._tell("ended", f"{progress.planned.label}: {describe_end(end)}", progress)

    def _write_pictures(self, prefix: str, measurement: Measurement | None) -> None:
        for picture in measurement.pictures if measurement else ():
            if not picture.path.startswith(prefix):
                msg = f"the worker names the picture {picture.path!r}, which is not its own"
                raise RuntimeError(msg)
            write_whole(self.folder.path / picture.path, base64.b64decode(picture.webp_base64, validate=True))

    def seal(self, ended: str) -> Record:
        """Return the sealed record of what is finished; ``ended`` says how the run came to its end."""
        results = [
            Result(
                planned=progress.planned,
                outcome=(outcome := _outcome(progress, ended)),
                trust=check_trust(outcome),
            ).to_json_dict()
            for progress in self.progress
        ]
        notices = notice_conditions(self.fingerprint)
        if self.virtual is not None:
            notices = (describe(self.virtual), *notices)
        return seal_record(
            self.folder.path,
            {
                "schema": RECORD_SCHEMA,
                "origin": "virtual" if self.virtual else "measured",
                "run_id": self.folder.run_id,
                "created_utc": self.folder.created_utc,
                "ended_utc": utc_now(),
                "ended": ended,
                "wall_s": {"status": "known", "value": self.elapsed_s},
                "request": self.spec.request.to_json_dict(),
                "session": self.spec.session.to_json_dict() if self.spec.session else None,
                "device_group": self.spec.device_group.to_json_dict() if self.spec.device_group else None,
                "exported": None,
                "manifest": self.spec.manifest.to_json_dict(),
                "device": self.spec.device.torch_name,
                "fingerprint": self.fingerprint.to_json_dict(),
                "results": results,
                "warnings": [notice.to_json_dict() for notice in notices],
            },
        )

    def _tell_event(self, event: StageEvent | SampleEvent | ProbingEvent, progress: Progress) -> None:
        if isinstance(event, StageEvent):
            self._tell("stage", event.stage, progress)
        elif isinstance(event, ProbingEvent):
            self._tell("stage", f"trying batch {event.batch}", progress)
        else:
            text = "warm-up" if event.warmup else "sample"
            self._tell("sample", text, progress, latency_s=event.latency_s)

    def _tell(self, kind: Any, text: str, progress: Progress | None = None, latency_s: float | None = None) -> None:
        self.listener(
            RunEvent(
                kind=kind,
                text=text,
                experiment=progress.planned.label if progress else None,
                launch_index=progress.next_index if progress else None,
                latency_s=latency_s,
                done_count=sum(item.ended is not None for item in self.progress),
                total_count=len(self.progress),
                remaining_s=remaining_s(self.progress, self.elapsed_s, self.spec.budget_s),
            )
        )


def utc_now() -> str:
    """Return the time in UTC as ISO 8601 with whole seconds."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def is_virtual(spec: RunSpec) -> bool:
    """Return whether a run is on the virtual backend; a plan never mixes it with real ones."""
    return any(item.experiment.backend == "virtual" for item in spec.planned)


def fingerprint_of(spec: RunSpec) -> Fingerprint:
    """Return this machine's fingerprint for a run, with the driver that a virtual machine claims to have."""
    environ = os.environ | spec.environment
    found = collect_fingerprint(spec.device, environ=environ)
    return pretend(found, read_virtual_machine(environ)) if is_virtual(spec) else found


def _outcome(progress: Progress, ended: str) -> Outcome:
    if progress.ended is None:
        progress.end_well_or_skip(
            "interrupted",
            Skipped(reason=f"the run was {ended} before it", remedy="run the same command again to continue"),
        )
    if progress.ended is None:
        msg = "an experiment without an end cannot be sealed"
        raise RuntimeError(msg)
    return progress.ended
