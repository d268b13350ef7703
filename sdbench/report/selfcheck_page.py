"""The self-check as a page of Markdown: ``docs/methodology/aa.md`` is one."""

from collections.abc import Iterable

from sdbench.compare import selfcheck
from sdbench.compare.comparison import Comparison
from sdbench.compare.policy import ALPHA_OF_ANY_CHANGE, BLOCKS_MAX, BLOCKS_MIN, LOOKS_REPEATED
from sdbench.compare.selfcheck import SUITE, SelfCheck, any_of_suite, bars_of
from sdbench.compare.simulation import COVERAGE_CONFIDENCE, Coverage
from sdbench.compare.wording import explain, format_change, format_interval, format_units
from sdbench.report.markdown import format_table
from sdbench.schema.wire import Overhead

_ANSWERS = {True: "yes", False: "**no**", None: "not measured"}


def format_page(check: SelfCheck) -> str:
    """Return the page: bars first, then the evidence for each."""
    changed = check.changed
    bars = [(bar.name, bar.measured, bar.limit, _ANSWERS[bar.met]) for bar in bars_of(check)]
    cases = [(case.name, case.source, _ANSWERS[case.passed]) for case in check.arithmetic]
    return f"""\
# sdbench against itself (A/A)

`sdbench selfcheck` of sdbench {check.sdbench_version}; simulations with seed {check.seed} and {changed.trials:,} trials
each.

{format_table(("bar", "measured", "limit", "met"), bars)}

## Two identical arms, interleaved

Sessions of ABBA and BAAB blocks, looked at after each block from the {BLOCKS_MIN}th to the {BLOCKS_MAX}th, margin 2 %.
A look resolves a session when the interval of 99 % lies within the margin, or beyond it and the p of no change at all
is below {ALPHA_OF_ANY_CHANGE / LOOKS_REPEATED:.4%} (a false alarm here). The bound is the one-sided 95 % bound of the
rate (Clopper & Pearson). Bars: {selfcheck.FALSE_ALARMS_MAX:.1%} per experiment, {selfcheck.SUITE_FALSE_ALARMS_MAX:.0%}
for any of {SUITE}.

{_identical_table(check)}

## A change of 2 %, margin 1 %

Blocks that vary by 1 %: detected in {changed.slower / changed.trials:.1%} of sessions (bar:
{selfcheck.FOUND_MIN:.0%}), after {changed.mean_blocks:.1f} blocks on average.

## Changes near the margin

The verdicts on changes from within the margin of 2 % to beyond it, where blocks vary by 1 %. At the margin itself
neither answer is right.

{_near_table(check)}

## Coverage

Share of nominal {COVERAGE_CONFIDENCE:.0%} intervals of a ratio that hold the truth, two arms interleaved: Welch's from
launches, paired from blocks. The bar, {COVERAGE_CONFIDENCE} +- {selfcheck.COVERAGE_TOLERANCE}, is for independent
launches; the other models show the effect of periodic noise, spells and stalls.

{_coverage_table(check.coverage)}

## This machine against itself

{_session_text(check.session)}

## The measuring loop

{_overhead_text(check.overhead)}

## Arithmetic

{format_table(("case", "source", "holds"), cases)}"""


def _identical_table(check: SelfCheck) -> str:
    columns = ("noise", "false alarms", "bound", f"bound, suite of {SUITE}", "same", "inconclusive", "blocks")
    rows = [
        (
            alone.name,
            str(alone.false_alarms),
            f"{alone.false_alarm_bound:.3%}",
            f"{any_of_suite(suite.false_alarm_bound):.2%}",
            *(f"{count / alone.trials:.1%}" for count in (alone.same, alone.inconclusive)),
            f"{alone.mean_blocks:.1f}",
        )
        for alone, suite in zip(check.identical, check.identical_in_suite, strict=True)
    ]
    return format_table(columns, rows)


def _near_table(check: SelfCheck) -> str:
    rows = []
    for near in check.near:
        shares = (f"{count / near.trials:.2%}" for count in (near.slower, near.same, near.inconclusive))
        rows.append((near.name, *shares, f"{near.mean_blocks:.1f}"))
    return format_table(("true change", "slower", "same", "inconclusive", "blocks"), rows)


def _coverage_table(coverage: Iterable[Coverage]) -> str:
    rates = {(item.name, item.paired, item.launches): f"{item.rate:.4f}" for item in coverage}
    columns = sorted({(paired, launches) for _, paired, launches in rates})
    rows = [(name, *(rates[name, *column] for column in columns)) for name in dict.fromkeys(name for name, *_ in rates)]
    titles = (f"{count} blocks" if paired else f"{count} launches an arm" for paired, count in columns)
    return format_table(("noise", *titles), rows)


def _session_text(session: Comparison | None) -> str:
    if session is None:
        return "Not measured: torch is not installed here, or the budget was spent."
    experiment = session.experiments[0]
    judgement = experiment.judgements[0]
    if judgement.ratio is None:
        return f"{judgement.verdict}: {explain(judgement)}."
    reason = f" ({reasons})" if (reasons := explain(judgement)) else ""
    checks = ", ".join(dict.fromkeys(warning.check.name for warning in experiment.failed_checks)) or "none"
    return (
        f"{experiment.label} on {session.baseline.device_name}, both arms the same: "
        f"{format_change(judgement.ratio)} [{format_interval(judgement)}] from {format_units(judgement)}: "
        f"{judgement.verdict}{reason}. Checks that warned: {checks}."
    )


def _overhead_text(overhead: Overhead | None) -> str:
    if overhead is None:
        return "Not measured: torch is not installed here."
    return (
        f"Around a call, against a bare loop, in CPU time: {format_change(overhead.ratio)} "
        f"[{format_change(overhead.low)}, {format_change(overhead.high)}] from {overhead.pair_count} pairs. By itself: "
        f"{overhead.own_s * 1e6:.0f} us, {overhead.own_s / overhead.call_s:.2%} of a call of tiny-sd "
        f"with one step ({overhead.call_s * 1e3:.0f} ms). Bar: {selfcheck.OVERHEAD_MAX:.1%}."
    )
