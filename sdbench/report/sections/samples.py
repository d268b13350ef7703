"""Every raw sample, so that a reader can see what an interval cannot say."""

from collections.abc import Sequence
from statistics import median

from sdbench.report.chart_model import SampleChart, SampleKind, SampleMark
from sdbench.report.limits import CHART_ROWS
from sdbench.report.model import Section
from sdbench.report.points import Point, Source, needs_log_scale
from sdbench.report.text import format_count
from sdbench.schema.outcome import was_throttled

TITLE = "Sample by sample"
_DOTS = 10_000


def build(source: Source) -> Section:
    """Return the chart of all latency samples, each as a ratio to the median of its experiment."""
    timed = [marks for point in source.points if (marks := _marks(point))]
    if not timed:
        return Section(name="samples", title=TITLE, paragraphs=("No launch ended, so there are no samples to show.",))
    found = [mark for marks in timed[:CHART_ROWS] for mark in marks]
    shown = _thin(found)
    counts = {kind: sum(mark.kind == kind for mark in shown) for kind in ("steady", "warm-up", "throttled")}
    log_scale = needs_log_scale([mark.ratio for mark in shown])
    chart = SampleChart(
        alt=f"Latency samples by experiment and launch: {counts['steady']} steady, {counts['warm-up']} warm-ups, "
        f"{counts['throttled']} of throttled launches. The record holds the values.",
        caption=f"{_count_words(len(found), len(shown))} of {_rows_words(len(timed))}, each divided by the median of "
        "its experiment's steady samples; one line of points per launch. Circle: steady. Open triangle: warm-up, kept "
        "and not counted. Diamond: of a throttled launch, kept; the launch that replaced it counts.",
        axis="sample / median of the experiment" + (", log scale" if log_scale else ""),
        log_scale=log_scale,
        machines=tuple(dict.fromkeys(mark.machine for mark in shown)),
        marks=shown,
    )
    return Section(name="samples", title=TITLE, charts=(chart,))


def _thin(marks: Sequence[SampleMark]) -> tuple[SampleMark, ...]:
    """Every k-th steady sample beside all others: a page of a million dots shows no more than one of a few thousand."""
    special = [mark for mark in marks if mark.kind != "steady"]
    kept = {id(mark) for mark in special[:: -(-len(special) * 2 // _DOTS) or 1]}
    steady = [mark for mark in marks if mark.kind == "steady"]
    kept |= {id(mark) for mark in steady[:: -(-len(steady) // max(1, _DOTS - len(kept))) or 1]}
    return tuple(mark for mark in marks if id(mark) in kept)


def _rows_words(count: int) -> str:
    return (
        f"the first {CHART_ROWS} of {count:,} experiments" if count > CHART_ROWS else format_count(count, "experiment")
    )


def _count_words(found_count: int, shown_count: int) -> str:
    some = f"{shown_count:,} of " if shown_count < found_count else ""
    return some + format_count(found_count, "sample")


def _marks(point: Point) -> list[SampleMark]:
    series = [
        (launch, found) for launch in point.launches if (found := launch.find_series("latency")) and found.samples
    ]
    middle_s = _middle_s(point)
    if not series or middle_s <= 0:
        return []
    return [
        SampleMark(
            label=point.label,
            machine=point.machine.name,
            launch=launch.index,
            ratio=sample / middle_s,
            kind=_kind(position < found.warmup_count, throttled=was_throttled(launch)),
        )
        for launch, found in series
        for position, sample in enumerate(found.samples)
    ]


def _middle_s(point: Point) -> float:
    """The median steady sample (s) of the launches that count, or else of all."""
    launches = point.counted or point.launches
    steady = [sample for launch in launches if (found := launch.find_series("latency")) for sample in found.steady]
    return median(steady) if steady else 0.0


def _kind(is_warmup: bool, *, throttled: bool) -> SampleKind:
    if is_warmup:
        return "warm-up"
    return "throttled" if throttled else "steady"
