"""The latency of every measured experiment, with its interval: a chart for each network and image size."""

from collections.abc import Iterator, Sequence
from itertools import accumulate

from sdbench.report.chart_model import Chart, IntervalChart, LineChart, LinePoint
from sdbench.report.format import describe_useless_interval, format_percent
from sdbench.report.grouping import group_by
from sdbench.report.labels import split_labels
from sdbench.report.model import Section
from sdbench.report.questions import TRY_OUT, by_image, is_for_buyers
from sdbench.report.series import Measured, Source, needs_log_scale
from sdbench.units import format_count, format_duration

TITLE = "How long does a call take?"
# An interval on logs is not symmetric: at 10 % its sides are 9 and 10 %, beyond that ± would mislead.
_MAX_SYMMETRIC_HALF_WIDTH = 0.1
# So much of it fits on the first screen.
_FIRST_CHARTS, _FIRST_ROWS, _ROWS_OF_LINES = 2, 12, 6
# So many values of the steps, or half as many on two lines, are a line and not dots.
_STEPS_OF_A_LINE = 3


def build(source: Source) -> Section | str:
    """Return the latency charts (s) that are not on the first screen, and which experiments have no interval."""
    if not source.measured:
        return "No experiment was measured, so there is no latency to show."
    charts = latency_charts(source)[len(first_screen_charts(source)) :]
    if not charts:
        return "Every latency is in the charts at the top of the page."
    return Section(paragraphs=tuple(_without_interval(source)), charts=charts)


def first_screen_charts(source: Source) -> tuple[Chart, ...]:
    """Return the first charts, as many as fit on the first screen of a page about one run."""
    charts = () if source.several else latency_charts(source)[:_FIRST_CHARTS]
    rows = accumulate(_ROWS_OF_LINES if isinstance(chart, LineChart) else len(chart.marks) for chart in charts)
    return tuple(chart for chart, count in zip(charts, rows, strict=True) if count <= _FIRST_ROWS)


def latency_charts(source: Source) -> tuple[IntervalChart | LineChart, ...]:
    """Return a chart of latencies (s) per network and image size, with lines where the steps were varied."""
    charts: list[IntervalChart | LineChart] = []
    for name, members in by_image(source.measured).items():
        lines = _step_lines(source, members)
        in_lines = {id(point) for line in lines.values() for point in line}
        if lines:
            charts.append(_line_chart(source, name, lines))
        marks = [
            source.mark(point, point.interval, _words(source, point), is_open=point.is_open)
            for point in members
            if id(point) not in in_lines
        ]
        if marks:
            caption = _caption(members)
            charts.append(source.chart("points", "Latency per call", caption, "seconds per call", marks))
    return tuple(charts)


def _step_lines(source: Source, members: Sequence[Measured]) -> dict[str, list[Measured]]:
    """The points that differ in their steps only, by what they share: two step counts on two lines, or three."""
    families = group_by(members, lambda point: (point.experiment.model_copy(update={"steps": 1}), point.machine.name))
    several = [family for family in families.values() if len(family) > 1]
    counts = [len({point.experiment.steps for point in family}) for family in several]
    if not several or (len(several) == 1 and counts[0] < _STEPS_OF_A_LINE):
        return {}
    lines: dict[str, list[Measured]] = {}
    for family in several:
        shared, _ = split_labels([point.label for point in family])
        line = f"{shared}, {family[0].machine.name}" if source.several else shared
        lines.setdefault(line, []).extend(sorted(family, key=lambda point: point.experiment.steps))
    return lines


def _line_chart(source: Source, name: str, lines: dict[str, list[Measured]]) -> LineChart:
    shared, own = split_labels(list(lines))
    points = tuple(
        LinePoint(line=own[line], x=point.experiment.steps, **point.interval._asdict())
        for line, members in lines.items()
        for point in members
    )
    values = [end for point in points for end in (point.low, point.value, point.high) if end is not None]
    sentences = (
        f"{line}: " + ", ".join(f"{_words(source, point)} at {point.experiment.steps} steps" for point in members)
        for line, members in lines.items()
    )
    everything = [point for members in lines.values() for point in members]
    return LineChart(
        title=f"Latency over the steps, {shared or name}",
        alt=f"Latency per call over the steps, {name}: {'; '.join(sentences)}",
        caption=_caption(everything, "Band"),
        x_axis="steps",
        axis="seconds per call",
        log_scale=needs_log_scale(values),
        points=points,
    )


def _words(source: Source, measured: Measured) -> str:
    """The latency with its interval as ± percent; as its ends where it is so wide that the two sides differ."""
    estimate = measured.estimate
    value = format_duration(estimate.value)
    if measured.is_reference:
        return value if source.several else f"{value} (reference result)"
    if not estimate.is_useful or estimate.low is None or estimate.high is None:
        return f"{value} ({describe_useless_interval(estimate)})"
    half_width = estimate.relative_half_width or 0.0
    if half_width <= _MAX_SYMMETRIC_HALF_WIDTH:
        return f"{value} ± {format_percent(half_width)}"
    return f"{value} [{format_duration(estimate.low)}, {format_duration(estimate.high)}]"


def _caption(members: Sequence[Measured], interval: str = "Whiskers") -> str:
    words = [] if all(map(is_for_buyers, members)) else [TRY_OUT]
    words.append("Prompt to images, from the stock pipeline.")
    with_interval = [point for point in members if not point.is_reference and point.estimate.is_useful]
    if with_interval:
        confidences = sorted({point.planned.protocol.confidence for point in with_interval})
        levels = " or ".join(map(format_percent, confidences))
        words.append(f"{interval}: {levels} interval of the launches (Student's t on the logs of their medians).")
    return " ".join(words)


def _without_interval(source: Source) -> Iterator[str]:
    if open_count := sum(point.is_open for point in source.own):
        yield (
            f"{format_count(open_count, 'experiment')} without an interval: "
            "it takes three launches that agree within a factor of ten."
        )
    if reference_count := len(source.measured) - len(source.own):
        yield f"{format_count(reference_count, 'reference result')}: one number each, no samples, so no interval."
