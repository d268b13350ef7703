"""What an image takes in energy and money."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from sdbench.report.chart_model import IntervalChart
from sdbench.report.model import Section
from sdbench.report.questions import by_image, is_for_buyers
from sdbench.report.series import Interval, Measured, Source
from sdbench.schema.base import Known, Unknown
from sdbench.schema.metrics import result_energy_j
from sdbench.units import round_significant

TITLE = "What does an image cost?"
IMAGE_COUNT = 1000
_MINUTES_PER_HOUR = 60.0
_DIGITS = 3
_NO_PRICE = "No price was given, so there is no cost: sdbench report RUN --price '1.20 EUR/h'."
_ENERGY_CAPTION = (
    "Energy per image: what the device's own counter rose by over the steady calls of the counted launches, through "
    "the number of images. A GPU's counter has the card only, a CPU's its package only."
)
_COST_CAPTION = (
    f"Cost of {IMAGE_COUNT:,} images: the price of an hour over the throughput, as if the machine were never idle. "
    "Whiskers: the latency's interval, carried over."
)


class Cost(NamedTuple):
    """What 1,000 images cost, in a currency."""

    amount: Interval
    currency: str


def cost_of_images(source: Source, measured: Measured) -> Cost | None:
    """Return what 1,000 images of an experiment cost on its machine, or None where no price is given."""
    record = measured.machine.record
    price = source.prices.find(record.device_name, is_reference=record.origin == "imported")
    if price is None:
        return None
    per_min = price.per_hour / _MINUTES_PER_HOUR
    return Cost(measured.images_per_min.convert(lambda rate: per_min / rate * IMAGE_COUNT), price.currency)


def format_cost(cost: Cost) -> str:
    """Return a cost with its interval and currency: ``0.35 [0.34, 0.36] EUR``."""
    amount, *ends = [round_significant(end, _DIGITS) for end in cost.amount if end is not None]
    words = [amount, f"[{', '.join(ends)}]" if ends else "", cost.currency]
    return " ".join(filter(None, words))


def _charts(source: Source, image: str, members: Sequence[Measured]) -> Iterator[IntervalChart]:
    """The energy of one image, and its cost in a chart per currency: amounts of two do not stand on one axis."""
    known = [
        source.mark(point, Interval(energy.value), f"{round_significant(energy.value, _DIGITS)} J")
        for point in members
        if isinstance(energy := result_energy_j(point.outcome), Known)
    ]
    if known:
        yield source.chart("bars", f"Energy per image, {image}", _ENERGY_CAPTION, "J per image", known)
    costs = [(point, cost) for point in members if (cost := cost_of_images(source, point)) is not None]
    for currency in dict.fromkeys(cost.currency for _, cost in costs):
        what = f"Cost of {IMAGE_COUNT:,} images, {image}" + (f" ({currency})" if currency else "")
        axis = f"{currency} per {IMAGE_COUNT:,} images".strip()
        marks = (
            source.mark(point, cost.amount, format_cost(cost), is_open=point.is_open)
            for point, cost in costs
            if cost.currency == currency
        )
        yield source.chart("bars", what, _COST_CAPTION, axis, marks)


def build(source: Source) -> Section:
    """Return the energy (J) and the cost per image of each experiment, as far as they are known."""
    energies = [(point, result_energy_j(point.outcome)) for point in source.measured]
    costs = [(point, cost) for point in source.measured if (cost := cost_of_images(source, point)) is not None]
    images = by_image(filter(is_for_buyers, source.measured)).items()
    charts = [chart for image, members in images for chart in _charts(source, image, members)]
    paragraphs = [] if costs else [_NO_PRICE]
    reasons = dict.fromkeys(energy.reason for _, energy in energies if isinstance(energy, Unknown))
    if reasons:
        others = " of the others" if any(isinstance(energy, Known) for _, energy in energies) else ""
        paragraphs.insert(0, f"Energy{others} is not known: {'; '.join(reasons)}.")
    return Section(paragraphs=tuple(paragraphs), charts=tuple(charts))
