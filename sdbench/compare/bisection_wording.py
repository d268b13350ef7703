"""The end of a bisection in words."""

from sdbench.compare.bisection import Bisection, ComparedArm
from sdbench.compare.policy import Judgement
from sdbench.compare.wording import format_change, format_interval, format_units, name_state
from sdbench.units import format_count


def describe_end(bisection: Bisection) -> str:
    """Return the sentence that answers the question."""
    first, last = bisection.arms[0], bisection.arms[-1]
    if bisection.result == "nothing":
        return f"nothing to find: {name(last)} is the same as {name(first)} within {bisection.margin:.1%}"
    good = bisection.arms[bisection.last_good - 1]
    if bisection.result == "found" and bisection.first_bad is not None:
        bad = bisection.arms[bisection.first_bad - 1]
        return f"first {bisection.direction}: {name(bad)}: {_describe_found(bisection, good, bad)}"
    if bisection.first_bad is None:
        return f"not resolved between {name(first)} and {name(last)}: {bisection.reason}"
    bad = bisection.arms[bisection.first_bad - 1]
    between = [arm for arm in bisection.arms[bisection.last_good : bisection.first_bad - 1] if arm.reason]
    reasons = "; ".join(f"{name(arm)}: {_describe_unknown(arm)}" for arm in between)
    candidates = ", ".join(name(bisection.arms[number - 1]) for number in bisection.candidates)
    start = f"not resolved between {name(good)} and {name(bad)}: the first {bisection.direction} is one of {candidates}"
    return f"{start}; {'; '.join(text for text in (bisection.reason, reasons) if text)}"


def _describe_unknown(arm: ComparedArm) -> str:
    if arm.state == "cannot run":
        return f"could not be run ({arm.reason})"
    return f"{_describe_change(arm.judgement)}: {arm.reason}" if arm.judgement else arm.reason


def _describe_found(bisection: Bisection, good: ComparedArm, bad: ComparedArm) -> str:
    first, change = bisection.arms[0], _describe_change(bad.judgement)
    if good.number == first.number:
        return f"{change} against {name(good)}, the one before it"
    changed = good.judgement is not None and good.judgement.verdict != "same"
    state = f"{good.judgement.verdict} than" if changed and good.judgement else "the same as"
    return f"{change} against {name(first)}; {name(good)}, the one before it, is {state} {first.number}"


def _describe_change(judgement: Judgement | None) -> str:
    change, interval, units = format_against(judgement)
    return f"{change} [{interval}], {units}" if change else "no result"


def format_against(judgement: Judgement | None) -> tuple[str, str, str]:
    """Return a change, its interval and what it is from: ``+5.10 %``, ``+4.20 to +6.00 %``, ``7 blocks``."""
    if judgement is None or judgement.ratio is None:
        return "", "", ""
    return format_change(judgement.ratio), format_interval(judgement), format_units(judgement)


def describe_step(bisection: Bisection) -> tuple[str, ...]:
    """Return what the first bad arm is against the one before it, and whether that is all of the change."""
    if bisection.step is None or bisection.first_bad is None:
        return ()
    lines = []
    if bisection.last_good > 1:
        low, high = (format_change(end) for end in (bisection.step.low, bisection.step.high))
        change = format_change(bisection.step.ratio)
        lines.append(
            f"arm {bisection.first_bad} against arm {bisection.last_good}: {change}, between {low} and {high} (from "
            "the intervals of both against arm 1)"
        )
    if bisection.is_only_a_part:
        last = bisection.arms[-1]
        lines.append(
            f"arm {last.number} changed more ({_describe_change(last.judgement)}): bisect again from arm "
            f"{bisection.first_bad} on"
        )
    return tuple(lines)


def describe_effort(bisection: Bisection) -> str:
    """Return how many comparisons were made, of how many arms."""
    return f"{format_count(bisection.comparison_count, 'comparison')} of {len(bisection.arms)} arms"


def name(arm: ComparedArm) -> str:
    """Return an arm as it is named in sentences: its place and its value."""
    return f"{arm.number} ({arm.setting.partition('=')[2]})"


def name_arm_state(arm: ComparedArm, margin: float) -> str:
    """Return what is known of an arm in a word or two."""
    if arm.judgement is None or arm.state in ("first", "cannot run"):
        return arm.state
    return name_state(arm.judgement, margin)
