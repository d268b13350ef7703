"""Comparisons and claims in words, the same in every output."""

from collections.abc import Sequence
from math import floor, log10

from sdbench.compare.claims import Score
from sdbench.compare.comparison import Comparison
from sdbench.compare.cycles import explain_cycles
from sdbench.compare.differences import Difference
from sdbench.compare.levels import LEVEL_PLURALS
from sdbench.compare.policy import ALL_THROTTLED, ONE_SESSION, UNIDENTIFIED, Judgement, leaning, units_min
from sdbench.schema.manifest import Claim
from sdbench.schema.metrics import METRIC_TITLES
from sdbench.stats.intervals import LAUNCHES_FOR_INTERVAL, is_useful
from sdbench.units import format_count, format_duration, round_significant

_GIGABYTE = 1e9
_DIGITS = 3
# From here a change reads better as "12 times" than as a percentage: an interval may be wide, a claim is exact.
_CHANGE_TIMES_FROM = 10.0
_CLAIM_TIMES_FROM = 2.0
# Clocks that differ by less change no ratio by what is shown of it.
_CLOCKS_SHOWN_FROM = 0.005
# Only time is faster or slower.
_OF_AMOUNTS = {"faster": "less", "slower": "more"}

_STATES = ("slower", "faster", "same", "leans slower", "leans faster", "inconclusive", "incomparable")


def name_verdict(judgement: Judgement) -> str:
    """Return the verdict in the word for the metric: memory is "more", not "slower"."""
    verdict = judgement.verdict
    return verdict if judgement.metric == "latency_s" else _OF_AMOUNTS.get(verdict, verdict)


def format_change(ratio: float) -> str:
    """Return a ratio as a change: ``+2.1 %``, and from tenfold on as ``12 times``."""
    return f"{ratio:.4g} times" if ratio >= _CHANGE_TIMES_FROM else f"{100 * (ratio - 1):+.2f} %"


def format_interval(judgement: Judgement) -> str:
    """Return the interval as changes: ``+0.8 to +3.4 %``; "none" without one; one that says nothing is not quoted."""
    if judgement.low is None or judgement.high is None:
        return "none"
    if not has_useful_interval(judgement):
        return describe_useless_interval(judgement)
    return _format_ends(judgement.low, judgement.high)


def _format_ends(low: float, high: float) -> str:
    if high >= _CHANGE_TIMES_FROM:
        return f"{low:.4g} to {high:.4g} times"
    return f"{100 * (low - 1):+.2f} to {100 * (high - 1):+.2f} %"


def name_ratio(judgement: Judgement) -> str:
    """Return what was compared: the metric, adjusted by the reference operation where the verdict is based on that."""
    is_adjusted = judgement.adjustment is not None and judgement.adjustment.used
    return METRIC_TITLES[judgement.metric] + (", adjusted" if is_adjusted else "")


def other_ratios(judgement: Judgement) -> tuple[tuple[str, str, str, str], ...]:
    """Return the ratios that the verdict is not based on, each with its name, change, interval and what it refers to.

    The adjusted or the plain one, and the one in cycles where the clocks differ.
    """
    title = METRIC_TITLES[judgement.metric]
    ratios: list[tuple[str, str, str, str]] = []
    adjustment, cycles = judgement.adjustment, judgement.cycles
    if adjustment is not None and adjustment.adjusted is not None and adjustment.reference is not None:
        kind, (ratio, *ends) = ("plain", adjustment.plain) if adjustment.used else ("adjusted", adjustment.adjusted)
        reference = f"reference {format_change(adjustment.reference[0])}"
        ratios.append((f"{title}, {kind}", format_change(ratio), _format_between(judgement, *ends), reference))
    if cycles is not None and abs(cycles.clocks_mhz[1] / cycles.clocks_mhz[0] - 1) > _CLOCKS_SHOWN_FROM:
        clock = f"clock {format_change(cycles.clocks_mhz[1] / cycles.clocks_mhz[0])}"
        interval = _format_between(judgement, cycles.low, cycles.high)
        ratios.append((f"{title}, in cycles", format_change(cycles.ratio), interval, clock))
    return tuple(ratios)


def _format_between(judgement: Judgement, low: float, high: float) -> str:
    return format_interval(judgement.model_copy(update={"low": low, "high": high}))


def explain_adjustment(judgement: Judgement) -> str:
    """Return why the adjusted ratio is not used although it was asked for, or that the reference itself changed."""
    adjustment = judgement.adjustment
    if adjustment is None or not adjustment.reason or not (adjustment.requested or adjustment.reference_changed):
        return ""
    return f"{adjustment.reason}; the adjusted ratio is not used"


def has_useful_interval(judgement: Judgement) -> bool:
    """Return whether a judgement's interval is worth showing; one session each is capped for another reason."""
    count = LAUNCHES_FOR_INTERVAL if judgement.level == "session" else min(judgement.units)
    return is_useful(judgement.low, judgement.high, count)


def describe_useless_interval(judgement: Judgement) -> str:
    """Return why an interval is not shown, and the one end that still says something: ``at least 1.9 times``."""
    if judgement.level is not None and judgement.level != "session" and min(judgement.units) < LAUNCHES_FOR_INTERVAL:
        return f"too few {LEVEL_PLURALS[judgement.level]}"
    if judgement.low is not None and judgement.low > 1:
        return f"at least {round_significant(judgement.low, _DIGITS)} times"
    if judgement.high is not None and judgement.high < 1:
        return f"at most {round_significant(judgement.high, _DIGITS)} times"
    return "too wide to be useful"


def format_units(judgement: Judgement) -> str:
    """Return how many independent values a judgement is based on: ``8 and 8 launches``, ``6 blocks``."""
    if judgement.level is None:
        return ""
    first, second = judgement.units
    if judgement.level == "block":
        return format_count(first, "block")
    return f"{first} and {second} {LEVEL_PLURALS[judgement.level]}"


def explain(judgement: Judgement, *, briefly: bool = False) -> str:
    """Return the reasons for a judgement, and what would resolve it; ``briefly`` without what differs by experiment."""
    reasons = tuple(filter(None, (*judgement.reasons, explain_cycles(judgement))))
    if briefly and any(UNIDENTIFIED in reason for reason in reasons):
        return UNIDENTIFIED
    if judgement.verdict == "inconclusive" and judgement.level is not None:
        reasons = (*reasons, _hint(judgement, LEVEL_PLURALS[judgement.level]))
    return "; ".join(reasons)


def _hint(judgement: Judgement, plural: str) -> str:
    if judgement.more_units is not None:
        each = "" if judgement.level == "block" else " each"
        time = format_duration(judgement.more_s or 0.0)
        # Of fewer units than a verdict needs, nobody can tell how many it will take.
        about = "at least" if min(judgement.units) < units_min(judgement.level or "session") else "about"
        return f"{about} {judgement.more_units} more {plural}{each} would resolve it, {time}"
    if any(UNIDENTIFIED in reason for reason in judgement.reasons):
        if judgement.more_runs is None:
            return "repeat both in more sessions and name the folder with all of them"
        return f"at least {judgement.more_runs} more run{'s' * (judgement.more_runs > 1)} of each would resolve it"
    if ONE_SESSION in judgement.reasons:
        return "measure the version with one session again"
    if ALL_THROTTLED in judgement.reasons:
        return "cool the machine, or lower the load it is under, and measure again"
    return "the change is too close to the margin to resolve"


def describe_there(changes: Sequence[Difference], moved: str, shown_max: int = 3) -> str:
    """Return what else changed at a step of a trend, and which operators it is of; empty where neither is known.

    As in ``software.packages.torch 2.12.0 -> 2.13.0; ... and 2 more; 91 % of it is attention``.
    """
    shown = [f"{item.field} {item.baseline} -> {item.candidate}" for item in changes[:shown_max]]
    more = f" and {len(changes) - shown_max} more" if len(changes) > shown_max else ""
    return "; ".join(filter(None, ("; ".join(shown) + more, moved)))


def name_state(judgement: Judgement, margin: float) -> str:
    """Return the verdict, and where an inconclusive one leans: ``leans slower``."""
    verdict = name_verdict(judgement)
    if (direction := leaning(judgement, margin)) is None:
        return verdict
    return f"leans {direction if judgement.metric == 'latency_s' else _OF_AMOUNTS[direction]}"


def name_arms(comparison: Comparison) -> str:
    """Return what the two arms of a session set, ``threads=1 -> threads=2``; empty where there are no arms."""
    names = [treatment.partition(": ")[2] for treatment in comparison.treatments]
    # A device alone, and next to others, is no pair of arms.
    return "" if any(name.startswith("next to ") for name in names) else " -> ".join(names)


def count_states(comparison: Comparison) -> str:
    """Return how many experiments have which verdict: ``1 slower, 2 same``."""
    states = [name_state(item.judgements[0], comparison.margin) for item in comparison.experiments]
    return ", ".join(f"{states.count(state)} {state}" for state in _STATES if state in states) or "none in common"


def headline(comparison: Comparison) -> str:
    """Return the one line that answers the question."""
    judgements = [item.judgements[0] for item in comparison.experiments]
    states = [name_state(judgement, comparison.margin) for judgement in judgements]
    # All that is not decided leans one way: that is known.
    undecided = {state for state, item in zip(states, judgements, strict=True) if item.verdict == "inconclusive"}
    lean = undecided.pop() if comparison.verdict == "inconclusive" and len(undecided) == 1 else "inconclusive"
    verdict = comparison.verdict if lean == "inconclusive" else lean
    if len(judgements) == 1 and verdict == lean != "inconclusive":
        return f"{verdict.upper()}: {_describe_lean(judgements[0])}"
    if len(judgements) == 1 and (ratio := judgements[0].ratio) is not None:
        interval, units = format_interval(judgements[0]), format_units(judgements[0])
        return f"{verdict.upper()}: {format_change(ratio)} [{interval}], {units}{_name_clock(judgements)}"
    mean = ""
    if (suite := comparison.suite).ratio is not None:
        mean = f"; geometric mean {format_change(suite.ratio)} [{format_interval(suite)}]: "
        mean += name_state(suite, comparison.margin)
    experiments = f"{len(states)} experiment{'' if len(states) == 1 else 's'}"
    return f"{verdict.upper()}: {experiments} ({count_states(comparison)}){mean}{_name_clock(judgements)}"


def _name_clock(judgements: Sequence[Judgement]) -> str:
    """Return that every change is the clock's, where it is."""
    changed = [item for item in judgements if item.verdict in ("faster", "slower")]
    is_clock = changed and all(item.cycles is not None and item.cycles.explained == "all" for item in changed)
    return "; the clock, not the code" if is_clock else ""


def _describe_lean(judgement: Judgement) -> str:
    """What is known of an effect that is not proven yet: ``about 23x, at least 1.9x; 2 more blocks (2 m 28 s)``."""
    ratio, low, high = (value or 1.0 for value in (judgement.ratio, judgement.low, judgement.high))
    least = _format_size(low if ratio > 1 else high, is_least=True)
    return f"about {_format_size(ratio)}, at least {least}{format_missing(judgement)}"


def format_missing(judgement: Judgement) -> str:
    """Return what more would resolve a judgement, ``; 2 more blocks (2 m 28 s)``, empty where that is unknown."""
    if judgement.more_units is None or judgement.level is None:
        return ""
    plural = LEVEL_PLURALS[judgement.level] if judgement.more_units > 1 else judgement.level
    each = "" if judgement.level == "block" else " each"
    return f"; {judgement.more_units} more {plural}{each} ({format_duration(judgement.more_s or 0.0)})"


def _format_size(ratio: float, *, is_least: bool = False) -> str:
    """The size of a change in either direction: ``23x``, below twofold as ``34 %``; the least one is rounded down."""
    times = max(ratio, 1 / ratio)
    size, unit = (times, "x") if times >= _CLAIM_TIMES_FROM else (100 * abs(ratio - 1), " %")
    if is_least and size > 0:
        step = 10.0 ** (floor(log10(size)) - 1)
        size = floor(size / step + 1e-9) * step
    return f"{round_significant(size, 2)}{unit}"


def format_value(score: Score) -> str:
    """Return the measured value with its interval: ``0.585 [0.581, 0.589], 41.5 % less``; empty when there is none."""
    if score.value is None:
        return ""
    value, interval = _format(score.claim, score.value), ""
    shown = is_useful(score.low, score.high, LAUNCHES_FOR_INTERVAL) and score.low != score.high
    if shown and score.low is not None and score.high is not None:
        interval = f" [{_format(score.claim, score.low)}, {_format(score.claim, score.high)}]"
    if score.claim.denominator is None:
        return f"{value}{interval}"
    if score.value >= _CLAIM_TIMES_FROM:
        return f"{value} times{interval}"
    change = round_significant(100 * abs(score.value - 1), 2)
    return f"{value}{interval}, {change} % {'more' if score.value >= 1 else 'less'}"


def format_expected(claim: Claim) -> str:
    """Return what a claim expects: ``0.55 to 0.65``, ``at least 10``, ``at most 5.5 GB``."""
    low, high = claim.expected.low, claim.expected.high
    if low is not None and high is not None:
        return _format(claim, low) if low == high else f"{_format(claim, low)} to {_format(claim, high)}"
    if low is not None:
        return f"at least {_format(claim, low)}"
    return "anything" if high is None else f"at most {_format(claim, high)}"


def _format(claim: Claim, value: float) -> str:
    metric = None if claim.denominator else claim.metric
    match metric:
        case "latency_s":
            return format_duration(value)
        case "memory_bytes":
            # Decimal gigabytes, as the 2022 study has them.
            return f"{round_significant(value / _GIGABYTE, _DIGITS)} GB"
        case "largest_batch":
            return f"{value:.0f}"
        case "throughput_images_per_min":
            return f"{round_significant(value, _DIGITS)} images/min"
    return round_significant(value, _DIGITS)
