"""A comparison as Markdown, for a comment at a pull request: the verdicts, and why experiments changed."""

from collections.abc import Iterator

from sdbench.compare.comparison import Comparison, ExperimentComparison
from sdbench.compare.why_table import WHY_COLUMNS, describe_unchanged, find_changed, make_why_rows
from sdbench.compare.wording import format_change, format_interval, format_units, headline, name_ratio, name_state
from sdbench.report.markdown import escape_markdown, format_table
from sdbench.units import format_count

# A comment of more is not read; `--json` has all.
_VERDICTS, _REASONS = 30, 10
_COLUMNS = ("experiment", "metric", "verdict", "change", "interval", "from")


def format_comparison(comparison: Comparison) -> str:
    """Return the answer, a table of verdicts and, for experiments that changed, why."""
    return "\n\n".join(_paragraphs(comparison)) + "\n"


def _paragraphs(comparison: Comparison) -> Iterator[str]:
    yield f"**{escape_markdown(headline(comparison))}**"
    rows = [row for item in comparison.experiments for row in _verdict_rows(item, comparison.margin)]
    yield format_table(_COLUMNS, (list(map(escape_markdown, row)) for row in rows[:_VERDICTS]))
    if len(rows) > _VERDICTS:
        yield f"{format_count(len(rows) - _VERDICTS, 'more row')}: see the report."
    changed = find_changed(comparison)
    for item in changed[:_REASONS]:
        yield f"**{escape_markdown(item.label)}** {escape_markdown(item.why.sentence)}"
        if item.why.rows:
            yield _fold(format_table(WHY_COLUMNS, (list(map(escape_markdown, row)) for row in make_why_rows(item.why))))
        if item.why.remarks:
            yield "\n".join(f"- {escape_markdown(remark)}" for remark in item.why.remarks)
    if len(changed) > _REASONS:
        yield f"{format_count(len(changed) - _REASONS, 'smaller change')}: see the report."
    if unchanged := describe_unchanged(comparison):
        yield escape_markdown(unchanged)
    yield f"What differs: {escape_markdown(comparison.attribution)}."


def _verdict_rows(item: ExperimentComparison, margin: float) -> Iterator[tuple[str, ...]]:
    for judgement in item.judgements:
        if judgement.ratio is not None:
            change = format_change(judgement.ratio), format_interval(judgement), format_units(judgement)
            yield item.label, name_ratio(judgement), name_state(judgement, margin), *change
        elif judgement is item.judgements[0]:
            yield item.label, name_ratio(judgement), name_state(judgement, margin), "", "", "; ".join(judgement.reasons)


def _fold(table: str) -> str:
    """Return a table behind a fold, which Markdown on GitHub shows between empty lines."""
    return f"<details><summary>operators</summary>\n\n{table}\n\n</details>"
