"""Images per minute over the batch size."""

from collections.abc import Mapping, Sequence

from sdbench.report.chart_model import LineChart, LinePoint, LineStop
from sdbench.report.model import Section
from sdbench.report.points import Measured, Point, Source, needs_log_scale
from sdbench.report.text import format_number
from sdbench.schema.experiment import at_batch
from sdbench.schema.outcome import OutOfMemory, find_search

TITLE = "What does a larger batch give?"
# The experiment with one image a call, and the machine.
Key = tuple[str, str]


def build(source: Source) -> Section:
    """Return the throughput (images per minute) of experiments that differ in nothing but the batch."""
    families = _families(source)
    stops = _stops(source, families)
    lines = {key: members for key, members in families.items() if len(members) > 1 or key in stops}
    if not lines:
        sentence = "No experiment was measured at more than one batch size, so there is no line to draw."
        return Section(name="throughput", title=TITLE, paragraphs=(sentence,))
    names = {key: _line_name(source, members[0]) for key, members in lines.items()}
    points = tuple(_point(names[key], m) for key, members in lines.items() for m in members)
    crosses = tuple(
        LineStop(line=names[key], x=stops[key], value=members[-1].images_per_min)
        for key, members in lines.items()
        if key in stops
    )
    ends = [end for point in points for end in (point.value, point.low, point.high) if end is not None]
    log_scale = needs_log_scale(ends)
    chart = LineChart(
        alt="Images per minute by batch size: "
        + "; ".join(_sentence(names[key], members, stops.get(key)) for key, members in lines.items()),
        caption="Images per minute by batch size. Band: the latency's interval, converted."
        + (
            " Cross: the least batch for which memory did not suffice, at the height of the one before."
            if crosses
            else ""
        ),
        x_axis="batch size",
        doubling=True,
        axis="images per minute, log scale" if log_scale else "images per minute",
        log_scale=log_scale,
        points=points,
        stops=crosses,
    )
    return Section(name="throughput", title=TITLE, charts=(chart,))


def _families(source: Source) -> dict[Key, list[Measured]]:
    """The measured points by what they would be with one image a call, the smallest batch first."""
    families: dict[Key, list[Measured]] = {}
    for measured in sorted(source.measured, key=lambda m: m.point.batch):
        families.setdefault(_key(measured.point), []).append(measured)
    # In the order of the page, not of the batches.
    return {key: families[key] for key in (_key(measured.point) for measured in source.measured)}


def _stops(source: Source, families: Mapping[Key, Sequence[Measured]]) -> dict[Key, int]:
    """Per line the least batch, above all that were measured, for which memory did not suffice."""
    found: dict[Key, int] = {}
    for point in source.points:
        if point.experiment.workload not in ("latency", "largest-batch"):
            continue
        key = _key(point)
        search = find_search(point.launches)
        failed = [probe.batch for probe in search.probes if not probe.fits] if search else []
        if isinstance(point.outcome, OutOfMemory) and point.experiment.workload == "latency":
            failed.append(point.experiment.batch)
        largest = families[key][-1].point.batch if key in families else None
        above = [batch for batch in failed if largest is not None and batch > largest]
        if above:
            found[key] = min(*above, found.get(key, above[0]))
    return found


def _key(point: Point) -> Key:
    return (_id_of_one(point), point.machine.name)


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


def _sentence(line: str, members: list[Measured], stop: int | None) -> str:
    rates = ", ".join(f"{format_number(m.images_per_min)} at batch {m.point.batch}" for m in members)
    return f"{line}: {rates}" + (f", out of memory at batch {stop}" if stop else "")
