"""The numbers of a site's index: how fast each machine makes an image of each kind, the fastest first."""

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from sdbench.report.chart_model import IntervalChart, IntervalMark
from sdbench.report.escape import clean
from sdbench.report.format import format_number, make_table, numbers, texts
from sdbench.report.model import LinkedCell, Table
from sdbench.report.naming import name_machines
from sdbench.report.questions import Demand, demand_of
from sdbench.report.series import needs_log_scale
from sdbench.schema.metrics import SECONDS_PER_MINUTE, batch_of, result_latency_s
from sdbench.schema.record import Record, Result
from sdbench.units import format_duration

_TEXTS, _NUMBERS = texts("Machine", "Image", "Fastest with"), numbers("seconds per image", "images/min")
_BARS = 20
# Each row is a machine, so that no colour distinguishes them.
_NO_LEGEND = ""


class ImageKind(NamedTuple):
    """What makes images comparable: they cost the same work on every machine."""

    pipeline: str
    width: int
    height: int
    steps: int

    def __str__(self) -> str:
        """Return the kind in words."""
        return f"{self.pipeline} {self.width}x{self.height}, {self.steps} steps"


class Fastest(NamedTuple):
    """A machine's fastest result for one kind of image."""

    kind: ImageKind
    machine: str
    page: str
    label: str
    image_s: float
    demand: Demand


def find_fastest(machines: Mapping[str, Sequence[Record]]) -> list[Fastest]:
    """Return, per kind of image and machine, the fastest result of its latest run: much work first."""
    names = dict(zip(machines, name_machines([records[-1] for records in machines.values()]), strict=True))
    fastest: dict[tuple[ImageKind, str], Fastest] = {}
    for page, records in machines.items():
        for record in records:  # a later run replaces an earlier one
            fastest |= {(item.kind, page): item for item in _read_record(record, names[page], page)}
    demands: dict[ImageKind, Demand] = {}
    for item in fastest.values():
        demands[item.kind] = max(item.demand, demands.get(item.kind, item.demand))
    by_speed = sorted(fastest.values(), key=lambda item: (item.kind, item.image_s))
    return sorted(by_speed, key=lambda item: demands[item.kind], reverse=True)


def _read_record(record: Record, machine: str, page: str) -> Iterator[Fastest]:
    """Yield what a run has, the slowest first, so that the fastest replaces the others."""
    items = [
        Fastest(
            _kind_of(result),
            machine,
            page,
            clean(result.planned.label),
            call_s / _batch_of(result),
            demand_of(result.planned.experiment, result.outcome),
        )
        for result in record.results
        if (call_s := result_latency_s(result.outcome)) is not None
    ]
    yield from sorted(items, key=lambda item: -item.image_s)


def _kind_of(result: Result) -> ImageKind:
    experiment = result.planned.experiment
    return ImageKind(clean(experiment.pipeline_title), experiment.width, experiment.height, experiment.steps)


def _batch_of(result: Result) -> int:
    return batch_of(result.planned, result.outcome)


def make_numbers_table(fastest: Sequence[Fastest]) -> Table:
    """Return one row per machine and kind of image."""
    rows = (
        (LinkedCell(text=item.machine, link=item.page), str(item.kind), item.label, *_rates(item)) for item in fastest
    )
    return make_table("Seconds per image, each machine at its fastest setting", (*_TEXTS, *_NUMBERS), rows)


def _rates(item: Fastest) -> tuple[float, float]:
    return item.image_s, SECONDS_PER_MINUTE / item.image_s


def make_numbers_chart(fastest: Sequence[Fastest]) -> IntervalChart | None:
    """Return a chart of the kind of image that most machines have made; None with one machine."""
    kinds = [item.kind for item in fastest]
    most = max(kinds, key=kinds.count, default=None)
    shown = [item for item in fastest if item.kind == most][:_BARS]
    if most is None or len(shown) < 2:  # noqa: PLR2004 - one bar compares nothing
        return None
    marks = tuple(
        IntervalMark(
            label=item.machine,
            machine=_NO_LEGEND,
            value=item.image_s,
            low=None,
            high=None,
            text=format_duration(item.image_s),
        )
        for item in shown
    )
    log_scale = needs_log_scale([item.image_s for item in shown])
    return IntervalChart(
        kind="points",
        alt=f"Seconds per image, {most}: "
        + "; ".join(f"{item.machine} {format_number(item.image_s)}" for item in shown),
        caption=f"{most}: seconds per image, each machine at its fastest setting; less is faster.",
        axis="seconds per image",
        log_scale=log_scale,
        machines=(_NO_LEGEND,),
        marks=marks,
    )
