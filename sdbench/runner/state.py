"""The state of a run: restored from its journal, and updated by each launch."""

import json
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from pydantic import TypeAdapter

from sdbench.privacy import Redactor
from sdbench.probes.virtual import VirtualMachine, read_virtual_machine
from sdbench.runner.events import EventKind, Listener, Outlook, RunEvent
from sdbench.runner.folder import RunFolder
from sdbench.runner.launcher import Launcher
from sdbench.runner.outcome import Failure
from sdbench.runner.schedule import Progress, remaining_s
from sdbench.runner.spec import RunSpec
from sdbench.schema.base import Reading, Unknown
from sdbench.schema.ceilings import Ceilings
from sdbench.schema.fingerprint import Fingerprint
from sdbench.schema.metrics import counted_launches, steady_latencies_s
from sdbench.schema.outcome import Launch, OutOfMemory, find_search
from sdbench.schema.workload_results import BatchSearch
from sdbench.stats.intervals import estimate_latency
from sdbench.units import format_bytes

Ended = Literal["complete", "interrupted", "paused"]
_FAILURE: TypeAdapter[Failure] = TypeAdapter(Failure)
CEILINGS: TypeAdapter[Reading[Ceilings]] = TypeAdapter(Reading[Ceilings])
# A display that moves once a second looks alive.
_TICK_INTERVAL_S = 1.0
_NOT_ENDED = Unknown(reason="the run is not complete")


@dataclass
class RunState:
    """One run in the making. ``earlier_s`` is the time (s) that its launches took before it was resumed.

    ``outlook`` returns where the session is, if the run is an arm of one. The ceilings at the start are None until they
    have been measured, or could not be.
    """

    spec: RunSpec
    folder: RunFolder
    fingerprint: Fingerprint
    listener: Listener
    launcher: Launcher
    progress: Sequence[Progress]
    earlier_s: float
    virtual: VirtualMachine | None
    redactor: Redactor = field(default_factory=Redactor)
    started_s: float = field(default_factory=time.monotonic)
    outlook: Callable[[], Outlook] | None = None
    ceilings_at_start: Reading[Ceilings] | None = None
    ceilings_at_end: Reading[Ceilings] = _NOT_ENDED
    ceiling_failures: list[str] = field(default_factory=list)
    _emitted_s: float = 0.0

    @property
    def elapsed_s(self) -> float:
        """The time (s) this run has taken, including the time before it was resumed."""
        return self.earlier_s + time.monotonic() - self.started_s

    def emit(
        self, kind: EventKind, text: str, progress: Progress | None = None, latency_s: float | None = None
    ) -> None:
        """Send an event to the listener."""
        self._emitted_s = time.monotonic()
        outlook, budget_s = self.outlook() if self.outlook else None, self.spec.plan.budget_s
        possible = self._possible
        elapsed_s = self.elapsed_s
        self.listener(
            RunEvent(
                kind=kind,
                text=text,
                **(self._describe(progress, kind) if progress else {}),
                block=outlook.block if outlook else None,
                block_count=outlook.block_count if outlook else None,
                latency_s=latency_s,
                done_count=sum(item.ended is not None for item in possible),
                total_count=len(possible),
                elapsed_s=elapsed_s,
                remaining_s=outlook.remaining_s if outlook else remaining_s(self.progress, elapsed_s, budget_s),
                budget_s=budget_s,
            )
        )

    def tick(self, progress: Progress | None = None) -> None:
        """Send a tick where no event was sent for a second."""
        if time.monotonic() - self._emitted_s >= _TICK_INTERVAL_S:
            self.emit("tick", "", progress)

    @property
    def _possible(self) -> list[Progress]:
        """The experiments that the plan did not skip."""
        return [item for item in self.progress if item.planned.experiment_id not in self.spec.plan.skipped]

    def _describe(self, progress: Progress, kind: EventKind) -> dict[str, Any]:
        """The fields of an event about an experiment; its estimate changes with its launches only."""
        fields: dict[str, Any] = {
            "experiment": progress.planned.label,
            "arm": self.spec.session.arm if self.spec.session else None,
            "number": next(number for number, item in enumerate(self._possible, 1) if item is progress),
            "launch_index": progress.next_index - (kind == "launched"),
            "launch_count": progress.planned.protocol.launches_max,
        }
        calls_s = [steady_latencies_s(launch) for launch in counted_launches(progress.launches)]
        if kind in ("launch", "launched") and calls_s and all(calls_s):
            estimate = estimate_latency(calls_s, progress.planned.protocol.confidence)
            half_width = estimate.relative_half_width if estimate.is_useful else None
            fields |= {"estimate_s": estimate.value, "half_width_ratio": half_width}
        return fields

    def move_virtual_machine(self, position: int | None) -> None:
        """Move the virtual machine to the next launch on its time line."""
        if self.virtual is not None:
            place = sum(item.next_index for item in self.progress) if position is None else position
            self.virtual = replace(self.virtual, position=place)

    def keep_ceilings(self, when: Literal["start", "end"], reading: Reading[Ceilings], failure: str) -> None:
        """Take up what the machine reached at one end of the run, and what of it failed."""
        if failure:
            self.ceiling_failures.append(f"at the {when}: {failure}")
        if when == "end":
            self.ceilings_at_end = reading
        else:
            self.ceilings_at_start = reading

    def record_failure(self, progress: Progress, failure: Failure, wall_s: float, text: str) -> None:
        """Journal that an experiment failed, and end it."""
        outcome = failure.to_json_dict()
        entry = {"kind": "end", "experiment_id": progress.planned.experiment_id, "outcome": outcome, "wall_s": wall_s}
        self.folder.journal.append(entry)
        progress.fail(failure)
        self.emit("ended", f"{progress.planned.label}: {text}", progress)


def restore_state(
    spec: RunSpec, folder: RunFolder, fingerprint: Fingerprint, listener: Listener, launcher: Launcher
) -> RunState:
    """Return the state of a run from its journal; for a new run, the initial state."""
    plan = spec.plan
    by_id = {
        item.experiment_id: Progress(
            item, plan.estimates[item.experiment_id], ended=plan.skipped.get(item.experiment_id)
        )
        for item in plan.planned
    }
    earlier_s, templates = 0.0, set[str]()
    for entry in folder.entries:
        if entry["kind"] == "launch":
            launch = Launch.model_validate_json(json.dumps(entry["launch"]))
            by_id[entry["experiment_id"]].launches.append(launch)
            earlier_s += launch.wall_s
            if launch.template_id is not None and launch.template_id not in templates:
                templates.add(launch.template_id)
                earlier_s += launch.import_s
        elif entry["kind"] == "end":
            by_id[entry["experiment_id"]].fail(_FAILURE.validate_json(json.dumps(entry["outcome"])))
            earlier_s += entry["wall_s"]
        elif entry["kind"] == "lost":
            by_id[entry["experiment_id"]].lost_device = True
    for progress in by_id.values():
        progress.restored_count = progress.next_index
    virtual = read_virtual_machine(os.environ | spec.environment) if spec.is_virtual else None
    state = RunState(spec, folder, fingerprint, listener, launcher, list(by_id.values()), earlier_s, virtual)
    _restore_ceilings(state)
    for progress in state.progress:
        search = find_search(progress.launches)
        if progress.ended is None and search is not None and search.largest_batch == 0:
            record_out_of_memory(state, progress, search)
    if folder.entries[-1]["kind"] == "resume":
        count = sum(len(progress.launches) for progress in state.progress)
        state.emit("resumed", f"continuing {folder.path} with {count} finished launches; --fresh starts over")
    return state


def _restore_ceilings(state: RunState) -> None:
    """Take up what the machine reached when the run began; the end is measured when it comes."""
    for entry in state.folder.entries:
        if entry["kind"] == "ceilings":
            state.earlier_s += entry["wall_s"]
            if entry["when"] == "start":
                state.keep_ceilings("start", CEILINGS.validate_json(json.dumps(entry["reading"])), entry["failure"])


def record_out_of_memory(state: RunState, progress: Progress, search: BatchSearch) -> None:
    """End an experiment whose search found that not even one image fits."""
    failure = OutOfMemory(
        stage="probe",
        where="device" if state.spec.plan.device.kind == "cuda" else "host",
        message=f"not even one image fits into {format_bytes(search.limit_bytes)} ({search.limit_source})",
        partial=(),
    )
    state.record_failure(progress, failure, 0.0, f"out of {failure.where} memory during 'probe'")
