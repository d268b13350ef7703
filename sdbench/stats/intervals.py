"""Estimates with intervals, whose error term comes from the process launch and not from the iteration.

Calls within one process are not independent: pooling them across launches declares a difference between two
identical systems in 23 % of trials at 20 launches of 3 calls, and in 89 % at one launch of 50 (simulation,
the design's section on statistics). So each launch gives one value, the log of its median, and the interval is
Student's t on these (Kalibera & Jones 2013, section 5, with the launch as the highest level repeated here).
"""

from collections.abc import Sequence
from math import exp, log, sqrt
from statistics import median

from sdbench.schema.base import Model
from sdbench.stats.moments import deviation, mean
from sdbench.stats.ratios import welch_ratio
from sdbench.stats.student import t_quantile

MIN_VALUES_FOR_INTERVAL = 2

# From here on an interval leaves open all that could be asked.
_TELLING_RATIO = 100.0


class Estimate(Model):
    """An estimate and its confidence interval, in the unit of its samples. Fewer than two launches have none."""

    value: float
    low: float | None
    high: float | None
    relative_half_width: float | None
    launch_count: int
    sample_count: int

    @property
    def is_telling(self) -> bool:
        """Whether the interval says anything: that of two launches that differ may span hours."""
        return self.low is not None and self.high is not None and self.high <= _TELLING_RATIO * self.low


def estimate_latency(launch_series: Sequence[Sequence[float]], confidence: float) -> Estimate:
    """Return the latency (unit of the samples): the geometric mean of the launches' medians, with its t interval.

    Args:
        launch_series: per launch, its steady samples; each positive.
        confidence: the coverage of the interval, for example 0.95.

    Raises:
        ValueError: there is no launch, a launch without samples, or a sample that is not positive.
    """
    if not launch_series or any(not samples for samples in launch_series):
        msg = "an estimate needs at least one launch, and at least one steady sample in each"
        raise ValueError(msg)
    if any(sample <= 0 for samples in launch_series for sample in samples):
        msg = "a latency sample is not positive: the clock cannot be trusted"
        raise ValueError(msg)
    log_values = [log(median(samples)) for samples in launch_series]
    sample_count = sum(len(samples) for samples in launch_series)
    return _estimate_from_logs(log_values, confidence, sample_count)


def estimate_values(values: Sequence[float], confidence: float) -> Estimate:
    """Return the geometric mean of positive values, one per launch, with its t interval.

    Raises:
        ValueError: there is no value, or one that is not positive.
    """
    if not values or any(value <= 0 for value in values):
        msg = "a geometric mean needs at least one value, and only positive ones"
        raise ValueError(msg)
    return _estimate_from_logs([log(value) for value in values], confidence, len(values))


def estimate_ratio(numerator: Sequence[float], denominator: Sequence[float], confidence: float) -> Estimate:
    """Return the ratio of the geometric means of positive values, one per launch, with its interval.

    The interval is Welch's on the logs. A side with one launch gives none.

    Raises:
        ValueError: a side has no value, or one that is not positive.
    """
    top, bottom = (estimate_values(values, confidence) for values in (numerator, denominator))
    ratio = top.value / bottom.value
    count = top.launch_count + bottom.launch_count
    found = welch_ratio(numerator, denominator)
    low, high = (None, None) if found is None else found.interval(confidence)
    return Estimate(
        value=ratio,
        low=low,
        high=high,
        relative_half_width=None if high is None else high / ratio - 1,
        launch_count=count,
        sample_count=count,
    )


def relative_half_width(samples: Sequence[float], confidence: float) -> float | None:
    """Return half the t interval of the mean log of positive ``samples``, as a ratio; None below two samples."""
    if len(samples) < MIN_VALUES_FOR_INTERVAL:
        return None
    return _estimate_from_logs([log(sample) for sample in samples], confidence, len(samples)).relative_half_width


def _estimate_from_logs(log_values: list[float], confidence: float, sample_count: int) -> Estimate:
    count = len(log_values)
    center = mean(log_values)
    if count < MIN_VALUES_FOR_INTERVAL:
        return Estimate(
            value=exp(center),
            low=None,
            high=None,
            relative_half_width=None,
            launch_count=count,
            sample_count=sample_count,
        )
    half = t_quantile(count - 1, confidence) * deviation(log_values) / sqrt(count)
    return Estimate(
        value=exp(center),
        low=exp(center - half),
        high=exp(center + half),
        relative_half_width=exp(half) - 1,
        launch_count=count,
        sample_count=sample_count,
    )
