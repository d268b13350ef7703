"""Words for a comparison: what people read of a judgement, the same in every output."""

from sdbench.compare.comparison import Comparison
from sdbench.compare.units import Level
from sdbench.compare.verdicts import ALL_THROTTLED, UNIDENTIFIED, ComparedMetric, Judgement
from sdbench.units import format_duration

METRIC_NAMES: dict[ComparedMetric, str] = {"latency_s": "latency", "memory_bytes": "memory", "energy_j": "energy"}
_PLURALS: dict[Level, str] = {"block": "blocks", "launch": "launches", "session": "sessions"}
_TIMES_FROM = 10.0
# Faster and slower are of time alone.
_OF_AMOUNTS = {"faster": "less", "slower": "more"}


def name_verdict(judgement: Judgement) -> str:
    """Return the verdict as people say it of the metric."""
    if judgement.metric == "latency_s":
        return judgement.verdict
    return _OF_AMOUNTS.get(judgement.verdict, judgement.verdict)


def format_change(ratio: float) -> str:
    """Return a ratio as a change: ``+2.1 %``, and from tenfold on as ``12 times``."""
    if ratio >= _TIMES_FROM:
        return f"{ratio:.4g} times"
    return f"{100 * (ratio - 1):+.2f} %"


def format_interval(judgement: Judgement) -> str:
    """Return the interval as changes: ``+0.8 to +3.4 %``; "none" without one."""
    if judgement.low is None or judgement.high is None:
        return "none"
    if judgement.high >= _TIMES_FROM:
        return f"{judgement.low:.4g} to {judgement.high:.4g} times"
    return f"{100 * (judgement.low - 1):+.2f} to {100 * (judgement.high - 1):+.2f} %"


def format_units(judgement: Judgement) -> str:
    """Return how many independent values stand behind a judgement: ``8 and 8 launches``, ``6 blocks``."""
    if judgement.level is None:
        return ""
    first, second = judgement.units
    plural = _PLURALS[judgement.level]
    return f"{first} {plural}" if judgement.level == "block" else f"{first} and {second} {plural}"


def explain(judgement: Judgement) -> str:
    """Return the reasons for a judgement, and what would resolve it."""
    text = "; ".join(judgement.reasons)
    if judgement.verdict != "inconclusive" or judgement.level is None:
        return text
    if judgement.more_units is None:
        if any(UNIDENTIFIED in reason for reason in judgement.reasons):
            hint = "repeat each side in more sessions and name the folder that holds them all"
        elif ALL_THROTTLED in judgement.reasons:
            hint = "cool the machine, or lower the load it is under, and measure again"
        else:
            hint = "no reasonable number of repetitions resolves a ratio at the margin"
    else:
        plural = _PLURALS[judgement.level]
        hint = f"about {judgement.more_units} more {plural} a side would, {format_duration(judgement.more_s or 0.0)}"
    return f"{text}; {hint}" if text else hint


def headline(comparison: Comparison) -> str:
    """Return the one line that answers the question."""
    suite = comparison.suite
    count = len(comparison.experiments)
    tally = ", ".join(
        f"{number} {verdict}"
        for verdict in ("slower", "faster", "same", "inconclusive", "incomparable")
        if (number := sum(item.judgements[0].verdict == verdict for item in comparison.experiments))
    )
    mean = ""
    if suite.ratio is not None:
        mean = f"; geometric mean {format_change(suite.ratio)} [{format_interval(suite)}]: {suite.verdict}"
    return f"{comparison.verdict.upper()}: {count} experiment{'s' * (count != 1)} ({tally or 'none in common'}){mean}"
