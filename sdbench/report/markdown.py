"""The page in short as Markdown, for a pull request or a terminal: the four answers and the verdicts."""

import re
from collections.abc import Iterable, Iterator, Sequence

from sdbench.report.model import CompareSection, ReportView, SummarySection, Table

# What Markdown, or HTML within it, would take for more than letters.
_SPECIAL = re.compile(r"([\\`*_{}\[\]<>|#~&!])")
# GitHub makes links and mentions of these even where they are escaped; a word joiner, which nobody sees, stops it.
_LIVE = re.compile(r"(?i)(@|://|www\.)")
_ROWS = 30


def format_markdown(view: ReportView) -> str:
    """Return the four answers, and the verdicts of the first pair of runs."""
    return "\n\n".join(_paragraphs(view)) + "\n"


def _paragraphs(view: ReportView) -> Iterator[str]:
    yield f"# {escape_markdown(view.title)}"
    yield escape_markdown(view.subtitle)
    if view.warning:
        yield f"> {escape_markdown(view.warning)}"
    for section in view.sections:
        if isinstance(section, SummarySection):
            yield f"**{escape_markdown(section.headline)}**"
            yield from map(escape_markdown, section.lead)
            for card in section.cards:
                yield f"**{escape_markdown(card.question)}** {escape_markdown(card.answer)}"
                yield "\n".join(f"- {escape_markdown(line)}" for line in (*card.lines, *card.commands))
        if isinstance(section, CompareSection):
            pair = section.pairs[0]
            yield f"## {escape_markdown(pair.title)}"
            yield escape_markdown(pair.answer)
            yield _table(pair.verdicts)
            if (more := len(pair.verdicts.rows) - _ROWS) > 0:
                yield f"{more} more rows in the report."


def _table(table: Table) -> str:
    rows = ([escape_markdown(cell.text) for cell in row] for row in table.rows[:_ROWS])
    return format_table([escape_markdown(column.title) for column in table.columns], rows)


def format_table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table of texts that are Markdown already."""
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def escape_markdown(text: str) -> str:
    """Return a text of which Markdown makes letters and nothing else."""
    return _LIVE.sub(lambda match: f"{match[0][0]}\u2060{match[0][1:]}", _SPECIAL.sub(r"\\\1", " ".join(text.split())))
