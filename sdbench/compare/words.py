"""Words for a claim's value: what is measured, in the unit people read."""

from sdbench.compare.claims import Score
from sdbench.schema.manifest import Claim
from sdbench.units import format_duration, round_significant

_GIGABYTE = 1e9
_DIGITS = 3
# From here "times" reads better than "% more".
_TIMES_FROM = 2.0


def format_value(score: Score) -> str:
    """Return the measured value with its interval: ``0.585 [0.581, 0.589], 41.5 % less``; empty when there is none."""
    if score.value is None:
        return ""
    value = _format(score.claim, score.value)
    interval = ""
    if score.low is not None and score.high is not None and score.low != score.high:
        interval = f" [{_format(score.claim, score.low)}, {_format(score.claim, score.high)}]"
    if score.claim.denominator is None:
        return f"{value}{interval}"
    if score.value >= _TIMES_FROM:
        return f"{value} times{interval}"
    return f"{value}{interval}, {_format_change(score.value)}"


def format_expected(claim: Claim) -> str:
    """Return what a claim expects: ``0.55 to 0.65``, ``at least 10``, ``at most 5.5 GB``."""
    low, high = claim.expected.low, claim.expected.high
    if low is not None and high is not None:
        return _format(claim, low) if low == high else f"{_format(claim, low)} to {_format(claim, high)}"
    if low is not None:
        return f"at least {_format(claim, low)}"
    return "anything" if high is None else f"at most {_format(claim, high)}"


def _format(claim: Claim, value: float) -> str:
    if claim.denominator is not None:
        return round_significant(value, _DIGITS)
    match claim.metric:
        case "latency_s":
            return format_duration(value)
        case "memory_bytes":
            # Decimal gigabytes, as the 2022 study has them.
            return f"{round_significant(value / _GIGABYTE, _DIGITS)} GB"
        case "largest_batch":
            return f"{value:.0f}"
        case "throughput_images_per_min":
            return f"{round_significant(value, _DIGITS)} images/min"
        case _:
            return round_significant(value, _DIGITS)


def _format_change(ratio: float) -> str:
    """A ratio near 1 as people say it: ``41 % less``, ``64 % more``."""
    if ratio >= 1:
        return f"{round_significant(100 * (ratio - 1), 2)} % more"
    return f"{round_significant(100 * (1 - ratio), 2)} % less"
