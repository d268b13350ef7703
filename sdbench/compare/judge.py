"""From evidence to judgements: metric by metric over all experiments of a suite."""

from collections.abc import Sequence

from sdbench.compare.policy import (
    ALPHA,
    NO_UNITS_HELP,
    UNIDENTIFIED,
    Judgement,
    Verdict,
    decide,
    explain_inconclusive,
    p_changed,
    runs_missing,
    units_missing,
)
from sdbench.compare.samples import Evidence
from sdbench.stats.multiplicity import benjamini_hochberg, holm
from sdbench.stats.ratios import geometric_mean_ratio

# p as it is, Holm's, and Benjamini and Hochberg's.
PValues = tuple[float, float, float]


def judge_metric(evidence: Sequence[Evidence], margin: float) -> tuple[Judgement, ...]:
    """Return a judgement per experiment; a suite of them raises no more false alarms than a single one."""
    evidence = [item.settle(margin) for item in evidence]
    p_values = {
        index: p_changed(item.ratio, margin, item.level)
        for index, item in enumerate(evidence)
        if item.ratio is not None and item.level is not None and not item.caps
    }
    known = list(p_values.values())
    adjusted = zip(known, holm(known), benjamini_hochberg(known), strict=True)
    by_index = dict(zip(p_values, adjusted, strict=True))
    # With more units those that have no verdict yet are judged too.
    suite = sum(item.ratio is not None for item in evidence)
    return tuple(judge(item, by_index.get(index), margin, suite) for index, item in enumerate(evidence))


def judge_suite(evidence: Sequence[Evidence], margin: float) -> Judgement:
    """Return the judgement on the geometric mean over the experiments that have a ratio."""
    usable = [item.settle(margin) for item in evidence if item.ratio is not None]
    if not usable:
        why = "no experiment can be judged" if evidence else "the two have no experiment in common"
        return judge(Evidence("latency_s", incomparable=(why,)), None, margin)
    # What happens to a session happens to all its experiments.
    correlated = any(item.level == "session" for item in usable)
    ratio = geometric_mean_ratio([item.ratio for item in usable if item.ratio], correlated=correlated)
    caps = tuple(dict.fromkeys(UNIDENTIFIED if UNIDENTIFIED in cap else cap for item in usable for cap in item.caps))
    units = min(item.units[0] for item in usable), min(item.units[1] for item in usable)
    suite = Evidence("latency_s", ratio, usable[0].level, units, sum(item.unit_s for item in usable), caps)
    if ratio is None or suite.level is None or caps:
        return judge(suite, None, margin)
    return judge(suite, (p_changed(ratio, margin, suite.level),) * 3, margin)


def judge(item: Evidence, p_values: PValues | None, margin: float, suite: int = 1) -> Judgement:
    """Return the judgement on one piece of evidence; ``p_values`` are None where no verdict may be given."""
    verdict: Verdict = "inconclusive"
    reasons = item.caps
    if item.incomparable:
        verdict, reasons = "incomparable", item.incomparable
    elif item.ratio is None and not reasons:
        reasons = ("a single unit has no interval",)
    elif item.ratio is not None and p_values is not None:
        verdict = decide(item.ratio, margin, p_values[1])
        reasons = (explain_inconclusive(item.ratio, margin, p_values[0]),) if verdict == "inconclusive" else ()
    missing = None
    if verdict == "inconclusive" and item.level and not any(cap in text for cap in NO_UNITS_HELP for text in reasons):
        missing = units_missing(item.ratio, min(item.units), margin, item.level, suite)
    runs = None
    if verdict == "inconclusive" and any(UNIDENTIFIED in text for text in reasons):
        runs = runs_missing(item.ratio, margin, suite)
    more = missing or runs
    cycles = None
    if item.cycles is not None and item.ratio is not None:
        cycles = item.cycles.describe(item.ratio, margin, changed=verdict in ("faster", "slower"))
    low, high = item.ratio.interval(1 - ALPHA) if item.ratio else (None, None)
    own, adjusted, discovery = p_values or (None, None, None)
    return Judgement(
        metric=item.metric,
        verdict=verdict,
        ratio=item.ratio.value if item.ratio else None,
        low=low,
        high=high,
        level=item.level,
        units=item.units,
        p_value=own,
        adjusted_p_value=adjusted,
        false_discovery_p_value=discovery,
        reasons=reasons,
        more_units=missing,
        more_runs=runs,
        more_s=None if more is None else more * item.unit_s,
        adjustment=item.adjusted.describe(margin) if item.adjusted else None,
        cycles=cycles,
    )
