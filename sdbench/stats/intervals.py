"""Estimates with intervals, whose error term comes from the process launch and not from the iteration.

Calls within one process are not independent: pooling them across launches declares a difference between two
identical systems in 23 % of trials at 20 launches of 3 calls, and in 89 % at one launch of 50 (simulation,
the design's section on statistics). So each launch gives one value, the log of its median, and the interval is
Student's t on these (Kalibera & Jones 2013, section 5, with the launch as the highest level repeated here).
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import exp, log
from statistics import fmean, median

from sdbench.stats.ratios import LogRatio, geometric_mean, welch_ratio

# Student's t on two launches is 13 standard errors wide: its interval may span hours where the launches agree.
LAUNCHES_FOR_INTERVAL = 3
# An interval that spans more than this factor answers no question.
_USEFUL_RATIO = 10.0


@dataclass(frozen=True)
class Estimate:
    """An estimate and its confidence interval, in the unit of its samples. Fewer than two launches have none."""

    value: float
    low: float | None
    high: float | None
    relative_half_width: float | None
    launch_count: int
    sample_count: int

    @property
    def is_useful(self) -> bool:
        """Whether the interval is worth showing: of three launches or more, and within a factor of ten."""
        return is_useful(self.low, self.high, self.launch_count)


def is_useful(low: float | None, high: float | None, unit_count: int) -> bool:
    """Return whether an interval of positive numbers is worth showing: the one rule of terminal, report and charts."""
    if low is None or high is None or unit_count < LAUNCHES_FOR_INTERVAL:
        return False
    return high <= _USEFUL_RATIO * low


def estimate_latency(launch_series: Sequence[Sequence[float]], confidence: float) -> Estimate:
    """Return the latency (unit of the samples): the geometric mean of the launches' medians, with its t interval.

    Args:
        launch_series: per launch, its steady samples; each positive.
        confidence: the coverage of the interval, for example 0.95.

    Raises:
        ValueError: there is no launch, a launch without samples, or a sample that is not positive.
    """
    if not launch_series or any(not samples for samples in launch_series):
        raise ValueError("an estimate needs at least one launch, and at least one steady sample in each")
    if any(sample <= 0 for samples in launch_series for sample in samples):
        raise ValueError("a latency sample is not positive: the clock cannot be trusted")
    estimate = estimate_values([median(samples) for samples in launch_series], confidence)
    return replace(estimate, sample_count=sum(map(len, launch_series)))


def estimate_values(values: Sequence[float], confidence: float) -> Estimate:
    """Return the geometric mean of positive values, one per launch, with its t interval.

    Raises:
        ValueError: there is no value, or one that is not positive.
    """
    if not values or any(value <= 0 for value in values):
        raise ValueError("a geometric mean needs at least one value, and only positive ones")
    return _estimate(exp(fmean(map(log, values))), geometric_mean(values), confidence, len(values))


def estimate_ratio(numerator: Sequence[float], denominator: Sequence[float], confidence: float) -> Estimate:
    """Return the ratio of the geometric means of positive values, one per launch, with its interval.

    The interval is Welch's on the logs; a single launch in either gives none.

    Raises:
        ValueError: the numerator or the denominator has no value, or one that is not positive.
    """
    top, bottom = (estimate_values(values, confidence) for values in (numerator, denominator))
    count = top.launch_count + bottom.launch_count
    return _estimate(top.value / bottom.value, welch_ratio(numerator, denominator), confidence, count)


def relative_half_width(samples: Sequence[float], confidence: float) -> float | None:
    """Return half the t interval of the mean log of positive ``samples``, as a ratio; None below two samples."""
    return estimate_values(samples, confidence).relative_half_width if samples else None


def _estimate(value: float, ratio: LogRatio | None, confidence: float, count: int) -> Estimate:
    low, high = ratio.interval(confidence) if ratio else (None, None)
    half_width = None if high is None else high / value - 1
    return Estimate(value, low, high, half_width, launch_count=count, sample_count=count)
