"""Images per minute over the batch size."""

from sdbench.report.chart_model import LineChart, LinePoint
from sdbench.report.model import Section
from sdbench.report.points import Measured, Point, Source, needs_log_scale
from sdbench.report.text import format_number
from sdbench.schema.experiment import at_batch

TITLE = "What does a larger batch give?"


def build(source: Source) -> Section:
    """Return the throughput (images per minute) of experiments that differ in nothing but the batch."""
    lines = _lines(source)
    if not lines:
        sentence = "No experiment was measured at more than one batch size, so there is no line to draw."
        return Section(name="throughput", title=TITLE, paragraphs=(sentence,))
    points = tuple(_point(line, m) for line, members in lines.items() for m in members)
    ends = [end for point in points for end in (point.value, point.low, point.high) if end is not None]
    log_scale = needs_log_scale(ends)
    chart = LineChart(
        alt="Images per minute by batch size: "
        + "; ".join(_sentence(line, members) for line, members in lines.items()),
        caption="Images per minute by batch size. Whiskers: the latency's interval, converted.",
        x_axis="batch size",
        doubling=True,
        axis="images per minute, log scale" if log_scale else "images per minute",
        log_scale=log_scale,
        points=points,
    )
    return Section(name="throughput", title=TITLE, charts=(chart,))


def _lines(source: Source) -> dict[str, list[Measured]]:
    families: dict[tuple[str, str], list[Measured]] = {}
    for measured in source.measured:
        point = measured.point
        families.setdefault((_id_of_one(point), point.machine.name), []).append(measured)
    return {
        _line_name(source, members[0]): sorted(members, key=lambda m: m.point.batch)
        for members in families.values()
        if len(members) > 1
    }


def _id_of_one(point: Point) -> str:
    """The id of the same experiment with one image a call."""
    experiment = point.experiment
    if experiment.batch == 1 and experiment.workload == "latency":
        return point.planned.experiment_id
    return at_batch(experiment, 1).experiment_id


def _line_name(source: Source, measured: Measured) -> str:
    point = measured.point
    name = at_batch(point.experiment, 1).label.replace("batch 1 ", "")
    return f"{name}, {point.machine.name}" if source.several else name


def _point(line: str, measured: Measured) -> LinePoint:
    estimate = measured.estimate
    return LinePoint(
        line=line,
        x=measured.point.batch,
        value=measured.images_per_min,
        # The slowest latency is the lowest throughput.
        low=None if estimate.high is None else measured.images_per_min_at(estimate.high),
        high=None if estimate.low is None else measured.images_per_min_at(estimate.low),
    )


def _sentence(line: str, members: list[Measured]) -> str:
    rates = ", ".join(f"{format_number(m.images_per_min)} at batch {m.point.batch}" for m in members)
    return f"{line}: {rates}"
