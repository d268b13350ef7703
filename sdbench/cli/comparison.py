"""How a comparison is printed, and the exit code it deserves."""

from collections.abc import Sequence

from sdbench.compare.comparison import Comparison, ExperimentComparison, Side
from sdbench.compare.verdicts import BY_WEIGHT, Verdict
from sdbench.compare.wording import (
    METRIC_NAMES,
    explain,
    format_change,
    format_interval,
    format_units,
    headline,
    name_verdict,
)
from sdbench.errors import UserError
from sdbench.units import printable

EXIT_SLOWER = 10
EXIT_INCONCLUSIVE = 11
EXIT_INCOMPARABLE = 12
_EXIT_CODES: dict[Verdict, int] = {
    "slower": EXIT_SLOWER,
    "incomparable": EXIT_INCOMPARABLE,
    "inconclusive": EXIT_INCONCLUSIVE,
}
DEFAULT_FAILURES: tuple[str, ...] = tuple(word for word in BY_WEIGHT if word in _EXIT_CODES)
# In this order: a regression is said first. ``more`` is of memory and energy.
FAILURES = {"slower": EXIT_SLOWER, "more": EXIT_SLOWER} | {word: _EXIT_CODES[word] for word in BY_WEIGHT[1:3]}
_DIFFERENCES_SHOWN = 12


def parse_failures(text: str | None) -> tuple[str, ...]:
    """Return the verdicts that make the exit code, from ``--fail-on slower,inconclusive``.

    Raises:
        UserError: a word is none of them.
    """
    if text is None:
        return DEFAULT_FAILURES
    words = tuple(word.strip() for word in text.split(",") if word.strip())
    for word in words:
        if word not in FAILURES:
            raise UserError(f"--fail-on {text!r}: {word!r} is none of {', '.join(FAILURES)}")
    return words


def exit_code(comparison: Comparison, failures: Sequence[str]) -> int:
    """Return 0, or the code of the first kind of verdict in the comparison that the user chose to fail on."""
    found = {item.judgements[0].verdict for item in comparison.experiments} or {comparison.verdict}
    amounts = {name_verdict(judgement) for item in comparison.experiments for judgement in item.judgements[1:]}
    seen = {*found, *(amounts & {"more"})}
    return next((code for word, code in FAILURES.items() if word in failures and word in seen), 0)


def print_comparison(comparison: Comparison) -> None:
    """Print the answer, then the evidence: a line per experiment and metric, doubts, differences."""
    from rich.console import Console
    from rich.table import Table

    console = Console(width=None if Console().is_terminal else 150, highlight=False, markup=False)
    console.print(headline(comparison), soft_wrap=True)
    console.print(printable(f"baseline   {_describe(comparison.baseline)}"), soft_wrap=True)
    console.print(printable(f"candidate  {_describe(comparison.candidate)}"), soft_wrap=True)
    console.print(f"margin {comparison.margin:.1%}, intervals of {1 - comparison.alpha:.0%}", soft_wrap=True)
    console.print()
    table = Table(box=None, pad_edge=False)
    for name in ("experiment", "metric", "verdict", "change", "interval", "from"):
        table.add_column(name, overflow="fold", justify="right" if name in ("change", "interval") else "left")
    for item in comparison.experiments:
        for row in _rows(item):
            table.add_row(*map(printable, row))
    console.print(table)
    for line in _remarks(comparison):
        console.print(printable(line), soft_wrap=True)


def _describe(side: Side) -> str:
    runs = f"{side.run_ids[0]} and {len(side.run_ids) - 1} more" if len(side.run_ids) > 1 else side.run_ids[0]
    marks = (" VIRTUAL" if side.origin == "virtual" else "") + (
        " CHANGED AFTER IT WAS SEALED (--force)" if side.forced else ""
    )
    return f"{runs} on {side.device_name}, {side.created_utc}{marks}"


def _rows(item: ExperimentComparison) -> list[tuple[str, ...]]:
    shown = [judgement for judgement in item.judgements if judgement.verdict != "incomparable"] or item.judgements[:1]
    return [
        (
            item.label if index == 0 else "",
            METRIC_NAMES[judgement.metric],
            name_verdict(judgement),
            "" if judgement.ratio is None else format_change(judgement.ratio),
            format_interval(judgement),
            format_units(judgement),
        )
        for index, judgement in enumerate(shown)
    ]


def _remarks(comparison: Comparison) -> list[str]:
    lines = []
    for item in comparison.experiments:
        judgement = item.judgements[0]
        if text := explain(judgement):
            lines.append(f"{judgement.verdict}: {item.label}: {text}")
        if item.advice and judgement.verdict == "inconclusive":
            lines.append(f"advice: {item.label}: {item.advice}")
        lines += [
            f"doubt: {item.label}, {doubt.side}: {doubt.check.name}: {doubt.check.evidence} ({doubt.check.threshold})"
            for doubt in item.doubts
        ]
    lines += [f"only in the {lone.side}: {lone.label}" for lone in comparison.unmatched]
    lines += [f"skipped on both sides: {label}" for label in comparison.on_neither]
    lines += [f"set by the {treatment}" for treatment in comparison.treatments]
    lines.append(f"what differs: {comparison.attribution}")
    known = [item for item in comparison.differences if item.part != "state"]
    lines += [f"  {item.field}: {_or_unknown(item.baseline)} / {_or_unknown(item.candidate)}" for item in known][
        :_DIFFERENCES_SHOWN
    ]
    if len(known) > _DIFFERENCES_SHOWN:
        lines.append(f"  and {len(known) - _DIFFERENCES_SHOWN} more; sdbench diff shows them")
    return list(dict.fromkeys(lines))


def _or_unknown(value: str | None) -> str:
    return "unknown" if value is None else value
