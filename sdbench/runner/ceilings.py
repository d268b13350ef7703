"""What the machine reaches, measured at both ends of a run in a worker of its own; without it the run continues."""

import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Literal, NamedTuple

from sdbench.privacy import Redactor
from sdbench.probes.devices import Device
from sdbench.probes.virtual import virtual_ceilings
from sdbench.runner.interrupts import interrupts_held
from sdbench.runner.launch import start_worker, worker_variables
from sdbench.runner.launcher import Commands, Launcher
from sdbench.runner.outcome import describe_end, judge_end
from sdbench.runner.process import Watch, WorkerEnd, run_worker
from sdbench.runner.state import CEILINGS, Ended, RunState
from sdbench.runner.worker_process import WORKER_COMMAND, Start
from sdbench.schema.base import Known, Reading, Unknown
from sdbench.schema.ceilings import CeilingPrecision, Ceilings, ceiling_precision
from sdbench.schema.record import PlannedExperiment
from sdbench.schema.wire import CeilingsRequest, Measurement
from sdbench.store.lock import hold_device

When = Literal["start", "end"]
# They take 3 s, on a GPU with its context 6 s, and the template's import 5 s; ten times that on a busy machine.
_TIMEOUT_S = 120.0
# Both ends, and a tenth of the budget at most.
_BUDGET_MIN_S = 60.0
_NO_BUDGET = Unknown(reason=f"the budget is under {_BUDGET_MIN_S:g} s, which is for the experiments")
_NOTHING_RUNS = Unknown(reason="no experiment runs here")


class MeasuredCeilings(NamedTuple):
    """What a worker measured, or why there is nothing; ``failure`` is what a warning says of it."""

    reading: Reading[Ceilings]
    failure: str


def measure_at_start(states: Sequence[RunState]) -> None:
    """Measure what the machine reaches before the first launch; a resumed run keeps what it had at its beginning.

    Raises:
        EnvironmentProblem: a library that the worker needs cannot be imported.
        EnvironmentLost: the worker cannot be killed, and is not dead.
    """
    _measure_all([state for state in states if state.ceilings_at_start is None], "start")


def measure_at_end(states: Sequence[RunState], ended: Ended) -> None:
    """Measure it once more after the last launch of a run that is complete; raises as ``measure_at_start``."""
    if ended == "complete":
        _measure_all(states, "end")


def _measure_all(states: Sequence[RunState], when: When) -> None:
    """Measure once for all states whose workers would do the same."""
    known: list[tuple[object, MeasuredCeilings]] = []
    for state in states:
        started_s = time.monotonic()
        request = _make_request(state)
        key = (request, state.spec.environment, state.virtual)
        measured = next((measured for other, measured in known if other == key), None) or _measure(state, request, when)
        known.append((key, measured))
        _keep(state, when, measured, time.monotonic() - started_s)


def _keep(state: RunState, when: When, measured: MeasuredCeilings, wall_s: float) -> None:
    reading = CEILINGS.dump_python(measured.reading, mode="json")
    entry = {"kind": "ceilings", "when": when, "reading": reading, "failure": measured.failure, "wall_s": wall_s}
    with interrupts_held():
        state.folder.journal.append(entry)
        state.keep_ceilings(when, measured.reading, measured.failure)


def _runnable(state: RunState) -> list[PlannedExperiment]:
    skipped = state.spec.plan.skipped
    return [item for item in state.spec.plan.planned if item.experiment_id not in skipped]


def _make_request(state: RunState) -> CeilingsRequest:
    """The precisions that the experiments compute in, with the most threads that any has."""
    experiments = [item.experiment for item in _runnable(state)]
    precisions: dict[CeilingPrecision, None] = dict.fromkeys(map(ceiling_precision, experiments))
    threads = [experiment.threads for experiment in experiments if experiment.threads is not None]
    return CeilingsRequest(
        device=state.spec.plan.device.worker_name,
        threads=max(threads) if experiments and len(threads) == len(experiments) else None,
        precisions=tuple(precisions),
    )


def _measure(state: RunState, request: CeilingsRequest, when: When) -> MeasuredCeilings:
    runnable, budget_s = _runnable(state), state.spec.plan.budget_s
    if not runnable:
        return MeasuredCeilings(_NOTHING_RUNS, "")
    if state.virtual is not None:
        place = sum(item.next_index for item in state.progress)
        return MeasuredCeilings(
            Known(value=virtual_ceilings(state.virtual, place, runnable[0].experiment, request.precisions)), ""
        )
    if budget_s is not None and budget_s < _BUDGET_MIN_S:
        return MeasuredCeilings(_NO_BUDGET, "")
    state.emit("stage", f"what the machine reaches, at the {when}")
    return _measure_in_worker(state, runnable[0], request)


def _measure_in_worker(state: RunState, first: PlannedExperiment, request: CeilingsRequest) -> MeasuredCeilings:
    """Measure in a worker that is started as those of the first experiment are, and measures no launch."""
    watch = Watch(on_start=_ignore, on_event=_ignore, on_tick=state.tick)
    variables = worker_variables(state.spec.plan.device, state.spec.environment)
    start = partial(start_worker, state, first, variables, on_tick=state.tick, measures_launch=False)
    end = run_worker(request, _TIMEOUT_S, watch, start)
    if end.unusable_fork is not None:
        state.launcher.distrust(first.experiment.backend, end.unusable_fork)
        end = run_worker(request, _TIMEOUT_S, watch, start)
    return _judge(end, state.redactor)


def measure_device(
    device: Device,
    precisions: tuple[CeilingPrecision, ...],
    on_waiting: Callable[[str], None],
    worker_command: Sequence[str] = WORKER_COMMAND,
) -> MeasuredCeilings:
    """Return what a device reaches, outside of a run, in a worker that is spawned; ``on_waiting`` gets who holds it.

    Raises:
        EnvironmentProblem: the lock of the device cannot be used.
        EnvironmentLost: the worker cannot be killed, and is not dead.
    """
    request = CeilingsRequest(device=device.worker_name, threads=None, precisions=precisions)
    watch = Watch(on_start=_ignore, on_event=_ignore, on_tick=lambda: None)
    commands = Commands(worker_command, ())
    with hold_device(device.lock_key, on_waiting, purpose=lambda: "sdbench ceilings") as note_worker:
        launcher = Launcher(note_worker)
        end = run_worker(
            request, _TIMEOUT_S, watch, lambda _: launcher.spawn(commands, worker_variables(device, {}), Start("spawn"))
        )
    return _judge(end, Redactor())


def _ignore(_event: object) -> None:
    return


def _judge(end: WorkerEnd, redactor: Redactor) -> MeasuredCeilings:
    if end.ceilings is not None:
        return MeasuredCeilings(Known(value=end.ceilings), "; ".join(_missing(end.ceilings)))
    if end.timed_out:
        words = f"they did not finish within {_TIMEOUT_S:g} s (at {end.stage!r})"
        return MeasuredCeilings(Unknown(reason=words), words)
    failure = judge_end(end, _TIMEOUT_S, redactor)
    words = "the worker sent no ceilings" if isinstance(failure, Measurement) else describe_end(failure)
    return MeasuredCeilings(Unknown(reason=words), words)


def _missing(ceilings: Ceilings) -> list[str]:
    """What could not be measured, and why."""
    return [f"{name}: {reading.reason}" for name, reading in ceilings.readings.items() if isinstance(reading, Unknown)]
