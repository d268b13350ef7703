"""What a page can hold: of long tables, charts and lists the first items, with words that say so."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, TypeVar

from sdbench.report.chart_model import Chart, IntervalChart, LineChart, LinePoint, RatioChart, TraceChart
from sdbench.report.model import Detail, FoldedSection, PrecisionSection, ResultsSection, Section, Table
from sdbench.report.points import Source

# A chart of more rows is no picture any more, and each row costs about 1 KB and 2 ms.
CHART_ROWS = 20
CHART_LINES = 12
ALT_CHARACTERS = 800
# A row costs about 0.4 KB, and a page of 400 results has to stay below 300 KiB.
TABLE_ROWS = 22
# What is a list by itself, and not a row for each result: it is there whole, as far as a page goes.
LISTS = frozenset({"claims", "checks", "machine", "unmeasured"})
LIST_ROWS = 250
# A point costs about 60 bytes.
LINE_POINTS = 200
TRACE_POINTS = 6_000
CHARTS = 40
SERIES = 24
DETAILS = 40
DETAILS_CHARACTERS = 200_000

# So many results are drawn at most; of sections that draw each of them, only these are built at all.
RESULTS_DRAWN = 120
DRAWN_ONE_BY_ONE = frozenset({"latency", "memory", "phases", "projection", "samples"})

# More than these are a site, of a page for each.
RUNS = 60
RESULTS = 50_000

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
    most = LIST_ROWS if section.name in LISTS else TABLE_ROWS
    update: dict[str, Any] = {
        "charts": tuple(map(limit_chart, section.charts[:CHARTS])),
        "tables": tuple(limit_table(table, most) for table in section.tables),
    }
    left_out = [(len(section.charts) - CHARTS, "chart")]
    if isinstance(section, FoldedSection):
        update["details"] = limit_details(section.details)
        left_out.append((len(section.details) - len(update["details"]), "folded text"))
    if isinstance(section, PrecisionSection):
        update["series"] = section.series[:SERIES]
        left_out.append((len(section.series) - SERIES, "series of pictures"))
    told = tuple(f"{count:,} more ({noun}) are not on this page." for count, noun in left_out if count > 0)
    return section.model_copy(update=update | {"paragraphs": (*section.paragraphs, *told)})


def limit_details(details: Sequence[Detail]) -> tuple[Detail, ...]:
    """Return the first texts behind folds: so many, and together so long, as a page can hold."""
    kept: list[Detail] = []
    characters = 0
    for detail in details[:DETAILS]:
        characters += len(detail.text)
        if characters > DETAILS_CHARACTERS:
            break
        kept.append(detail)
    return tuple(kept)


def limit_table(table: Table, most: int = TABLE_ROWS) -> Table:
    """Return the first rows of a table, and how many there are."""
    if len(table.rows) <= most:
        return table
    note = f"The first {most} of {len(table.rows):,} rows; the others are not on this page."
    return table.model_copy(update={"rows": table.rows[:most], "notes": (*table.notes, note)})


def limit_chart(chart: Chart) -> Chart:
    """Return a chart of the first rows, or lines, and how many there are; its label in words."""
    if len(chart.alt) > ALT_CHARACTERS:
        chart = chart.model_copy(update={"alt": f"{chart.alt[:ALT_CHARACTERS]}… and more"})
    if isinstance(chart, RatioChart):
        return chart
    if isinstance(chart, TraceChart):
        if len(chart.points) <= TRACE_POINTS:
            return chart
        told = f"{chart.caption} The first {TRACE_POINTS:,} of {len(chart.points):,} points."
        return chart.model_copy(update={"points": chart.points[:TRACE_POINTS], "caption": told})
    if isinstance(chart, LineChart):
        lines = list(dict.fromkeys(point.line for point in chart.points))
        kept = set(lines[:CHART_LINES])
        points = _first_of_each(tuple(point for point in chart.points if point.line in kept))
        caption = _told(chart.caption, lines, CHART_LINES, "lines")
        stops = tuple(stop for stop in chart.stops if stop.line in kept)
        return chart.model_copy(update={"points": points, "stops": stops, "caption": caption})
    name = "marks" if isinstance(chart, IntervalChart) or chart.kind == "samples" else "shares"
    items = getattr(chart, name)
    rows = list(dict.fromkeys((item.label, item.machine) for item in items))
    kept_rows = set(rows[:CHART_ROWS])
    kept_items = tuple(item for item in items if (item.label, item.machine) in kept_rows)
    return chart.model_copy(update={name: kept_items, "caption": _told(chart.caption, rows, CHART_ROWS, "rows")})


def _first_of_each(points: tuple[LinePoint, ...]) -> tuple[LinePoint, ...]:
    """The first points of each line."""
    counts: Counter[str] = Counter()
    kept = []
    for point in points:
        counts[point.line] += 1
        if counts[point.line] <= LINE_POINTS:
            kept.append(point)
    return tuple(kept)


def _told(caption: str, found: Sequence[object], most: int, noun: str) -> str:
    return f"{caption} The first {most} of {len(found):,} {noun}." if len(found) > most else caption
