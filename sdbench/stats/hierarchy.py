"""Variance level by level, and where the next minute of measuring is best spent.

After Kalibera & Jones 2013, "Rigorous Benchmarking in Reasonable Time", section 5 and 6. Level 1 is the lowest (the
call), the last level the highest that was repeated (the launch, or the session).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from math import ceil, sqrt
from typing import Literal

from sdbench.stats.moments import mean, variance
from sdbench.stats.student import t_quantile

# A tree of numbers, every branch of a level equally long: launches of calls, or sessions of launches of calls.
Nested = Sequence["float | Nested"]
_CALLS_MAX = 1000


@dataclass(frozen=True)
class Hierarchy:
    """Mean, and per level from the lowest up the biased (``s2``) and unbiased (``t2``) variance estimate."""

    mean: float
    s2: tuple[float, ...]
    t2: tuple[float, ...]
    counts: tuple[int, ...]

    def half_width(self, confidence: float) -> float:
        """Return half the interval of the mean: Student's t on the means of the highest level."""
        top = self.counts[-1]
        return t_quantile(top - 1, confidence) * sqrt(self.s2[-1] / top)


def decompose(data: Nested) -> Hierarchy:
    """Return the variance of each level of balanced nested data.

    Raises:
        ValueError: the data are not balanced, or a level has fewer than two branches.
    """
    counts: list[int] = []
    variances: list[float] = []
    level: list[Nested] = [data]
    branch_counts = _branch_counts(data)
    for _ in branch_counts[1:]:
        level = [branch for parent in level for branch in parent if isinstance(branch, Sequence)]
    values = [float(value) for value in chain.from_iterable(level) if not isinstance(value, Sequence)]
    for count in branch_counts:
        groups = [values[start : start + count] for start in range(0, len(values), count)]
        counts.append(count)
        variances.append(mean(variance(group) for group in groups))
        values = [mean(group) for group in groups]
    lower = zip(variances, counts, strict=True)
    t2 = [variances[0], *(upper - s2 / n for upper, (s2, n) in zip(variances[1:], lower, strict=False))]
    return Hierarchy(values[0], tuple(variances), tuple(t2), tuple(counts))


def _branch_counts(data: Nested) -> list[int]:
    """How many branches each level has, from the lowest up."""
    level: list[Nested] = [data]
    counts: list[int] = []
    while True:
        lengths = {len(branch) for branch in level}
        if len(lengths) != 1 or min(lengths) < 2:  # noqa: PLR2004 - a variance needs two values
            msg = f"every branch of a level needs the same number of values, at least two; found {sorted(lengths)}"
            raise ValueError(msg)
        counts.insert(0, lengths.pop())
        below = [item for branch in level for item in branch if isinstance(item, Sequence)]
        if not below:
            return counts
        level = below


@dataclass(frozen=True)
class Advice:
    """Where the error comes from, as relative standard deviations, and how many calls a launch had best make."""

    call_deviation: float
    launch_deviation: float
    calls_per_launch: int
    spend_on: Literal["calls", "launches"]


def advise(launches: Sequence[Sequence[float]], call_s: float, launch_overhead_s: float) -> Advice | None:
    """Return where the next minute is best spent, or None with fewer than two launches of two calls.

    The best number of calls a launch is sqrt(overhead / call * T1 / T2) (Kalibera & Jones 2013, section 6): launches
    that differ little among themselves but cost much to start are worth many calls.

    Args:
        launches: per launch the logs of its steady samples; where they differ in number, the shortest decides.
        call_s: what one more call costs (s).
        launch_overhead_s: what one more launch costs beside its timed calls (s).
    """
    count = min((len(calls) for calls in launches), default=0)
    if len(launches) < 2 or count < 2:  # noqa: PLR2004 - a variance needs two values
        return None
    found = decompose([list(calls[:count]) for calls in launches])
    t2_call, t2_launch = found.t2
    best = _CALLS_MAX
    if t2_launch > 0:
        best = min(_CALLS_MAX, max(1, ceil(sqrt(launch_overhead_s / call_s * t2_call / t2_launch))))
    return Advice(
        call_deviation=sqrt(t2_call),
        launch_deviation=sqrt(max(0.0, t2_launch)),
        calls_per_launch=best,
        spend_on="calls" if count < best else "launches",
    )
