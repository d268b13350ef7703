"""Variance level by level, and where the next minute of measuring is best spent.

After Kalibera & Jones 2013, "Rigorous Benchmarking in Reasonable Time", section 5 and 6. Level 1 is the lowest (the
call), the last level the highest that was repeated (the launch, or the session).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, sqrt
from typing import Literal

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
    import numpy as np

    try:
        values = np.array(data, dtype=float)
    except ValueError:  # branches of different lengths are no array
        values = np.empty(0)
    if min(values.shape) < 2:  # noqa: PLR2004 - a variance needs two values
        raise ValueError("every branch of a level needs the same number of values, at least two")
    counts = values.shape[::-1]
    s2: list[float] = []
    for _ in counts:
        s2.append(float(values.var(axis=-1, ddof=1).mean()))
        values = values.mean(axis=-1)
    t2 = [upper - lower / count for lower, upper, count in zip(s2, s2[1:], counts, strict=False)]
    return Hierarchy(float(values), tuple(s2), (s2[0], *t2), counts)


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
        call_s: the cost of one more call (s).
        launch_overhead_s: the cost of one more launch without its timed calls (s).
    """
    count = min((len(calls) for calls in launches), default=0)
    if len(launches) < 2 or count < 2:  # noqa: PLR2004 - a variance needs two values
        return None
    t2_call, t2_launch = decompose([calls[:count] for calls in launches]).t2
    best = _CALLS_MAX
    if t2_launch > 0:
        best = min(_CALLS_MAX, max(1, ceil(sqrt(launch_overhead_s / call_s * t2_call / t2_launch))))
    return Advice(
        call_deviation=sqrt(t2_call),
        launch_deviation=sqrt(max(0.0, t2_launch)),
        calls_per_launch=best,
        spend_on="calls" if count < best else "launches",
    )
