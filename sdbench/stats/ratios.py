"""The ratio of two systems, candidate over baseline, with the error of the level at which the two alternate.

Everything is computed on logs: ratios of times are log-normal to a good approximation, and a margin of 2 % means the
same in both directions. Values are one per unit: a launch, a block of alternating launches, or a session.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import exp, inf, log, log1p, sqrt

from sdbench.stats.moments import deviation, mean, variance
from sdbench.stats.student import t_quantile, t_upper_tail

UNITS_MIN = 2
# Where more units are asked for than this, no reasonable effort resolves the question.
_UNITS_SEARCHED = 10_000
# A ratio of 1e300: near the end of what a float holds, far beyond what any machine shows.
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
        half = self._half_width(confidence)
        return _exp(self.log_value - half), _exp(self.log_value + half)

    def p_beyond(self, margin: float) -> float:
        """Return the two-sided p of "the ratio is not beyond the margin": small where it is wholly outside.

        It is at most 1 - c exactly where the interval of confidence c lies outside 1/(1 + margin) to 1 + margin.
        """
        return min(1.0, 2 * self._upper_tail(abs(self.log_value) - log1p(margin)))

    def p_within(self, margin: float) -> float:
        """Return the p of two one-sided tests (Schuirmann 1987): small where the ratio is shown to be in the margin.

        It is at most (1 - c) / 2 exactly where the interval of confidence c lies inside 1/(1 + margin) to 1 + margin.
        """
        return self._upper_tail(log1p(margin) - abs(self.log_value))

    def _half_width(self, confidence: float) -> float:
        if self.standard_error == 0:
            return 0.0
        return t_quantile(self.degrees_of_freedom, confidence) * self.standard_error

    def _upper_tail(self, distance: float) -> float:
        if self.standard_error == 0:
            return 0.0 if distance > 0 else 1.0
        return t_upper_tail(self.degrees_of_freedom, distance / self.standard_error)


def welch_ratio(candidate: Sequence[float], baseline: Sequence[float]) -> LogRatio | None:
    """Return the ratio of the geometric means of positive values; None where a side has fewer than two.

    The sides have variances of their own; the degrees of freedom are Welch's and Satterthwaite's (Welch 1947).

    Raises:
        ValueError: a value is not positive.
    """
    logs = _logs(candidate), _logs(baseline)
    if min(map(len, logs)) < UNITS_MIN:
        return None
    squares = [variance(values) / len(values) for values in logs]
    freedom = inf
    if sum(squares) > 0:
        freedom = sum(squares) ** 2 / sum(
            square**2 / (len(values) - 1) for square, values in zip(squares, logs, strict=True)
        )
    return LogRatio(mean(logs[0]) - mean(logs[1]), sqrt(sum(squares)), freedom)


def paired_ratio(candidate: Sequence[float], baseline: Sequence[float]) -> LogRatio | None:
    """Return the ratio of values that belong together pair by pair; None where there are fewer than two pairs.

    Raises:
        ValueError: a value is not positive, or the sides have different lengths.
    """
    differences = [a - b for a, b in zip(_logs(candidate), _logs(baseline), strict=True)]
    if len(differences) < UNITS_MIN:
        return None
    return LogRatio(mean(differences), deviation(differences) / sqrt(len(differences)), len(differences) - 1)


def ratio_with_variance(
    candidate: Sequence[float], baseline: Sequence[float], unit_variance: float, degrees_of_freedom: float
) -> LogRatio:
    """Return the ratio where the variance of a unit's log is known from elsewhere, with ``degrees_of_freedom``."""
    logs = _logs(candidate), _logs(baseline)
    error = sqrt(unit_variance * sum(1 / len(values) for values in logs))
    return LogRatio(mean(logs[0]) - mean(logs[1]), error, degrees_of_freedom)


def units_to_resolve(ratio: LogRatio, units: int, is_resolved: Callable[[LogRatio], bool]) -> int | None:
    """Return how many units (pairs, or launches a side) would resolve the ratio if it stays as it is now.

    None where 10,000 would not do, because the ratio lies at the margin.
    """
    deviation = ratio.standard_error * sqrt(units)
    freedom_ratio = ratio.degrees_of_freedom / max(1, units - 1)

    def resolves(count: int) -> bool:
        return is_resolved(LogRatio(ratio.log_value, deviation / sqrt(count), freedom_ratio * max(1, count - 1)))

    low, high = units, _UNITS_SEARCHED
    if not resolves(high):
        return None
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if resolves(middle) else (middle + 1, high)
    return low


def geometric_mean_ratio(ratios: Sequence[LogRatio], *, correlated: bool = False) -> LogRatio | None:
    """Return the geometric mean of ratios; None where there is none.

    Independent ratios have degrees of freedom by Welch and Satterthwaite. Of ``correlated`` ones the worst is assumed:
    that all err the same way, so that their mean errs as much as they do.
    """
    if not ratios:
        return None
    if correlated:
        error = mean(ratio.standard_error for ratio in ratios)
        freedom = min(ratio.degrees_of_freedom for ratio in ratios)
        return LogRatio(mean(ratio.log_value for ratio in ratios), error, freedom)
    squares = [ratio.standard_error**2 for ratio in ratios]
    freedom = inf
    if sum(squares) > 0:
        freedom = sum(squares) ** 2 / sum(
            square**2 / ratio.degrees_of_freedom for square, ratio in zip(squares, ratios, strict=True)
        )
    count = len(ratios)
    return LogRatio(mean(ratio.log_value for ratio in ratios), sqrt(sum(squares)) / count, freedom)


def _exp(log_value: float) -> float:
    """The ratio of a log, as far as a ratio goes that can be stored and read again."""
    return exp(max(-_LOG_RATIO_MAX, min(_LOG_RATIO_MAX, log_value)))


def _logs(values: Sequence[float]) -> list[float]:
    if any(value <= 0 for value in values):
        msg = "a ratio needs positive values"
        raise ValueError(msg)
    return [log(value) for value in values]
