"""The ratio of two systems at equal speed of a reference operation: analysis of covariance on logs (Fisher 1932).

A reference operation that is timed next to each unit is slowed by what slows the whole machine. The slope of the unit's
log on the reference's is estimated within the arms, so that a difference between the arms does not enter it, and what
the slope explains is subtracted. One degree of freedom pays for the slope; its error counts as much as the arms differ
in their reference. The ratio is that of the experiment only if the candidate leaves the reference as it is.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import fsum, log, sqrt
from statistics import fmean

from sdbench.stats.ratios import LogRatio, add_errors, paired_ratio, welch_ratio

# Three units leave one degree of freedom next to mean and slope.
_UNITS_MIN = 3
# References whose logs deviate by less are constant but for the rounding of floats: no clock resolves it.
_DEVIATION_MIN = 1e-9


@dataclass(frozen=True)
class AdjustedRatio:
    """A ratio at equal reference, the reference's own ratio, and the slope: the log change per log reference."""

    ratio: LogRatio
    reference: LogRatio
    slope: float

    @property
    def correction(self) -> LogRatio:
        """What was subtracted: the reference's own ratio, raised to the slope."""
        own = self.reference
        return LogRatio(self.slope * own.log_value, abs(self.slope) * own.standard_error, own.degrees_of_freedom)


@dataclass(frozen=True)
class _Arm:
    """Logs of values (``y``) and of references (``x``) around their means."""

    mean_x: float
    mean_y: float
    x: tuple[float, ...]
    y: tuple[float, ...]

    @property
    def sxx(self) -> float:
        return fsum(x * x for x in self.x)

    @property
    def sxy(self) -> float:
        return fsum(x * y for x, y in zip(self.x, self.y, strict=True))

    def residual_squares(self, slope: float) -> float:
        return fsum((y - slope * x) ** 2 for x, y in zip(self.x, self.y, strict=True))


def adjusted_paired_ratio(
    candidate: Sequence[float],
    baseline: Sequence[float],
    candidate_reference: Sequence[float],
    baseline_reference: Sequence[float],
) -> AdjustedRatio | None:
    """Return the ratio of values that belong together pair by pair, at equal reference of the two of a pair.

    It is the intercept of the pairs' log ratios regressed on the log ratios of their references. None for fewer than
    three pairs, and where the references' ratio does not vary.

    Raises:
        ValueError: a value is not positive, or the four differ in length.
    """
    reference = paired_ratio(candidate_reference, baseline_reference)
    ratios = _log_ratios(candidate, baseline), _log_ratios(candidate_reference, baseline_reference)
    if len(ratios[0]) < _UNITS_MIN or reference is None:
        return None
    pairs = _center(*ratios)
    count, sxx = len(pairs.x), pairs.sxx
    if not _varies(sxx, count):
        return None
    slope = pairs.sxy / sxx
    variance = pairs.residual_squares(slope) / (count - 2)
    error = sqrt(variance * (1 / count + pairs.mean_x**2 / sxx))
    return AdjustedRatio(LogRatio(pairs.mean_y - slope * pairs.mean_x, error, count - 2), reference, slope)


def adjusted_welch_ratio(
    candidate: Sequence[float],
    baseline: Sequence[float],
    candidate_reference: Sequence[float],
    baseline_reference: Sequence[float],
) -> AdjustedRatio | None:
    """Return the ratio of the geometric means of positive values, at equal geometric mean of their references.

    One slope for both arms, a residual variance for each, as in Welch's test: an arm pays for the share of the slope
    that its references determine. None for fewer than three of either, and where the references do not vary.

    Raises:
        ValueError: a value is not positive, or an arm has more references than values, or fewer.
    """
    reference = welch_ratio(candidate_reference, baseline_reference)
    if min(len(candidate), len(baseline)) < _UNITS_MIN or reference is None:
        return None
    arms = [
        _center(_logs(values), _logs(references))
        for values, references in ((candidate, candidate_reference), (baseline, baseline_reference))
    ]
    sxx = sum(arm.sxx for arm in arms)
    if not _varies(sxx, len(candidate) + len(baseline)):
        return None
    slope = sum(arm.sxy for arm in arms) / sxx
    difference = arms[0].mean_x - arms[1].mean_x
    parts = []
    for arm in arms:
        count, share = len(arm.x), arm.sxx / sxx
        freedom = count - 1 - share
        variance = arm.residual_squares(slope) / freedom
        parts.append(LogRatio(0.0, sqrt(variance * (1 / count + difference**2 * share / sxx)), freedom))
    log_value = arms[0].mean_y - arms[1].mean_y - slope * difference
    return AdjustedRatio(LogRatio(log_value, *add_errors(parts)), reference, slope)


def _varies(sxx: float, count: int) -> bool:
    return sxx > count * _DEVIATION_MIN**2


def _center(y: Sequence[float], x: Sequence[float]) -> _Arm:
    if len(x) != len(y):
        raise ValueError(f"{len(y)} values and {len(x)} references")
    mean_x, mean_y = fmean(x), fmean(y)
    return _Arm(mean_x, mean_y, tuple(value - mean_x for value in x), tuple(value - mean_y for value in y))


def _log_ratios(candidate: Sequence[float], baseline: Sequence[float]) -> list[float]:
    return [a - b for a, b in zip(_logs(candidate), _logs(baseline), strict=True)]


def _logs(values: Sequence[float]) -> list[float]:
    return [log(value) for value in values]
