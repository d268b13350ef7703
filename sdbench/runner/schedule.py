"""Which experiments the next round launches, so that drift affects all equally and the budget goes where it decides."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from math import inf
from statistics import median

from sdbench.plan.budget import PointCost, choose_round, describe_planned, limit_timed_calls, most_urgent
from sdbench.plan.estimate import ROUND_START_S, CostEstimate, is_forked
from sdbench.runner.outcome import Failure
from sdbench.runner.process import WorkerEnd
from sdbench.schema.base import Unknown
from sdbench.schema.experiment import Experiment, at_batch
from sdbench.schema.manifest import Protocol
from sdbench.schema.metrics import steady_latencies_s
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
from sdbench.schema.workload_results import BatchProbe
from sdbench.stats.intervals import estimate_latency
from sdbench.units import format_duration

# A launch that was throttled is run again, kept and counted; a machine that always throttles must still come to an end.
RERUNS_MAX = 3
# Stopping as soon as a few launches happen to agree makes intervals too narrow: simulated with launches that spread
# by 1 % (2 %), those that stop at 3 to 8 cover 0.91 (0.65) instead of 0.95. From 8 on it does no such harm.
LAUNCHES_FOR_PRECISION = 8
# The protocol's limit of the timed calls must be positive; the fewest calls are made whatever it is.
_CALLS_LIMIT_MIN_S = 0.001


@dataclass
class Progress:
    """How far one experiment is."""

    planned: PlannedExperiment
    estimate: CostEstimate
    launches: list[Launch] = field(default_factory=list)
    ended: Outcome | None = None
    # Probes of a search for the largest batch that are in no launch yet: its worker died, or its result failed later.
    known_probes: tuple[BatchProbe, ...] = ()
    # How many launches there were when this run was started or resumed.
    restored_count: int = 0
    # The run's budget leaves this much (s) for the timed calls of the next launch, less than the protocol; else None.
    calls_limit_s: float | None = None
    # A launch of it found the device gone, which stopped the run before it was resumed.
    lost_device: bool = False

    @property
    def next_experiment(self) -> Experiment:
        """What the next launch measures: the experiment, or after a search a plain measurement of its result."""
        experiment = self.planned.experiment
        search = find_search(self.launches)
        if search is None or self.known_probes:
            return experiment
        return at_batch(experiment, search.largest_batch)

    def has_had(self, rounds: int | None) -> bool:
        """Return whether it has had so many launches since this run was started or resumed."""
        return rounds is not None and self.next_index >= self.restored_count + rounds

    @property
    def next_index(self) -> int:
        """The index of the next launch."""
        return len(self.launches)

    @property
    def next_protocol(self) -> Protocol:
        """How the next launch measures: as planned, or for as long as the run's budget leaves for its timed calls."""
        if self.calls_limit_s is None:
            return self.planned.protocol
        return self.planned.protocol.model_copy(update={"launch_budget_s": self.calls_limit_s})

    def fail(self, end: Failure) -> None:
        """End the experiment; what was measured before is kept."""
        self.ended = end.model_copy(update={"partial": tuple(self.launches)})

    def end_well_or_skip(self, reason: StopReason, skip: Skipped) -> Outcome:
        """End the experiment with the launches it has, or as skipped when it has none, and return the outcome."""
        self.ended = Succeeded(launches=tuple(self.launches), stop_reason=reason) if self.launches else skip
        return self.ended


def reason_to_stop_launching(progress: Progress) -> StopReason | None:
    """Return why an experiment needs no further launch, or None. The budget is looked at elsewhere."""
    protocol = progress.planned.protocol
    if progress.known_probes:
        return None
    measuring = measuring_launches(progress.launches)
    steady = [launch for launch in measuring if not was_throttled(launch)]
    if len(measuring) >= protocol.launches_max + RERUNS_MAX or len(steady) >= protocol.launches_max:
        return "max_launches"
    if len(steady) < max(protocol.launches_min, LAUNCHES_FOR_PRECISION):
        return None
    series = [calls for launch in steady if (calls := steady_latencies_s(launch))]
    if not series:
        return None
    half_width = estimate_latency(series, protocol.confidence).relative_half_width
    if half_width is not None and half_width <= protocol.relative_half_width:
        return "converged"
    return None


def batch_that_did_not_fit(progress: Progress, end: WorkerEnd, failure: Failure) -> tuple[BatchProbe, ...]:
    """Return the probes of a search for the largest batch after its worker ran out of memory; nothing otherwise.

    The batch that was being tried does not fit, or the result of the search failed in a fresh process.
    """
    experiment = progress.next_experiment
    searching = experiment.workload == "largest-batch"
    if progress.planned.experiment.workload != "largest-batch" or not isinstance(failure, OutOfMemory):
        return ()
    batch = end.probing if searching else experiment.batch
    if batch is None:
        return ()
    search = find_search(progress.launches)
    before = progress.known_probes or (search.probes if search else ())
    message = failure.message if searching else f"in a fresh process: {failure.message}"
    failed = BatchProbe(
        batch=batch, fits=False, peak_bytes=Unknown(reason="memory ran out"), wall_s=end.wall_s, message=message
    )
    return (*before, *end.probes, failed)


def next_round(
    all_progress: Sequence[Progress], elapsed_s: float, budget_s: float | None, rounds: int | None = None
) -> tuple[Progress, ...]:
    """Return the experiments to launch once each now, backend by backend; none at the end, or after so many ``rounds``.

    What needs no further launch, or has none that fits into the budget, is ended here. Only the very first launch of a
    run is made in any case, or the run would have no result: the shortest, where none fits.
    """
    for progress in all_progress:
        if progress.ended is None and (reason := reason_to_stop_launching(progress)) is not None:
            progress.ended = Succeeded(launches=tuple(progress.launches), stop_reason=reason)
    left_s = inf if budget_s is None else budget_s - elapsed_s - round_start_s(all_progress)
    while waiting := [item for item in all_progress if item.ended is None and not item.has_had(rounds)]:
        points = [_describe(progress, all_progress) for progress in waiting]
        if chosen := choose_round(points, left_s):
            return _group_by_backend([waiting[index] for index in chosen])
        if not any(item.launches or item.known_probes or isinstance(item.ended, Failure) for item in all_progress):
            return (waiting[min(range(len(points)), key=lambda index: points[index].shortest_s)],)
        for index in most_urgent(points):
            skip = _explain_skip(points[index].shortest_s, left_s, budget_s or inf)
            waiting[index].end_well_or_skip("budget", skip)
    return ()


def _group_by_backend(chosen: Sequence[Progress]) -> tuple[Progress, ...]:
    """Return experiments in manifest order, but those of one backend together: changing it costs a template."""
    backends = list(dict.fromkeys(item.planned.experiment.backend for item in chosen))
    return tuple(sorted(chosen, key=lambda item: backends.index(item.planned.experiment.backend)))


def limit_to_share(
    progress: Progress, all_progress: Sequence[Progress], elapsed_s: float, budget_s: float | None
) -> bool:
    """Limit the timed calls of the next launch to its share of the budget; return whether the launch still fits."""
    progress.calls_limit_s = None
    if budget_s is None:
        return True
    waiting = [item for item in all_progress if item.ended is None]
    points = [_describe(item, all_progress) for item in waiting]
    index = waiting.index(progress)
    limit_s = max(_CALLS_LIMIT_MIN_S, limit_timed_calls(points, index, budget_s - elapsed_s))
    if limit_s < progress.planned.protocol.launch_budget_s:
        progress.calls_limit_s = limit_s
    return points[index].shortest_s < budget_s - elapsed_s


def _describe(progress: Progress, all_progress: Sequence[Progress]) -> PointCost:
    """Return what is left to do of an experiment, and what its next launch takes as far as it is known."""
    point = describe_planned(progress.planned, progress.estimate)
    launch_s = expected_launch_s(progress, all_progress)
    if not progress.launches:
        scale = launch_s / point.launch_s
        fixed_s, timed_s, least_s = (scale * part for part in (point.fixed_s, point.timed_s, point.timed_least_s))
        return replace(point, fixed_s=fixed_s, timed_s=timed_s, timed_least_s=least_s)
    calls_s = [steady_latencies_s(launch) for launch in progress.launches]
    timed_s = min(launch_s, median(map(sum, calls_s)))
    call_s = median(median(steady) if steady else 0.0 for steady in calls_s)
    least_s = min(timed_s, progress.planned.protocol.calls_min * call_s)
    return replace(
        point, launches=progress.next_index, fixed_s=launch_s - timed_s, timed_s=timed_s, timed_least_s=least_s
    )


def expected_launch_s(progress: Progress, all_progress: Sequence[Progress]) -> float:
    """Return the wall time (s) the next launch will take, without the start of a template: as measured so far.

    A first launch takes as long as was estimated, times how far off the estimates of the others were (median).
    """
    if progress.launches:
        return median(launch.wall_s for launch in progress.launches)
    errors = [expected_launch_s(item, all_progress) / item.estimate.launch_s for item in all_progress if item.launches]
    return progress.estimate.launch_s * median(errors or [1.0])


def round_start_s(all_progress: Sequence[Progress]) -> float:
    """Return what a round costs (s) in addition to its launches, the start of its template: as measured, or roughly."""
    launches = [launch for item in all_progress for launch in item.launches]
    if not launches:
        return ROUND_START_S if any(is_forked(item.planned) for item in all_progress) else 0.0
    return median([launch.import_s for launch in launches if launch.template_id is not None] or [0.0])


def out_of_budget(needed_s: float, elapsed_s: float, budget_s: float | None) -> Skipped | None:
    """Return why ``needed_s`` more seconds do not fit into the budget, or None if they do."""
    if budget_s is None or elapsed_s + needed_s < budget_s:
        return None
    return _explain_skip(needed_s, budget_s - elapsed_s, budget_s)


def _explain_skip(needed_s: float, left_s: float, budget_s: float) -> Skipped:
    return Skipped(
        reason=f"needs about {format_duration(needed_s)}, and {format_duration(max(0.0, left_s))} were left of the "
        f"budget of {budget_s:g} s",
        hint="raise --budget, or run only this experiment with --only",
    )


def remaining_s(all_progress: Sequence[Progress], elapsed_s: float, budget_s: float | None) -> float:
    """Return about how long (s) the run will still take, at most."""
    left = [
        (max(0, item.planned.protocol.launches_max - item.next_index), expected_launch_s(item, all_progress))
        for item in all_progress
        if item.ended is None
    ]
    rounds = max((count for count, _ in left), default=0)
    needed_s = sum(count * launch_s for count, launch_s in left) + rounds * round_start_s(all_progress)
    return needed_s if budget_s is None else min(needed_s, max(0.0, budget_s - elapsed_s))
