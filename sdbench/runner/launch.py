"""One launch: a fresh worker process, watched, judged, and journaled before the next one starts."""

import base64
import os
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from sdbench.probes.devices import Device, worker_environment
from sdbench.probes.readings import value_or
from sdbench.probes.telemetry import Telemetry, open_telemetry
from sdbench.probes.torch_build import NONE
from sdbench.probes.virtual import is_throttled, virtual_conditions
from sdbench.runner.folder import utc_now
from sdbench.runner.interrupts import interrupts_held
from sdbench.runner.lost_device import find_loss
from sdbench.runner.outcome import Failure, describe_end, judge_end
from sdbench.runner.process import Watch, run_worker
from sdbench.runner.schedule import Progress, batch_that_did_not_fit
from sdbench.runner.state import RunState, record_out_of_memory
from sdbench.runner.worker_process import Start, WorkerProcess
from sdbench.schema.base import Known, Reading
from sdbench.schema.conditions import Conditions
from sdbench.schema.outcome import Failed, Launch, LaunchData, RecordWarning, measuring_launches
from sdbench.schema.record import PlannedExperiment
from sdbench.schema.wire import Measurement, ProbingEvent, SampleEvent, StageEvent, WorkerRequest
from sdbench.schema.workload_results import BatchSearch
from sdbench.store.files import write_whole
from sdbench.store.layout import IMAGE_FOLDER, TRACE_FOLDER, TRACE_SUFFIX

# Set for every worker: no progress bars in its output, and no usage reports.
WORKER_VARIABLES = {
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "PYTHONUNBUFFERED": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "TRANSFORMERS_NO_ADVISORY_WARNINGS": "1",
}


def launch(state: RunState, progress: Progress, position: int | None = None) -> None:
    """Run the next launch of an experiment and journal it; ``position`` is its place among two interleaved arms."""
    state.emit("launch", f"{progress.planned.label}: launch {progress.next_index + 1}", progress)
    started_utc, timeout_s = utc_now(), progress.planned.protocol.launch_timeout_s
    telemetry: list[Telemetry] = []
    watch = Watch(
        on_start=lambda pid: telemetry.append(open_telemetry(state.spec.plan.device, pid)),
        on_event=lambda event: _take_worker_event(state, event, progress, telemetry[-1]),
        on_tick=lambda: _tick(state, progress, telemetry[-1]),  # there is none before on_start
    )
    state.move_virtual_machine(position)
    request, start = _make_request(state, progress), partial(_start_worker, state, progress)
    try:
        end = run_worker(request, timeout_s, watch, start)
        if end.unusable_fork is not None:
            state.launcher.distrust(request.experiment.backend, end.unusable_fork)
            end = run_worker(request, timeout_s, watch, start)
    finally:
        for opened in telemetry:
            opened.close()
    with interrupts_held():
        # Of a worker that could not be forked there is another one, which measured nothing.
        if telemetry:
            _journal_telemetry(state, progress, telemetry[-1])
        match judge_end(end, timeout_s, state.redactor):
            case Measurement() as measurement:
                throttled, conditions, warnings = _observe(state, progress, telemetry[-1])
                finished = Launch(
                    **_measured(state, measurement, (*end.start.warnings, *warnings)),
                    index=progress.next_index,
                    isolation=end.start.isolation,
                    template_id=end.start.template_id,
                    position=position,
                    started_utc=started_utc,
                    wall_s=end.wall_s,
                    supervisor_cpu_s=end.supervisor_cpu_s,
                    calls_limit_s=progress.calls_limit_s,
                    throttled=throttled,
                    conditions=conditions,
                )
                _write_images(state, _image_prefix(progress), measurement)
                _write_trace(state, progress, measurement)
                _record_launch(state, progress, finished)
            case failure if too_large := batch_that_did_not_fit(progress, end, failure):
                progress.known_probes = too_large
                state.emit("stage", f"batch {too_large[-1].batch} does not fit", progress)
            case failure:
                _stop_where_device_is_lost(state, progress, failure)
                state.record_failure(progress, failure, end.wall_s, describe_end(failure))


def _stop_where_device_is_lost(state: RunState, progress: Progress, failure: Failure) -> None:
    """Raise where a device that has worked in this run is gone, instead of letting each experiment fail of it.

    Not for an experiment that has stopped the run before: after a resumption it may be what breaks the device.

    Raises:
        EnvironmentLost: it is gone.
    """
    has_worked = any(item.launches for item in state.progress)
    if not has_worked or progress.lost_device or not isinstance(failure, Failed):
        return
    loss = find_loss(failure, value_or(state.fingerprint.configuration.container, NONE))
    if state.spec.plan.device.kind == "cuda" and loss is not None:
        state.folder.journal.append({"kind": "lost", "experiment_id": progress.planned.experiment_id})
        raise loss


def _start_worker(state: RunState, progress: Progress, deadline_s: float) -> WorkerProcess:
    environment = worker_variables(state.spec.plan.device, state.spec.environment)
    if state.virtual is not None:
        # Its place on the time line is another for each launch, and there is nothing to import.
        return state.launcher.spawn(state.spec.commands, environment | state.virtual.environment(), Start("spawn"))
    return start_worker(
        state,
        progress.planned,
        environment,
        deadline_s,
        on_tick=partial(state.tick, progress),
    )


def worker_variables(device: Device, own: Mapping[str, str]) -> dict[str, str]:
    """Return the variables of a worker on a device, with those of its arm."""
    return os.environ | WORKER_VARIABLES | worker_environment(device) | dict(own)


def start_worker(
    state: RunState,
    planned: PlannedExperiment,
    environment: dict[str, str],
    deadline_s: float,
    *,
    on_tick: Callable[[], None],
    measures_launch: bool = True,
) -> WorkerProcess:
    """Return a worker for an experiment of a real backend, spawned or forked as its protocol says; raises as ``fork``.

    Args:
        state: the run, whose launcher starts it.
        planned: the experiment.
        environment: all variables of the worker.
        deadline_s: when (s, monotonic) it must have ended.
        on_tick: called while a template is prepared.
        measures_launch: whether it is for a launch, after which its template is one of a round.
    """
    launcher, commands = state.launcher, state.spec.commands
    if planned.protocol.isolation == "spawn":
        return launcher.spawn(commands, environment, Start("spawn"))
    backend = planned.experiment.backend
    return launcher.fork(commands, backend, environment, deadline_s, on_tick, measures_launch=measures_launch)


def _tick(state: RunState, progress: Progress, telemetry: Telemetry) -> None:
    telemetry.sample()
    state.tick(progress)


def _make_request(state: RunState, progress: Progress) -> WorkerRequest:
    return WorkerRequest(
        experiment=progress.next_experiment,
        protocol=progress.next_protocol,
        device=state.spec.plan.device.worker_name,
        cache_folder=str(state.spec.cache_folder),
        image_prefix=None if measuring_launches(progress.launches) else _image_prefix(progress),
        known_probes=progress.known_probes,
        is_first=not measuring_launches(progress.launches),
    )


def _journal_telemetry(state: RunState, progress: Progress, telemetry: Telemetry) -> None:
    state.folder.telemetry.append(
        {
            "experiment_id": progress.planned.experiment_id,
            "index": progress.next_index,
            "series": [item.to_json_dict() for item in telemetry.series()],
            "unknown": telemetry.unknown(),
        }
    )


def _measured(state: RunState, measurement: Measurement, warnings: tuple[RecordWarning, ...]) -> dict[str, Any]:
    """Return the worker's fields of a launch, with ``warnings`` added and all of them redacted."""
    redacted = tuple(
        RecordWarning(code=warning.code, message=state.redactor.redact(warning.message), hint=warning.hint)
        for warning in (*measurement.warnings, *warnings)
    )
    return {name: getattr(measurement, name) for name in LaunchData.model_fields} | {"warnings": redacted}


def _record_launch(state: RunState, progress: Progress, finished: Launch) -> None:
    entry = {"kind": "launch", "experiment_id": progress.planned.experiment_id, "launch": finished.to_json_dict()}
    state.folder.journal.append(entry)
    progress.launches.append(finished)
    progress.known_probes = ()
    if isinstance(finished.workload_result, BatchSearch) and finished.workload_result.largest_batch == 0:
        record_out_of_memory(state, progress, finished.workload_result)
        return
    state.emit("launched", f"{progress.planned.label}: launch {finished.index + 1} done", progress)


def _observe(
    state: RunState, progress: Progress, telemetry: Telemetry
) -> tuple[Reading[bool], Conditions, tuple[RecordWarning, ...]]:
    if state.virtual is None:
        return telemetry.throttled(), telemetry.conditions(), telemetry.warnings()
    experiment = progress.planned.experiment
    throttled = Known(value=is_throttled(state.virtual, experiment))
    return throttled, virtual_conditions(state.virtual, experiment), ()


def _image_prefix(progress: Progress) -> str:
    return f"{IMAGE_FOLDER}/{progress.planned.experiment_id}-{progress.next_index}-"


def _write_images(state: RunState, prefix: str, measurement: Measurement) -> None:
    for picture in measurement.pictures:
        if not picture.path.startswith(prefix):
            raise RuntimeError(f"the worker sent an image with an unexpected path: {picture.path!r}")
        write_whole(state.folder.path / picture.path, base64.b64decode(picture.webp_base64, validate=True))


def _write_trace(state: RunState, progress: Progress, measurement: Measurement) -> None:
    if measurement.trace_base64 is not None:
        name = f"{progress.planned.experiment_id}-{progress.next_index}{TRACE_SUFFIX}"
        content = base64.b64decode(measurement.trace_base64, validate=True)
        write_whole(state.folder.path / TRACE_FOLDER / name, content)


def _take_worker_event(
    state: RunState, event: StageEvent | SampleEvent | ProbingEvent, progress: Progress, telemetry: Telemetry
) -> None:
    match event:
        case StageEvent():
            telemetry.start_stage(event.stage)
            state.emit("stage", event.stage, progress)
        case ProbingEvent():
            state.emit("stage", f"trying batch {event.batch}", progress)
        case SampleEvent():
            state.emit("sample", "warm-up" if event.warmup else "sample", progress, latency_s=event.latency_s)
