"""Every raw sample, so that a reader can see what an interval cannot say."""

from statistics import median

from sdbench.report.chart_model import SampleChart, SampleKind, SampleMark
from sdbench.report.model import Section
from sdbench.report.points import Point, Source, needs_log_scale
from sdbench.report.text import format_count
from sdbench.schema.outcome import was_throttled

TITLE = "Every sample"


def build(source: Source) -> Section:
    """Return the chart of all latency samples, each as a ratio to the median of its experiment."""
    marks = tuple(mark for point in source.points for mark in _marks(point))
    if not marks:
        return Section(name="samples", title=TITLE, paragraphs=("No launch ended, so there are no samples to show.",))
    counts = {kind: sum(mark.kind == kind for mark in marks) for kind in ("steady", "warm-up", "throttled")}
    log_scale = needs_log_scale([mark.ratio for mark in marks])
    chart = SampleChart(
        alt=f"Every latency sample by experiment and launch: {counts['steady']} steady, {counts['warm-up']} warm-ups, "
        f"{counts['throttled']} of throttled launches. The record holds the values.",
        caption=f"{format_count(len(marks), 'sample')}, each divided by the median of its experiment's steady samples; "
        "one line of points per launch. Circle: steady. Open triangle: warm-up, kept and not counted. "
        "Diamond: of a throttled launch, kept; the launch that replaced it counts.",
        axis="sample / median of the experiment" + (", log scale" if log_scale else ""),
        log_scale=log_scale,
        machines=source.machine_names,
        marks=marks,
    )
    return Section(name="samples", title=TITLE, charts=(chart,))


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
