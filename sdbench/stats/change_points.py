"""Where a series changes its level."""

from collections.abc import Sequence
from itertools import accumulate, pairwise
from math import inf, log, sqrt
from statistics import median

# Each change must save this many times the noise's variance times log n of squared error. Simulated on normal noise,
# 2,000 series each, a change is reported where there is none in 5.6 % of series of 10 values, 2.0 % of 20, 0.3 % of 40.
# Each change is then compared with the margin, with its interval.
_PENALTY = 6.0
# The median absolute value of a standard normal variable; a difference of two has the deviation sqrt(2).
_MEDIAN_OF_NORMAL = 0.6745


def find_change_points(values: Sequence[float]) -> tuple[int, ...]:
    """Return the indices at which a new level starts, the first one (0) left out.

    The exact minimum of squared error plus a penalty per level (optimal partitioning, Jackson et al. 2005), with the
    noise taken from the median of the steps between neighbours, so that a few changes do not widen it.
    """
    count = len(values)
    if count < 2:  # noqa: PLR2004 - one value has one level
        return ()
    steps = [abs(after - before) for before, after in pairwise(values)]
    deviation = median(steps) / _MEDIAN_OF_NORMAL / sqrt(2)
    # Where most neighbours are equal to the last digit, any step is a change.
    penalty = max(_PENALTY * log(count) * deviation**2, 1e-24)
    center = values[0]
    sums = [0.0, *accumulate(value - center for value in values)]
    squares = [0.0, *accumulate((value - center) ** 2 for value in values)]

    def error(start: int, end: int) -> float:
        total = sums[end] - sums[start]
        return squares[end] - squares[start] - total**2 / (end - start)

    best = [-penalty] + [inf] * count
    begins = [0] * (count + 1)
    for end in range(1, count + 1):
        costs = [best[start] + error(start, end) + penalty for start in range(end)]
        best[end] = min(costs)
        begins[end] = costs.index(best[end])
    changes = []
    end = count
    while end := begins[end]:
        changes.append(end)
    return tuple(reversed(changes))
