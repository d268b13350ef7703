"""Shapes that make a mean misleading: two modes, and a drift over time."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from statistics import fmean

# The share of variance that the best split of normal values explains is exceeded in 1 % of draws; simulated, 20,000
# draws each. Heavy tails (Student's t with 3 degrees of freedom) exceed it more rarely.
_CRITICAL_SHARES = {8: 0.936, 10: 0.910, 12: 0.886, 16: 0.853, 20: 0.832, 40: 0.774, 100: 0.721}
VALUES_FOR_MODES = min(_CRITICAL_SHARES)
VALUES_FOR_DRIFT = 5
# One value alone is an outlier, not a mode.
_MODE_MIN = 2


@dataclass(frozen=True)
class Modes:
    """The best split of values in two: the distance of the means, the share of variance, and what chance gives."""

    gap: float
    share: float
    critical_share: float

    @property
    def are_two(self) -> bool:
        """Whether one normal distribution would split so well in fewer than 1 % of cases."""
        return self.share > self.critical_share


def find_modes(values: Sequence[float]) -> Modes | None:
    """Return the best split of values in two; None for fewer than eight, or where all are identical."""
    count = len(values)
    center = fmean(values) if values else 0.0
    ordered = sorted(value - center for value in values)
    total = sum(value**2 for value in ordered)
    if count < VALUES_FOR_MODES or total == 0:
        return None
    sums = list(accumulate(ordered))
    splits = [(sums[k - 1] / k, (sums[-1] - sums[k - 1]) / (count - k), k) for k in range(_MODE_MIN, count - 1)]
    between, gap = max((k * (count - k) / count * (high - low) ** 2, high - low) for low, high, k in splits)
    critical = next(share for least, share in reversed(_CRITICAL_SHARES.items()) if least <= count)
    return Modes(gap=gap, share=between / total, critical_share=critical)


@dataclass(frozen=True)
class Drift:
    """A straight line through values in order: its rise from first to last, and the p of no slope (two-sided t)."""

    rise: float
    p_value: float


def find_drift(values: Sequence[float]) -> Drift | None:
    """Return the drift of values in the order they were taken; None for fewer than five."""
    count = len(values)
    if count < VALUES_FOR_DRIFT:
        return None
    from scipy.stats import linregress

    line = linregress(range(count), values)
    # Of values that are all equal scipy's p is not a number.
    return Drift(rise=float(line.slope) * (count - 1), p_value=float(line.pvalue) if line.slope else 1.0)
