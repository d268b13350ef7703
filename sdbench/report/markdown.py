"""The page in short as Markdown, for a pull request or a terminal: the four answers and the verdicts."""

import re
from collections.abc import Iterator

from sdbench.report.model import CompareSection, ReportView, SummarySection, Table

# What Markdown, or HTML within it, would take for more than letters.
_SPECIAL = re.compile(r"([\\`*_{}\[\]<>|#~&!])")
# GitHub makes links and mentions of these even where they are escaped; a word joiner, which nobody sees, stops it.
_LIVE = re.compile(r"(?i)(@|://|www\.)")
_ROWS = 30


def format_markdown(view: ReportView) -> str:
    """Return the four answers, and the verdicts of the first pair of runs."""
    return "\n".join(_lines(view)) + "\n"


def _lines(view: ReportView) -> Iterator[str]:
    yield f"# {_escape(view.title)}"
    yield ""
    yield _escape(view.subtitle)
    if view.notice:
        yield ""
        yield f"> {_escape(view.notice)}"
    for section in view.sections:
        if isinstance(section, SummarySection):
            for card in section.cards:
                yield ""
                yield f"**{_escape(card.question)}** {_escape(card.answer)}"
                yield ""
                yield from (f"- {_escape(line)}" for line in card.lines)
        if isinstance(section, CompareSection):
            pair = section.pairs[0]
            yield ""
            yield f"## {_escape(pair.title)}"
            yield ""
            yield _escape(pair.answer)
            yield ""
            yield from _table(pair.verdicts)


def _table(table: Table) -> Iterator[str]:
    yield _row([column.title for column in table.columns])
    yield f"|{' --- |' * len(table.columns)}"
    for row in table.rows[:_ROWS]:
        yield _row([cell.text for cell in row])
    if len(table.rows) > _ROWS:
        yield ""
        yield f"{len(table.rows) - _ROWS} more rows in the report."


def _row(texts: list[str]) -> str:
    return f"| {' | '.join(_escape(text) for text in texts)} |"


def _escape(text: str) -> str:
    return _LIVE.sub(lambda found: f"{found[0][0]}\u2060{found[0][1:]}", _SPECIAL.sub(r"\\\1", " ".join(text.split())))
