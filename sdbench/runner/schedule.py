"""Which launch comes next: round after round over all experiments, so that drift falls on all alike."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import median

from sdbench.runner.judge import BadEnd, with_partial
from sdbench.runner.process import WorkerEnd
from sdbench.schema.base import Unknown
from sdbench.schema.experiment import Experiment, at_batch
from sdbench.schema.outcome import (
    Launch,
    Outcome,
    OutOfMemory,
    Skipped,
    StopReason,
    Succeeded,
    find_search,
    measuring_launches,
    was_throttled,
)
from sdbench.schema.record import PlannedExperiment
from sdbench.schema.study import BatchProbe
from sdbench.stats.intervals import estimate_latency

# A launch that was throttled is run again, kept and counted; a machine that always throttles must still come to an end.
RERUNS_MAX = 3
# Stopping as soon as a few launches happen to agree makes intervals too narrow: simulated with launches that spread
# by 1 % (2 %), those that stop at 3 to 8 cover 0.91 (0.65) instead of 0.95. From 8 on it does no such harm.
LAUNCHES_FOR_PRECISION = 8


@dataclass
class Progress:
    """How far one experiment is."""

    planned: PlannedExperiment
    estimated_launch_s: float
    launches: list[Launch] = field(default_factory=list)
    ended: Outcome | None = None
    # What a search for the largest batch knows that no launch holds yet: its worker died, or its answer did not hold.
    known_probes: tuple[BatchProbe, ...] = ()
    # How many launches there were when this run began or was continued.
    restored_count: int = 0

    @property
    def next_experiment(self) -> Experiment:
        """What the next launch measures: the experiment, or after a search its answer as a plain measurement."""
        experiment = self.planned.experiment
        search = find_search(self.launches)
        if search is None or self.known_probes:
            return experiment
        return at_batch(experiment, search.largest_batch)

    @property
    def next_index(self) -> int:
        """The index of the next launch."""
        return len(self.launches)

    @property
    def expected_launch_s(self) -> float:
        """The wall time (s) the next launch will take: as measured so far, else as estimated."""
        return median(launch.wall_s for launch in self.launches) if self.launches else self.estimated_launch_s

    def end_badly(self, end: BadEnd) -> None:
        """End the experiment; what was measured before is kept."""
        self.ended = with_partial(end, tuple(self.launches))

    def end_well_or_skip(self, reason: StopReason, skip: Skipped) -> None:
        """End the experiment with the launches it has, or as skipped when it has none."""
        self.ended = Succeeded(launches=tuple(self.launches), stop_reason=reason) if self.launches else skip


def reason_to_stop_launching(progress: Progress) -> StopReason | None:
    """Return why an experiment needs no further launch, or None. The budget is looked at elsewhere."""
    protocol = progress.planned.protocol
    if progress.known_probes:
        return None
    measuring = measuring_launches(progress.launches)
    steady = [launch for launch in measuring if not was_throttled(launch)]
    if len(measuring) >= protocol.launches_max + RERUNS_MAX or len(steady) >= protocol.launches_max:
        return "most allowed"
    if len(steady) < max(protocol.launches_min, LAUNCHES_FOR_PRECISION):
        return None
    series = [latency.steady for launch in steady if (latency := launch.find_series("latency")) is not None]
    if not series:
        return None
    half_width = estimate_latency(series, protocol.confidence).relative_half_width
    if half_width is not None and half_width <= protocol.relative_half_width:
        return "precise enough"
    return None


def batch_that_did_not_fit(progress: Progress, end: WorkerEnd, bad_end: BadEnd) -> tuple[BatchProbe, ...]:
    """Return what a search for the largest batch now knows when its worker ran out of memory; nothing otherwise.

    The batch that was being tried does not fit, or the answer of the search did not hold in a fresh process.
    """
    experiment = progress.next_experiment
    searching = experiment.workload == "largest-batch"
    if progress.planned.experiment.workload != "largest-batch" or not isinstance(bad_end, OutOfMemory):
        return ()
    batch = end.probing if searching else experiment.batch
    if batch is None:
        return ()
    search = find_search(progress.launches)
    before = progress.known_probes or (search.probes if search else ())
    message = bad_end.message if searching else f"in a fresh process: {bad_end.message}"
    failed = BatchProbe(
        batch=batch, fits=False, peak_bytes=Unknown(reason="memory ran out"), wall_s=end.wall_s, message=message
    )
    return (*before, *end.probes, failed)


def choose_next(all_progress: Sequence[Progress], elapsed_s: float, budget_s: float | None) -> Progress | None:
    """Return the experiment to launch next: the one with the fewest launches, in manifest order; None at the end.

    An experiment whose next launch would not fit into the budget is ended here. First launches are tried as long
    as any budget is left, because their cost is only an estimate.
    """
    waiting = [progress for progress in all_progress if progress.ended is None]
    for progress in sorted(waiting, key=lambda item: item.next_index):
        if (reason := reason_to_stop_launching(progress)) is not None:
            progress.end_well_or_skip(reason, out_of_budget(budget_s))
            continue
        if budget_s is not None:
            needed_s = progress.expected_launch_s if progress.launches else 0.0
            if elapsed_s + needed_s >= budget_s:
                progress.end_well_or_skip("budget", out_of_budget(budget_s))
                continue
        return progress
    return None


def out_of_budget(budget_s: float | None) -> Skipped:
    """Return the outcome of an experiment for which no budget was left."""
    return Skipped(
        reason=f"the budget of {budget_s:g} s was used up before it" if budget_s else "not reached",
        remedy="raise --budget, or name it with --only",
    )


def remaining_s(all_progress: Sequence[Progress], elapsed_s: float, budget_s: float | None) -> float:
    """Return about how long (s) the run will still take, at most."""
    needed_s = sum(
        max(0, progress.planned.protocol.launches_max - progress.next_index) * progress.expected_launch_s
        for progress in all_progress
        if progress.ended is None
    )
    return needed_s if budget_s is None else min(needed_s, max(0.0, budget_s - elapsed_s))
