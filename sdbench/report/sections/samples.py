"""Every raw sample, to see what an interval hides."""

from collections import Counter
from collections.abc import Iterator, Sequence
from statistics import median
from typing import Literal

from sdbench.report.caps import CHART_ROWS
from sdbench.report.chart_model import SampleChart, SampleMark
from sdbench.report.model import Section
from sdbench.report.series import Point, Source, needs_log_scale
from sdbench.schema.metrics import steady_latencies_s
from sdbench.schema.outcome import was_throttled
from sdbench.units import format_count

TITLE = "Sample by sample"
_DOTS = 10_000


def build(source: Source) -> Section | str:
    """Return the chart of all latency samples, each as a ratio to the median of its experiment."""
    timed = [marks for point in source.points if (marks := list(_marks(point)))]
    if not timed:
        return "No launch ended, so there are no samples to show."
    sample_count = sum(len(series.samples) for launch in source.launches if (series := launch.find_series("latency")))
    shown = _thin([mark for marks in timed[:CHART_ROWS] for mark in marks])
    counts = Counter(mark.kind for mark in shown)
    log_scale = needs_log_scale([mark.ratio for mark in shown])
    some = f"{len(shown):,} of " if len(shown) < sample_count else ""
    rows = format_count(len(timed), "experiment")
    first = f"the first {CHART_ROWS} of {rows}" if len(timed) > CHART_ROWS else rows
    chart = SampleChart(
        alt=f"Latency samples by experiment and launch: {counts['steady']} steady, {counts['warm-up']} warm-ups, "
        f"{counts['throttled']} of throttled launches. The record holds the values.",
        caption=f"{some}{format_count(sample_count, 'sample')} of {first}, each divided by the median of "
        "its experiment's steady samples; one line of points per launch. Circle: steady. Open triangle: warm-up, kept "
        "and not counted. Diamond: of a throttled launch, kept; the launch that replaced it counts.",
        axis="sample / median of the experiment",
        log_scale=log_scale,
        machines=tuple(dict.fromkeys(mark.machine for mark in shown)),
        marks=shown,
    )
    return Section(charts=(chart,))


def _thin(marks: Sequence[SampleMark]) -> tuple[SampleMark, ...]:
    """Every k-th steady sample, and all others: a page of a million dots shows no more than one of a few thousand."""
    special = [mark for mark in marks if mark.kind != "steady"]
    kept = {id(mark) for mark in special[:: -(-len(special) * 2 // _DOTS) or 1]}
    steady = [mark for mark in marks if mark.kind == "steady"]
    kept |= {id(mark) for mark in steady[:: -(-len(steady) // max(1, _DOTS - len(kept))) or 1]}
    return tuple(mark for mark in marks if id(mark) in kept)


def _marks(point: Point) -> Iterator[SampleMark]:
    """The samples of a point, divided by the median steady sample of the launches that count, or else of all."""
    series = [
        (launch, latency) for launch in point.launches if (latency := launch.find_series("latency")) and latency.samples
    ]
    steady_s = [sample for launch in point.counted or point.launches for sample in steady_latencies_s(launch)]
    if not series or not steady_s or (median_s := median(steady_s)) <= 0:
        return
    for launch, latency in series:
        kind: Literal["throttled", "steady"] = "throttled" if was_throttled(launch) else "steady"
        # A mark takes 500 bytes: of a launch of millions of calls, every k-th becomes one.
        for place in range(0, len(latency.samples), -(-len(latency.samples) // _DOTS)):
            yield SampleMark(
                label=point.label,
                machine=point.machine.name,
                launch=launch.index,
                ratio=latency.samples[place] / median_s,
                kind="warm-up" if place < latency.warmup_count else kind,
            )
