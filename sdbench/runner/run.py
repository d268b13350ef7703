"""One run from plan to sealed record: launches in rounds, each journaled before the next starts."""

import contextlib
from collections.abc import Callable, Sequence
from contextlib import closing
from datetime import datetime, timedelta
from pathlib import Path

from sdbench.errors import EnvironmentLost
from sdbench.plan.budget import total_s
from sdbench.plan.make_plan import Plan
from sdbench.plan.rates import keep_rates
from sdbench.runner.ceilings import measure_at_end, measure_at_start
from sdbench.runner.events import Listener, RunEvent
from sdbench.runner.folder import check_output_folder, open_run_folder
from sdbench.runner.interrupts import interrupts_held
from sdbench.runner.launch import launch
from sdbench.runner.launcher import Launcher
from sdbench.runner.schedule import limit_to_share, next_round, round_start_s
from sdbench.runner.seal import seal
from sdbench.runner.spec import RunSpec, read_fingerprint
from sdbench.runner.state import Ended, RunState, restore_state
from sdbench.schema.fingerprint import Fingerprint
from sdbench.schema.record import DeviceGroup
from sdbench.store.cache_folder import cache_folder
from sdbench.store.lock import hold_device
from sdbench.store.run import Run

# An hour and minute of a later day would be read as one of today.
_A_DAY_S = 86_400.0


def run_plan(
    plan: Plan,
    out: Path | str = "results",
    *,
    fresh: bool = False,
    rounds: int | None = None,
    device_group: DeviceGroup | None = None,
    listener: Listener = lambda _event: None,
) -> Run:
    """Measure a plan, or continue where an earlier run of the same plan stopped, and return the finished run.

    An interrupt (KeyboardInterrupt) ends the run early: what is finished is sealed, marked as interrupted.

    Args:
        plan: what ``make_plan`` returned.
        out: the folder that run folders go into.
        fresh: start over instead of resuming an unfinished run.
        rounds: stop after so many more launches of each experiment; to be continued.
        device_group: the devices that are measured for one question with this one.
        listener: called with each event of the run.

    Raises:
        EnvironmentProblem: the disk is full or the folder not writable; what was finished before is kept.
        EnvironmentLost: the device is gone; what was finished is sealed, marked as interrupted.
        RecordError: the journal to continue is damaged.
    """
    return run(RunSpec(plan, Path(out), fresh, rounds, device_group=device_group), listener)


def run(spec: RunSpec, listener: Listener) -> Run:
    """Measure or resume what a spec says, and return the finished run, as ``run_plan`` does."""
    return measure([spec], _launch_in_rounds, listener)[0]


def measure(
    specs: Sequence[RunSpec],
    launch_all: Callable[[Sequence[RunState]], Ended],
    listener: Listener,
    prepare: Callable[[Sequence[RunSpec], Sequence[Fingerprint]], Sequence[RunSpec]] = lambda specs, _: specs,
) -> list[Run]:
    """Return the finished runs of specs on one device, whose launches ``launch_all`` makes.

    ``prepare`` completes the specs once the device is held: nothing else is then at work in their folders.

    Raises:
        EnvironmentProblem: the disk is full or the folder not writable; what was finished before is kept.
        EnvironmentLost: the device is gone; what was finished is sealed, marked as interrupted.
        RecordError: the journal to continue is damaged.
    """
    device = specs[0].plan.device

    def report_waiting(holder: str) -> None:
        listener(RunEvent("waiting", f"device {device.torch_name} is held by {holder}; waiting for it to finish"))

    for spec in specs:
        check_output_folder(spec.out)
    with contextlib.ExitStack() as stack:
        note_worker: Callable[[int], object] = id
        if not specs[0].is_virtual:  # it uses no device, and simulates its own time
            hold = hold_device(device.lock_key, report_waiting, purpose=lambda: _describe_purpose(specs))
            note_worker = stack.enter_context(hold)
        launcher = Launcher(note_worker)
        stack.enter_context(closing(launcher))
        states = []
        fingerprints = [read_fingerprint(spec) for spec in specs]
        for spec, fingerprint in zip(prepare(specs, fingerprints), fingerprints, strict=True):
            folder = stack.enter_context(open_run_folder(spec, fingerprint))
            states.append(restore_state(spec, folder, fingerprint, listener, launcher))
        ended: Ended = "interrupted"
        lost: EnvironmentLost | None = None
        try:
            measure_at_start(states)
            ended = launch_all(states)
            measure_at_end(states, ended)
        except KeyboardInterrupt:
            pass
        except EnvironmentLost as problem:
            lost = problem
        with interrupts_held():
            runs = [Run(state.folder.path, seal(state, ended)) for state in states]
        for run in runs:
            keep_rates(run.record, device.name, cache_folder())
        if lost is not None:
            raise lost
        return runs


def _describe_purpose(specs: Sequence[RunSpec]) -> str:
    """What those who wait are shown of this run: its manifest, and until when it takes at most, where that is known."""
    plan = specs[0].plan
    limit_s = total_s(plan)[1] if plan.budget_s is None and len(specs) == 1 else plan.budget_s
    if limit_s is None or limit_s > _A_DAY_S:
        return plan.request.manifest_name
    end = datetime.now().astimezone() + timedelta(seconds=limit_s)
    return f"{plan.request.manifest_name}, at most until about {end:%H:%M}"


def _launch_in_rounds(states: Sequence[RunState]) -> Ended:
    """Launch until every experiment has ended, or has had its rounds; return which."""
    (state,) = states
    budget_s, rounds = state.spec.plan.budget_s, state.spec.rounds
    while chosen := next_round(state.progress, state.elapsed_s, budget_s, rounds):
        state.launcher.start_round()
        for index, progress in enumerate(chosen):
            # The first was chosen just now; the time of those before the others is known better by now.
            start_s = 0.0 if index else round_start_s(state.progress)
            if limit_to_share(progress, state.progress, state.elapsed_s + start_s, budget_s) or index == 0:
                launch(state, progress)
    return "paused" if any(progress.ended is None for progress in state.progress) else "complete"
