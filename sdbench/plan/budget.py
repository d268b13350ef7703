"""How a run's budget is divided among its experiments, and which of them a round launches.

Nothing here looks at how much launches vary, only at what they cost: a budget that followed the noise would end the
experiments whose launches happen to agree, and their intervals would be too narrow.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import ceil, inf

from sdbench.plan.estimate import ROUND_START_S, CostEstimate, is_forked
from sdbench.plan.make_plan import Plan
from sdbench.schema.record import PlannedExperiment
from sdbench.units import format_count, format_duration

_SECONDS_PER_MINUTE = 60
# From here a run without a budget is worth a word about one.
_LONG_S = 3600.0


@dataclass(frozen=True)
class PointCost:
    """An experiment that needs more launches: how many it has and may have, and what its next one takes (s).

    ``fixed_s`` is a launch without its timed calls, ``timed_s`` these calls where no budget limits them, and
    ``timed_least_s`` the fewest of them that the protocol allows.
    """

    launches: int
    launches_min: int
    launches_max: int
    fixed_s: float
    timed_s: float
    timed_least_s: float

    @property
    def missing(self) -> int:
        """How many launches it needs to have its minimum, and at least one."""
        return max(0 if self.launches else 1, self.launches_min - self.launches)

    @property
    def urgency(self) -> int:
        """0 without any launch, 1 below the minimum, 2 beyond it: the lower goes first."""
        return min(1, self.launches) if self.missing else 2

    @property
    def launch_s(self) -> float:
        """The time (s) of its next launch where no budget limits it."""
        return self.fixed_s + self.timed_s

    @property
    def shortest_s(self) -> float:
        """The time (s) of its next launch with the fewest timed calls."""
        return self.fixed_s + self.timed_least_s


def describe_planned(planned: PlannedExperiment, cost: CostEstimate) -> PointCost:
    """Return an experiment before its first launch, with its estimated cost."""
    protocol = planned.protocol
    timed_s = cost.launch_s - cost.fixed_s
    return PointCost(
        launches=0,
        # Out of memory is a result, and ends the experiment at its first launch.
        launches_min=protocol.launches_min if cost.fits else 1,
        launches_max=protocol.launches_max if cost.fits else 1,
        fixed_s=cost.fixed_s,
        timed_s=timed_s,
        timed_least_s=min(timed_s, protocol.calls_min * cost.call_s),
    )


def choose_round(points: Sequence[PointCost], left_s: float) -> tuple[int, ...]:
    """Return which points are launched once each, in their order; none where no launch of the most urgent fits.

    The most urgent go: first those without a launch, then those below their minimum, then the rest. A launch that
    takes more than its point's share of what is left waits until no other can go; then it needs only to fit.
    """
    shares_s = _share_out(_wanted_s(points), left_s)
    fitting = [index for index in most_urgent(points) if points[index].shortest_s < left_s]
    chosen = [index for index in fitting if points[index].shortest_s <= shares_s[index]] or fitting
    # After an interruption some have had their launch of a round and others have not.
    lag = {index: points[index].launches - points[index].launches_min * (points[index].urgency > 1) for index in chosen}
    return tuple(index for index in chosen if lag[index] == min(lag.values()))


def most_urgent(points: Sequence[PointCost]) -> tuple[int, ...]:
    """Return the points that go before all others."""
    first = min(point.urgency for point in points)
    return tuple(index for index, point in enumerate(points) if point.urgency == first)


def limit_timed_calls(points: Sequence[PointCost], index: int, left_s: float) -> float:
    """Return how long (s) the timed calls of a point's next launch may take: its share, and what no other wants."""
    wanted_s = _wanted_s(points)
    wanted_s[index] = inf
    return _share_out(wanted_s, left_s)[index] / max(1, points[index].missing) - points[index].fixed_s


def forecast(points: Sequence[PointCost], budget_s: float | None, round_s: float) -> tuple[int, ...]:
    """Return how many launches each point will have if each takes as long as expected and none converges.

    ``round_s`` is what a round costs (s) in addition to its launches.
    """
    left_s = inf if budget_s is None else budget_s
    counts = {index: point.launches for index, point in enumerate(points)}
    open_points = {index: point for index, point in enumerate(points) if point.launches < point.launches_max}
    while open_points:
        indices, waiting = list(open_points), list(open_points.values())
        chosen = choose_round(waiting, left_s)
        left_s -= round_s if chosen else 0.0
        for place in chosen:
            point = waiting[place]
            if point.shortest_s < left_s:
                timed_s = max(point.timed_least_s, min(point.timed_s, limit_timed_calls(waiting, place, left_s)))
                left_s -= point.fixed_s + timed_s
                waiting[place] = replace(point, launches=point.launches + 1)
        counts.update((index, point.launches) for index, point in zip(indices, waiting, strict=True))
        ended = () if chosen else [indices[place] for place in most_urgent(waiting)]
        open_points = {
            index: point
            for index, point in zip(indices, waiting, strict=True)
            if point.launches < point.launches_max and index not in ended
        }
    return tuple(counts[index] for index in range(len(points)))


def _wanted_s(points: Sequence[PointCost]) -> list[float]:
    """What each point would take (s): up to its minimum, and only where all have theirs up to its maximum."""
    if any(point.missing for point in points):
        return [point.missing * point.launch_s for point in points]
    return [max(1, point.launches_max - point.launches) * point.launch_s for point in points]


def _share_out(wanted_s: Sequence[float], left_s: float) -> list[float]:
    """Each one's share (s): what it wants, or an equal part of what is left where there is less."""
    shares_s = [0.0] * len(wanted_s)
    for place, index in enumerate(sorted(range(len(wanted_s)), key=wanted_s.__getitem__)):
        shares_s[index] = min(wanted_s[index], max(0.0, left_s) / (len(wanted_s) - place))
        left_s -= shares_s[index]
    return shares_s


def expected_launches(plan: Plan) -> dict[str, int]:
    """Return how many launches each experiment that runs here will probably have when the budget or the plan ends."""
    runnable, points = _describe_runnable(plan)
    counts = forecast(points, plan.budget_s, _round_start_s(runnable))
    return {item.experiment_id: count for item, count in zip(runnable, counts, strict=True)}


def warn_of_budget(plan: Plan) -> str | None:
    """Return which experiments the budget will probably leave below their minimum of launches; None where none."""
    counts = expected_launches(plan)
    runnable, points = _describe_runnable(plan)
    # One launch is enough where memory will probably run out.
    pairs = zip(runnable, points, strict=True)
    short = [item for item, point in pairs if counts[item.experiment_id] < point.launches_min]
    if plan.budget_s is None or not short:
        return None
    named = "; ".join(
        f"{item.label}: about {counts[item.experiment_id]} of {item.protocol.launches_min} launches" for item in short
    )
    needed_s, _ = total_s(plan)
    return (
        f"the budget of {format_duration(plan.budget_s)} is too short for {len(short)} of {len(runnable)} experiments "
        f"({named}); --budget {ceil(needed_s / _SECONDS_PER_MINUTE)}m is enough"
    )


def describe_total(plan: Plan) -> str:
    """Return in one line what a run of the plan will probably take: ``8 experiments, about 5 min to 9 min``."""
    if len(plan.skipped) == len(plan.planned):
        return "no experiment can run here"
    least_s, most_s = total_s(plan)
    experiments = format_count(len(plan.planned) - len(plan.skipped), "experiment")
    span = " to ".join(dict.fromkeys(map(format_duration, (least_s, most_s))))
    if plan.budget_s is None:
        return f"{experiments}, about {span}" + ("; --budget 1h would limit it" if most_s > _LONG_S else "")
    if plan.budget_s < most_s:
        return f"{experiments}, {format_duration(plan.budget_s)} at most; without the budget about {span}"
    return f"{experiments}, about {span}"


def total_s(plan: Plan) -> tuple[float, float]:
    """Return how long (s) the least and the most launches of all experiments take, without a budget."""
    runnable, points = _describe_runnable(plan)
    round_s = _round_start_s(runnable)

    def add(counts: Sequence[int]) -> float:
        launches_s = sum(count * point.launch_s for count, point in zip(counts, points, strict=True))
        return launches_s + round_s * max(counts, default=0)

    return add([point.launches_min for point in points]), add([point.launches_max for point in points])


def _describe_runnable(plan: Plan) -> tuple[list[PlannedExperiment], list[PointCost]]:
    runnable = [item for item in plan.planned if item.experiment_id not in plan.skipped]
    return runnable, [describe_planned(item, plan.estimates[item.experiment_id]) for item in runnable]


def _round_start_s(runnable: Sequence[PlannedExperiment]) -> float:
    """What a round costs (s) in addition to its launches: the imports, where they are shared."""
    return ROUND_START_S if any(map(is_forked, runnable)) else 0.0
