"""What a page can hold: of long tables and charts the first rows, with words that say so. All results has every row."""

from collections.abc import Sequence
from dataclasses import replace
from typing import TypeVar

from sdbench.report.chart_model import Chart, IntervalChart, LineChart, RatioChart
from sdbench.report.model import ResultsSection, Section, Table
from sdbench.report.points import Source

# A chart of more rows is no picture any more, and each row costs about 1 KB and 2 ms.
CHART_ROWS = 30
CHART_LINES = 12
ALT_CHARACTERS = 800
# A row costs about 0.4 KB, and a page of 400 results has to stay below 300 KiB.
TABLE_ROWS = 22

# So many results are drawn at most; of sections that draw each of them, only these are built at all.
RESULTS_DRAWN = 120
DRAWN_ONE_BY_ONE = frozenset({"latency", "memory", "phases", "projection", "samples"})

# More than these are a site, of a page for each.
RUNS = 60

S = TypeVar("S", bound=Section)


def limit_source(source: Source) -> Source:
    """Return the first results of a page, for sections that draw each of them."""
    return source if len(source.points) <= RESULTS_DRAWN else replace(source, points=source.points[:RESULTS_DRAWN])


def say_limit(section: S, source: Source) -> S:
    """Return a section that was built from the first results only, with words that say so."""
    text = f"Drawn from the first {RESULTS_DRAWN} of {len(source.points):,} results; All results has every one."
    return section.model_copy(update={"paragraphs": (*section.paragraphs, text)})


def limit_section(section: S) -> S:
    """Return a section whose charts and tables hold no more rows than a page can."""
    if isinstance(section, ResultsSection):
        return section
    charts = tuple(map(limit_chart, section.charts))
    return section.model_copy(update={"charts": charts, "tables": tuple(map(limit_table, section.tables))})


def limit_table(table: Table) -> Table:
    """Return the first rows of a table, and how many there are."""
    if len(table.rows) <= TABLE_ROWS:
        return table
    note = f"The first {TABLE_ROWS} of {len(table.rows):,} rows; the record has all."
    return table.model_copy(update={"rows": table.rows[:TABLE_ROWS], "notes": (*table.notes, note)})


def limit_chart(chart: Chart) -> Chart:
    """Return a chart of the first rows, or lines, and how many there are; its label in words."""
    if len(chart.alt) > ALT_CHARACTERS:
        chart = chart.model_copy(update={"alt": f"{chart.alt[:ALT_CHARACTERS]}… and more, as in All results"})
    if isinstance(chart, RatioChart):
        return chart
    if isinstance(chart, LineChart):
        lines = list(dict.fromkeys(point.line for point in chart.points))
        kept = set(lines[:CHART_LINES])
        points = tuple(point for point in chart.points if point.line in kept)
        return chart.model_copy(update={"points": points, "caption": _told(chart.caption, lines, CHART_LINES, "lines")})
    name = "marks" if isinstance(chart, IntervalChart) or chart.kind == "samples" else "shares"
    items = getattr(chart, name)
    rows = list(dict.fromkeys((item.label, item.machine) for item in items))
    kept_rows = set(rows[:CHART_ROWS])
    kept_items = tuple(item for item in items if (item.label, item.machine) in kept_rows)
    return chart.model_copy(update={name: kept_items, "caption": _told(chart.caption, rows, CHART_ROWS, "rows")})


def _told(caption: str, found: Sequence[object], most: int, noun: str) -> str:
    return f"{caption} The first {most} of {len(found):,} {noun}." if len(found) > most else caption
