"""Images per minute over the batch size."""

from collections.abc import Mapping, Sequence

from sdbench.report.chart_model import LineChart, LinePoint
from sdbench.report.format import format_number
from sdbench.report.grouping import group_by
from sdbench.report.labels import split_labels
from sdbench.report.model import Section
from sdbench.report.questions import by_image, is_for_buyers, name_image
from sdbench.report.series import Measured, Point, Source, needs_log_scale
from sdbench.schema.experiment import at_batch
from sdbench.schema.outcome import OutOfMemory, find_search

TITLE = "What does a larger batch give?"
# The experiment with one image a call, and the machine.
Key = tuple[str, str]


def build(source: Source) -> Section | str:
    """Return the throughput (images per minute) of experiments that differ in nothing but the batch, per image size."""
    charts = (_chart(source, members) for members in by_image(filter(is_for_buyers, source.measured)).values())
    drawn = tuple(chart for chart in charts if chart is not None)
    if not drawn:
        return "No full-size experiment was measured at more than one batch size, so there is no line to draw."
    return Section(charts=drawn)


def _chart(source: Source, measured: Sequence[Measured]) -> LineChart | None:
    grouped = group_by(measured, _key)
    families = {key: sorted(members, key=lambda point: point.batch) for key, members in grouped.items()}
    stops = _stops(source, families)
    points: list[LinePoint] = []
    crosses: list[LinePoint] = []
    sentences = []
    drawn = {key: members for key, members in families.items() if len(members) > 1 or key in stops}
    names = {key: at_batch(members[0].experiment, 1).label for key, members in drawn.items()}
    shared, own = split_labels(list(names.values()))
    for key, members in drawn.items():
        first = members[0]
        line = f"{own[names[key]]}, {first.machine.name}" if source.several else own[names[key]]
        points += [LinePoint(line=line, x=point.batch, **point.images_per_min._asdict()) for point in members]
        rates = [f"{format_number(point.images_per_min.value)} at batch {point.batch}" for point in members]
        if key in stops:
            crosses.append(LinePoint(line=line, x=stops[key], value=members[-1].images_per_min.value))
            rates.append(f"out of memory at batch {stops[key]}")
        sentences.append(f"{line}: {', '.join(rates)}")
    if not points:
        return None
    caption = "Images per minute by batch size. Band: the latency's interval, converted."
    if crosses:
        caption += " Cross: the least batch for which memory did not suffice, at the height of the one before."
    log_scale = needs_log_scale([end for point in points for end in (point.value, point.low, point.high) if end])
    image = name_image(measured[0].experiment)
    return LineChart(
        title=f"Images per minute: {shared.replace('batch 1 ', '')}" if shared else f"Images per minute, {image}",
        alt=f"Images per minute by batch size, {image}: " + "; ".join(sentences),
        caption=caption,
        x_axis="batch size",
        doubling=True,
        axis="images per minute",
        log_scale=log_scale,
        points=tuple(points),
        stops=tuple(crosses),
    )


def _stops(source: Source, families: Mapping[Key, Sequence[Measured]]) -> dict[Key, int]:
    """Per line the least batch, above all that were measured, for which memory did not suffice."""
    stops: dict[Key, int] = {}
    for point in source.points:
        key, workload = _key(point), point.experiment.workload
        if workload not in ("latency", "largest-batch") or key not in families:
            continue
        search = find_search(point.launches)
        failed = [probe.batch for probe in search.probes if not probe.fits] if search else []
        if isinstance(point.outcome, OutOfMemory) and workload == "latency":
            failed.append(point.experiment.batch)
        above = [batch for batch in failed if batch > families[key][-1].batch]
        if above:
            stops[key] = min(*above, stops.get(key, above[0]))
    return stops


def _key(point: Point) -> Key:
    experiment = point.experiment
    if experiment.batch == 1 and experiment.workload == "latency":
        return (point.planned.experiment_id, point.machine.name)
    return (at_batch(experiment, 1).experiment_id, point.machine.name)
