"""What a page can hold: of long tables, charts and lists the first items, with notes about the rest."""

from collections.abc import Sequence
from itertools import accumulate
from operator import attrgetter
from typing import Any

from sdbench.report.chart_model import (
    AnswerChart,
    ChangeChart,
    Chart,
    LineChart,
    RatioChart,
    RooflineChart,
    ShareChart,
    TraceChart,
)
from sdbench.report.format import limit_rows
from sdbench.report.grouping import group_by
from sdbench.report.model import Detail, PrecisionSection, ResultsSection, Section

# A chart of more rows cannot be read, and each row costs about 1 KB and 2 ms.
CHART_ROWS = 20
CHART_LINES = 12
ALT_CHARACTERS = 800
# A row costs about 0.4 KB, and a page of 400 results has to stay below 300 KiB.
TABLE_ROWS = 22
# Sections that list something other than results: their tables may be longer.
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
DRAWN_ONE_BY_ONE = frozenset({"latency", "memory", "operators", "phases", "projection", "roofline", "samples", "work"})

# Beyond these limits, write a site with a page per run.
RUNS = 60
RESULTS = 50_000


def limit_section(section: Section, notes: Sequence[str] = ()) -> Section:
    """Return a section whose charts and tables hold no more rows than a page can, with notes at its end."""
    if isinstance(section, ResultsSection):
        return section
    most = LIST_ROWS if section.name in LISTS else TABLE_ROWS
    update: dict[str, Any] = {
        "charts": tuple(map(limit_chart, section.charts[:CHARTS])),
        "tables": tuple(limit_rows(table, most, "the others are not on this page") for table in section.tables),
        "details": limit_details(section.details),
    }
    left_out = [(len(section.charts) - CHARTS, "chart"), (len(section.details) - len(update["details"]), "folded text")]
    if isinstance(section, PrecisionSection):
        update["series"] = section.series[:SERIES]
        left_out.append((len(section.series) - SERIES, "series of pictures"))
    cut = [f"{count:,} more ({noun}) are not on this page." for count, noun in left_out if count > 0]
    return section.model_copy(update=update | {"paragraphs": (*section.paragraphs, *cut, *notes)})


def limit_details(details: Sequence[Detail]) -> tuple[Detail, ...]:
    """Return the first texts behind folds: so many, and together so long, as a page can hold."""
    lengths = accumulate(len(detail.text) for detail in details[:DETAILS])
    return tuple(detail for detail, length in zip(details, lengths, strict=False) if length <= DETAILS_CHARACTERS)


def limit_chart(chart: Chart) -> Chart:
    """Return a chart of the first rows, lines or points, with how many there are in its caption."""
    update: dict[str, Any] = {}
    if len(chart.alt) > ALT_CHARACTERS:
        update["alt"] = f"{chart.alt[:ALT_CHARACTERS]}… and more"
    if isinstance(chart, TraceChart):
        name, most, noun = "points", TRACE_POINTS, "points"
        groups: dict[Any, list[Any]] = {number: [point] for number, point in enumerate(chart.points)}
    elif isinstance(chart, LineChart):
        name, most, noun = "points", CHART_LINES, "lines"
        groups = group_by(chart.points, attrgetter("line"))
        kept = list(groups)[:most]
        update["stops"] = tuple(stop for stop in chart.stops if stop.line in kept)
        groups = {line: points[:LINE_POINTS] for line, points in groups.items()}
    elif isinstance(chart, RatioChart | AnswerChart | ChangeChart | RooflineChart):
        return chart.model_copy(update=update)
    else:
        name, most, noun = "shares" if isinstance(chart, ShareChart) else "marks", CHART_ROWS, "rows"
        groups = group_by(getattr(chart, name), attrgetter("label", "machine"))
    update[name] = tuple(item for members in list(groups.values())[:most] for item in members)
    if len(groups) > most:
        update["caption"] = f"{chart.caption} The first {most:,} of {len(groups):,} {noun}."
    return chart.model_copy(update=update)
