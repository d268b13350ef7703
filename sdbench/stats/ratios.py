"""The ratio of two systems, candidate over baseline, with the error of the level at which the two alternate.

Everything is computed on logs: ratios of times are log-normal to a good approximation, and a margin of 2 % means the
same in both directions. Values are one per unit: a launch, a block of alternating launches, or a session.
"""

from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import exp, inf, log, log1p, sqrt
from statistics import fmean

from sdbench.stats.moments import deviation
from sdbench.stats.student import t_quantile, t_upper_tail

_UNITS_MIN = 2
# Where more units are needed than this, no reasonable effort resolves the question.
_UNITS_SEARCHED = 10_000
# A ratio of 1e300: near the largest float, far beyond any machine.
_LOG_RATIO_MAX = 690.0


@dataclass(frozen=True)
class LogRatio:
    """An estimated log ratio: its centre, standard error and degrees of freedom."""

    log_value: float
    standard_error: float
    degrees_of_freedom: float

    @property
    def value(self) -> float:
        """The ratio, candidate over baseline."""
        return _exp(self.log_value)

    def interval(self, confidence: float) -> tuple[float, float]:
        """Return the two-sided interval of the ratio."""
        half = 0.0
        if self.standard_error > 0:
            half = t_quantile(self.degrees_of_freedom, confidence) * self.standard_error
        return _exp(self.log_value - half), _exp(self.log_value + half)

    def p_beyond(self, margin: float) -> float:
        """Return the two-sided p of "the ratio is not beyond the margin": small where it is entirely outside.

        It is at most 1 - c exactly where the interval of confidence c lies outside 1/(1 + margin) to 1 + margin.
        """
        return min(1.0, 2 * self._upper_tail(abs(self.log_value) - log1p(margin)))

    def p_within(self, margin: float) -> float:
        """Return the p of two one-sided tests (Schuirmann 1987): small where the ratio is shown to be in the margin.

        It is at most (1 - c) / 2 exactly where the interval of confidence c lies inside 1/(1 + margin) to 1 + margin.
        """
        return self._upper_tail(log1p(margin) - abs(self.log_value))

    def _upper_tail(self, distance: float) -> float:
        if self.standard_error == 0:
            return 0.0 if distance > 0 else 1.0
        return t_upper_tail(self.degrees_of_freedom, distance / self.standard_error)


def geometric_mean(values: Sequence[float]) -> LogRatio | None:
    """Return the geometric mean of positive values with the error of the mean log; None for fewer than two.

    Raises:
        ValueError: a value is not positive.
    """
    return _mean_of(_logs(values))


def welch_ratio(candidate: Sequence[float], baseline: Sequence[float]) -> LogRatio | None:
    """Return the ratio of the geometric means of positive values; None where either has fewer than two.

    Each has a variance of its own; the degrees of freedom are Welch's and Satterthwaite's (Welch 1947).

    Raises:
        ValueError: a value is not positive.
    """
    top, bottom = geometric_mean(candidate), geometric_mean(baseline)
    if top is None or bottom is None:
        return None
    error, freedom = add_errors((top, bottom))
    return LogRatio(top.log_value - bottom.log_value, error, freedom)


def paired_ratio(candidate: Sequence[float], baseline: Sequence[float]) -> LogRatio | None:
    """Return the ratio of values that belong together pair by pair; None where there are fewer than two pairs.

    Raises:
        ValueError: a value is not positive, or there are more of one than of the other.
    """
    return _mean_of([a - b for a, b in zip(_logs(candidate), _logs(baseline), strict=True)])


def ratio_with_variance(
    candidate: Sequence[float], baseline: Sequence[float], unit_variance: float, degrees_of_freedom: float
) -> LogRatio:
    """Return the ratio where the variance of a unit's log is known from elsewhere, with ``degrees_of_freedom``."""
    logs = _logs(candidate), _logs(baseline)
    error = sqrt(unit_variance * sum(1 / len(values) for values in logs))
    return LogRatio(fmean(logs[0]) - fmean(logs[1]), error, degrees_of_freedom)


def units_to_resolve(ratio: LogRatio, units: int, is_resolved: Callable[[LogRatio], bool]) -> int | None:
    """Return how many units (pairs, or launches of each) would resolve the ratio if it stays as it is now.

    None where 10,000 would not do, because the ratio lies at the margin.
    """
    deviation = ratio.standard_error * sqrt(units)
    freedom_ratio = ratio.degrees_of_freedom / max(1, units - 1)

    def resolves(count: int) -> bool:
        return is_resolved(LogRatio(ratio.log_value, deviation / sqrt(count), freedom_ratio * max(1, count - 1)))

    counts = range(units, _UNITS_SEARCHED + 1)
    index = bisect_left(counts, True, key=resolves)
    return counts[index] if index < len(counts) else None


def geometric_mean_ratio(ratios: Sequence[LogRatio], *, correlated: bool = False) -> LogRatio | None:
    """Return the geometric mean of ratios; None where there is none.

    Independent ratios have degrees of freedom by Welch and Satterthwaite. Of ``correlated`` ones the worst is assumed:
    that all err the same way, so that their mean errs as much as they do.
    """
    if not ratios:
        return None
    if correlated:
        error = fmean(ratio.standard_error for ratio in ratios)
        freedom = min(ratio.degrees_of_freedom for ratio in ratios)
        return LogRatio(fmean(ratio.log_value for ratio in ratios), error, freedom)
    error, freedom = add_errors(ratios)
    return LogRatio(fmean(ratio.log_value for ratio in ratios), error / len(ratios), freedom)


def _mean_of(logs: Sequence[float]) -> LogRatio | None:
    if len(logs) < _UNITS_MIN:
        return None
    return LogRatio(fmean(logs), deviation(logs) / sqrt(len(logs)), len(logs) - 1)


def add_errors(ratios: Sequence[LogRatio]) -> tuple[float, float]:
    """Return the error of a sum of independent logs, and its degrees of freedom by Welch and Satterthwaite."""
    squares = [ratio.standard_error**2 for ratio in ratios]
    total = sum(squares)
    if total == 0:
        return 0.0, inf
    terms = (square**2 / ratio.degrees_of_freedom for square, ratio in zip(squares, ratios, strict=True))
    return sqrt(total), total**2 / sum(terms)


def _exp(log_value: float) -> float:
    """The ratio of a log, clipped to what can be stored and read again."""
    return exp(max(-_LOG_RATIO_MAX, min(_LOG_RATIO_MAX, log_value)))


def _logs(values: Sequence[float]) -> list[float]:
    if any(value <= 0 for value in values):
        raise ValueError("a ratio needs positive values")
    return [log(value) for value in values]
