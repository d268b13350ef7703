"""The self-check as a page of Markdown: ``docs/aa.md`` is one."""

from collections.abc import Sequence

from sdbench.compare.comparison import Comparison
from sdbench.compare.selfcheck import (
    COVERAGE_TOLERANCE,
    FALSE_ALARMS_MAX,
    FOUND_MIN,
    OVERHEAD_MAX,
    SUITE,
    SUITE_FALSE_ALARMS_MAX,
    SelfCheck,
    bars_of,
    suite_false_alarm_bound,
)
from sdbench.compare.simulation import COVERAGE_CONFIDENCE, Trials
from sdbench.compare.verdicts import ALPHA_OF_ANY_CHANGE, LOOKS_REPEATED
from sdbench.compare.wording import explain, format_change, format_interval, format_units
from sdbench.schema.wire import Overhead

_VERDICTS = {True: "yes", False: "**no**", None: "not told"}


def format_page(found: SelfCheck) -> str:
    """Return the page: bars first, then what stands behind each."""
    changed = found.changed
    intro = (
        f"`sdbench selfcheck` of sdbench {found.sdbench_version}; simulations with seed {found.seed} and "
        f"{changed.trials:,} trials each."
    )
    alike = (
        "Sessions of ABBA and BAAB blocks, looked at after each block from the 7th to the 20th, margin 2 %. A look "
        "resolves a session when the interval of 99 % lies within the margin, or beyond it and the p of no change at "
        f"all is below {ALPHA_OF_ANY_CHANGE / LOOKS_REPEATED:.3%} (a false alarm here). The "
        f"bound is the one-sided 95 % bound of the rate (Clopper & Pearson). Bars: {FALSE_ALARMS_MAX:.1%} per "
        f"experiment, {SUITE_FALSE_ALARMS_MAX:.0%} for any of {SUITE}."
    )
    change = (
        f"Blocks that vary by 1 %: found in {changed.slower / changed.trials:.1%} of sessions (bar: {FOUND_MIN:.0%}), "
        f"after {changed.mean_blocks:.1f} blocks on average."
    )
    coverage = (
        f"Share of nominal {COVERAGE_CONFIDENCE:.0%} intervals of a ratio that hold the truth, two sides in "
        f"turns: Welch's from launches, paired from blocks. The bar, {COVERAGE_CONFIDENCE} +- {COVERAGE_TOLERANCE}, is "
        "for independent launches; the other models "
        "show what turns, spells and stalls make of it."
    )
    near = (
        "What is said of changes from within the margin of 2 % to beyond it, where blocks vary by 1 %. At the margin "
        "itself neither answer is right."
    )
    parts = [
        "# A/A: how far sdbench can be trusted",
        intro,
        _table(
            ("bar", "measured", "limit", "met"),
            [(bar.name, bar.measured, bar.limit, _VERDICTS[bar.met]) for bar in bars_of(found)],
        ),
        "## Two alike sides, in turns",
        alike,
        _alike_table(found),
        "## A change of 2 %, margin 1 %",
        change,
        "## Changes near the margin",
        near,
        _near_table(found),
        "## Coverage",
        coverage,
        _coverage_table(found),
        "## This machine against itself",
        _session_text(found.session),
        "## The measuring loop",
        _overhead_text(found.overhead),
        "## Arithmetic",
        _table(
            ("case", "source", "holds"),
            [(case.name, case.source, _VERDICTS[case.holds]) for case in found.arithmetic],
        ),
    ]
    return "\n\n".join(parts)


def _alike_table(found: SelfCheck) -> str:
    rows = []
    for alone, suite in zip(found.alike, found.alike_in_suite, strict=True):
        rows.append(
            (
                alone.name,
                str(_alarms(alone)),
                f"{alone.false_alarm_bound:.3%}",
                f"{suite_false_alarm_bound(suite):.2%}",
                f"{alone.same / alone.trials:.1%}",
                f"{alone.inconclusive / alone.trials:.1%}",
                f"{alone.mean_blocks:.1f}",
            )
        )
    columns = ("noise", "false alarms", "bound", f"bound, suite of {SUITE}", "same", "inconclusive", "blocks")
    return _table(columns, rows)


def _alarms(trials: Trials) -> int:
    return trials.faster + trials.slower


def _coverage_table(found: SelfCheck) -> str:
    columns = sorted({(item.paired, item.launches) for item in found.coverage})
    rates = {(item.name, item.paired, item.launches): f"{item.rate:.4f}" for item in found.coverage}
    names = dict.fromkeys(item.name for item in found.coverage)
    rows = [(name, *(rates[name, *column] for column in columns)) for name in names]
    titles = (f"{count} blocks" if paired else f"{count} launches a side" for paired, count in columns)
    return _table(("noise", *titles), rows)


def _near_table(found: SelfCheck) -> str:
    rows = [
        (
            near.name,
            f"{near.slower / near.trials:.2%}",
            f"{near.same / near.trials:.2%}",
            f"{near.inconclusive / near.trials:.2%}",
            f"{near.mean_blocks:.1f}",
        )
        for near in found.near
    ]
    return _table(("true change", "slower", "same", "inconclusive", "blocks"), rows)


def _session_text(session: Comparison | None) -> str:
    if session is None:
        return "Not measured: torch is not installed here, or the budget was spent."
    judgement = session.experiments[0].judgements[0]
    if judgement.ratio is None:
        return f"{judgement.verdict}: {explain(judgement)}."
    text = (
        f"{session.experiments[0].label} on {session.baseline.device_name}, both sides the same: "
        f"{format_change(judgement.ratio)} [{format_interval(judgement)}] from {format_units(judgement)}: "
        f"{judgement.verdict}"
    )
    reason = f" ({reasons})" if (reasons := explain(judgement)) else ""
    found = ", ".join(dict.fromkeys(doubt.check.name for doubt in session.experiments[0].doubts)) or "none"
    return f"{text}{reason}. Doubts: {found}."


def _overhead_text(overhead: Overhead | None) -> str:
    if overhead is None:
        return "Not measured: torch is not installed here."
    return (
        f"Around a call, against a bare loop, in CPU time: {format_change(overhead.ratio)} "
        f"[{format_change(overhead.low)}, {format_change(overhead.high)}] from {overhead.pair_count} pairs. By itself: "
        f"{overhead.own_s * 1e6:.0f} us, {overhead.own_s / overhead.call_s:.2%} of a call of the tiny architecture "
        f"({overhead.call_s * 1e3:.0f} ms). Bar: {OVERHEAD_MAX:.1%}."
    )


def _table(columns: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    lines = [columns, ("---",) * len(columns), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
