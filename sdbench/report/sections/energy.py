"""What an image takes in energy and money."""

from sdbench.report.chart_model import IntervalChart, IntervalMark
from sdbench.report.costs import IMAGE_COUNT, Cost, cost_of_images, format_cost
from sdbench.report.model import Section
from sdbench.report.points import Measured, Source
from sdbench.report.resources import energy_per_image
from sdbench.schema.base import Known, Unknown
from sdbench.units import round_significant

TITLE = "What does an image cost?"
_DIGITS = 3
_NO_PRICE = "No price was given, so there is no cost: sdbench report RUN --price '1.20 EUR/h'."


def build(source: Source) -> Section:
    """Return the energy (J) and the cost per image of each experiment, as far as they are known."""
    energies = [(m, energy_per_image(m.point)) for m in source.measured]
    known = [(m, energy.value) for m, energy in energies if isinstance(energy, Known)]
    costs = [(m, cost) for m in source.measured if (cost := cost_of_images(source, m)) is not None]
    reasons = dict.fromkeys(energy.reason for _, energy in energies if isinstance(energy, Unknown))
    unknown = f"Energy of the others is not known: {'; '.join(reasons)}." if reasons else ""
    charts = (*((_energy_chart(source, known),) if known else ()), *_cost_charts(source, costs))
    words = (unknown.replace(" of the others", "") if not known else unknown, "" if costs else _NO_PRICE)
    return Section(name="energy", title=TITLE, paragraphs=tuple(filter(None, words)), charts=charts)


def _energy_chart(source: Source, known: list[tuple[Measured, float]]) -> IntervalChart:
    marks = tuple(_mark(source, m, value, None, None, f"{round_significant(value, _DIGITS)} J") for m, value in known)
    return _chart(
        source,
        marks,
        what="Energy per image",
        caption="Energy per image: what the device's own counter rose by over the steady calls of the counted "
        "launches, through the number of images. A GPU's counter has the card only, a CPU's its package only.",
        axis="J per image",
    )


def _cost_charts(source: Source, costs: list[tuple[Measured, Cost]]) -> list[IntervalChart]:
    """One chart per currency: amounts of two do not stand on one axis."""
    charts = []
    for currency in dict.fromkeys(cost.currency for _, cost in costs):
        marks = tuple(
            _mark(source, m, cost.value, cost.low, cost.high, format_cost(cost))
            for m, cost in costs
            if cost.currency == currency
        )
        unit = f" ({currency})" if currency else ""
        charts.append(
            _chart(
                source,
                marks,
                what=f"Cost of {IMAGE_COUNT:,} images{unit}",
                caption=f"Cost of {IMAGE_COUNT:,} images: the price of an hour over the throughput, as if the "
                "machine were never idle. Whiskers: the latency's interval, carried over.",
                axis=f"{currency} per {IMAGE_COUNT:,} images".strip(),
            )
        )
    return charts


def _chart(source: Source, marks: tuple[IntervalMark, ...], *, what: str, caption: str, axis: str) -> IntervalChart:
    return IntervalChart(
        kind="bars",
        alt=f"{what}: " + "; ".join(f"{mark.label} {mark.text}" for mark in marks),
        caption=caption,
        axis=axis,
        log_scale=False,
        machines=source.machine_names,
        marks=marks,
    )


def _mark(
    source: Source, measured: Measured, value: float, low: float | None, high: float | None, text: str
) -> IntervalMark:
    machine = measured.point.machine.name
    words = f"{text} {machine}" if source.several else text
    return IntervalMark(label=measured.point.label, machine=machine, value=value, low=low, high=high, text=words)
