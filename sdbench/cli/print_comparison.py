"""How a comparison is printed, and its exit code."""

import argparse
import json
from collections.abc import Sequence

from sdbench.cli.output import make_table, open_console, print_wrapped, show
from sdbench.cli.print_why import print_why
from sdbench.compare.causes import merge_numbers
from sdbench.compare.comparison import ComparedRuns, Comparison, ExperimentComparison
from sdbench.compare.wording import (
    explain,
    explain_adjustment,
    format_change,
    format_interval,
    format_units,
    headline,
    name_arms,
    name_ratio,
    name_state,
    name_verdict,
    other_ratios,
)
from sdbench.errors import UserError
from sdbench.report.markdown_comparison import format_comparison

# Exit codes by verdict, a regression first. ``more`` is of memory and energy, and fails only on request.
FAILURES = {"slower": 10, "more": 10, "incomparable": 12, "inconclusive": 11}
DEFAULT_FAILURES = tuple(verdict for verdict in FAILURES if verdict != "more")
_DIFFERENCES_SHOWN = 12
STYLES = {"slower": "red", "more": "red", "faster": "green", "less": "green", "same": "green"}
STYLES |= dict.fromkeys(("inconclusive", "leans slower", "leans faster"), "yellow")


def parse_failures(text: str) -> tuple[str, ...]:
    """Return the verdicts that make the exit code, from ``--fail-on slower,inconclusive``.

    Raises:
        UserError: a word is not a verdict.
    """
    words = tuple(word.strip() for word in text.split(",") if word.strip())
    for word in words:
        if word not in FAILURES:
            raise UserError(f"--fail-on {text!r}: unknown verdict {word!r}; choose from {', '.join(FAILURES)}")
    return words


def exit_code(comparison: Comparison, failures: Sequence[str]) -> int:
    """Return 0, or the code of the first kind of verdict in the comparison that the user chose to fail on."""
    verdicts: set[str] = {item.judgements[0].verdict for item in comparison.experiments} or {comparison.verdict}
    amounts = {name_verdict(judgement) for item in comparison.experiments for judgement in item.judgements[1:]}
    verdicts |= amounts & {"more"}
    return next((code for word, code in FAILURES.items() if word in failures and word in verdicts), 0)


def show_comparison(comparison: Comparison, options: argparse.Namespace, command: str = "", **more: str) -> int:
    """Print a comparison, with ``--json`` as JSON with ``more`` fields, and return its exit code.

    ``command`` is what continues the session, where it can be.
    """
    if options.json:
        more |= {"continue": command} if command else {}
        show(json.dumps(more | comparison.to_json_dict()))
    elif options.format == "markdown":
        show(format_comparison(comparison), end="")
    else:
        _print_comparison(comparison, command, with_tables=options.why)
    return exit_code(comparison, options.fail_on)


def _print_comparison(comparison: Comparison, command: str, *, with_tables: bool) -> None:
    """Print the answer, then the evidence: a line per experiment and metric, warnings, differences."""
    console = open_console(150)
    style = STYLES.get(comparison.verdict, "")
    print_wrapped(f"{headline(comparison)}; to continue:" if command else headline(comparison), style)
    if command:
        _print_command(command)
    if arms := name_arms(comparison):
        print_wrapped(f"{arms}, on {_describe_origin(comparison.candidate)}")
    else:
        print_wrapped(f"baseline   {_describe(comparison.baseline)}")
        print_wrapped(f"candidate  {_describe(comparison.candidate)}")
    console.print(f"margin {comparison.margin:.1%}, intervals of {1 - comparison.alpha:.0%}", soft_wrap=True)
    console.print()
    columns = ("experiment", "metric", "verdict", "change", "interval", "from")
    rows = (row for item in comparison.experiments for row in _rows(item, comparison.margin))
    console.print(make_table(columns, rows, right=("change", "interval"), styles=STYLES))
    print_why(comparison, with_tables=with_tables)
    for line in _remarks(comparison):
        print_wrapped(line)
    if runs := _describe_more_runs(comparison):
        print_wrapped(f"to resolve it: at least {runs}, then compare the folders of runs; one more run:")
        for repeat in dict.fromkeys((comparison.baseline.command, comparison.candidate.command)):
            _print_command(repeat)


def _print_command(command: str) -> None:
    """Print a command whole, so that it can be copied."""
    show(f"  {command}")


def _describe(runs: ComparedRuns) -> str:
    first, *others = runs.run_ids
    name = f"{first} and {len(others)} more" if others else first
    return f"{name} on {_describe_origin(runs)}"


def _describe_origin(runs: ComparedRuns) -> str:
    virtual = " VIRTUAL" if runs.origin == "virtual" else ""
    forced = " CHANGED AFTER IT WAS SEALED (--force)" if runs.forced else ""
    return f"{runs.device_name}, {runs.created_utc}{virtual}{forced}"


def _rows(item: ExperimentComparison, margin: float) -> list[tuple[str, ...]]:
    shown = [judgement for judgement in item.judgements if judgement.verdict != "incomparable"] or item.judgements[:1]
    rows: list[tuple[str, ...]] = []
    for index, judgement in enumerate(shown):
        change = "" if judgement.ratio is None else format_change(judgement.ratio)
        label, verdict = item.label if index == 0 else "", name_state(judgement, margin)
        rows.append(
            (label, name_ratio(judgement), verdict, change, format_interval(judgement), format_units(judgement))
        )
        rows += [("", title, "", *rest) for title, *rest in other_ratios(judgement)]
    return rows


def _explanations(comparison: Comparison) -> list[str]:
    """The reasons of the verdicts, each once: with one run each it is the same for all."""
    labels: dict[tuple[str, str], list[str]] = {}
    for item in comparison.experiments:
        if text := explain(item.judgements[0], briefly=True):
            labels.setdefault((name_state(item.judgements[0], comparison.margin), text), []).append(item.label)
    return [
        f"{state}: {f'{len(names)} experiments' if len(names) > 1 else names[0]}: {text}"
        for (state, text), names in labels.items()
    ]


def _check_warnings(comparison: Comparison) -> list[str]:
    """The quality checks that warned, each once for all experiments of the baseline or candidate."""
    warned: dict[tuple[str, str], list[str]] = {}
    for item in comparison.experiments:
        for failed in item.failed_checks:
            warned.setdefault((failed.role, failed.check.name), []).append(failed.check.evidence)
    total = len(comparison.experiments)
    lines = []
    for (role, name), texts in warned.items():
        where = f", {len(texts)} of {total} experiments" if total > 1 else ""
        lines.append(f"warning: {role}{where}: {name}: {merge_numbers(texts)}")
    return lines


def _describe_more_runs(comparison: Comparison) -> str:
    """How many more runs would resolve what one run each cannot: ``2 to 5 more runs of each (by experiment)``."""
    judgements = [item.judgements[0] for item in comparison.experiments]
    needed = sorted({judgement.more_runs for judgement in judgements if judgement.more_runs is not None})
    if not needed:
        return ""
    if len(needed) > 1:
        return f"{needed[0]} to {needed[-1]} more runs of each (by experiment)"
    return f"{needed[0]} more run{'s' * (needed[0] > 1)} of each"


def _remarks(comparison: Comparison) -> list[str]:
    lines = _explanations(comparison)
    for item in comparison.experiments:
        judgement = item.judgements[0]
        if text := explain_adjustment(judgement):
            lines.append(f"adjusted: {item.label}: {text}")
        if item.advice and judgement.verdict == "inconclusive" and judgement.more_runs is None:
            lines.append(f"advice: {item.label}: {item.advice}")
    lines += _check_warnings(comparison)
    lines += [f"only in the {lone.role}: {lone.label}" for lone in comparison.unmatched]
    lines += [f"skipped in both: {label}" for label in comparison.on_neither]
    if not name_arms(comparison):
        lines += [f"set by the {treatment}" for treatment in comparison.treatments]
    lines += [comparison.machine] if comparison.machine else []
    lines.append(f"what differs: {comparison.attribution}")
    differences = [difference for difference in comparison.differences if difference.part != "state"]
    for difference in differences[:_DIFFERENCES_SHOWN]:
        values = ("unknown" if value is None else value for value in (difference.baseline, difference.candidate))
        lines.append(f"  {difference.field}: {' / '.join(values)}")
    if len(differences) > _DIFFERENCES_SHOWN:
        lines.append(f"  and {len(differences) - _DIFFERENCES_SHOWN} more; sdbench diff shows them")
    return list(dict.fromkeys(lines))
