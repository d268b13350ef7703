"""What images cost: the price of an hour over the throughput, with the latency's interval carried over."""

from dataclasses import dataclass

from sdbench.report.points import Measured, Source
from sdbench.units import round_significant

IMAGE_COUNT = 1000
_MINUTES_PER_HOUR = 60.0
_DIGITS = 3


@dataclass(frozen=True)
class Cost:
    """What 1,000 images cost, with its interval, in a currency."""

    value: float
    low: float | None
    high: float | None
    currency: str


def cost_of_images(source: Source, measured: Measured) -> Cost | None:
    """Return what 1,000 images of an experiment cost on its machine, or None where no price is given."""
    record = measured.point.machine.record
    price = source.prices.find(record.device_name, published=record.origin == "imported")
    if price is None:
        return None

    def cost_at(latency_s: float) -> float:
        return price.per_hour / (measured.images_per_min_at(latency_s) * _MINUTES_PER_HOUR) * IMAGE_COUNT

    estimate = measured.estimate
    return Cost(
        value=cost_at(estimate.value),
        low=None if estimate.low is None else cost_at(estimate.low),
        high=None if estimate.high is None else cost_at(estimate.high),
        currency=price.currency,
    )


def format_cost(cost: Cost) -> str:
    """Return a cost with its interval and currency: ``0.35 [0.34, 0.36] EUR``."""
    words = [round_significant(cost.value, _DIGITS)]
    if cost.low is not None and cost.high is not None:
        words.append(f"[{round_significant(cost.low, _DIGITS)}, {round_significant(cost.high, _DIGITS)}]")
    return " ".join([*words, cost.currency]).strip()


def cost_lines(source: Source, measured: Measured) -> list[str]:
    """Return the line about cost for a card; none when no price is given."""
    cost = cost_of_images(source, measured)
    return [f"{IMAGE_COUNT:,} images cost {format_cost(cost)}"] if cost else []


def unpriced_names(source: Source) -> list[str]:
    """Return the prices' names that no machine's name contains."""
    devices = [machine.record.device_name.lower() for machine in source.machines]
    return [text for text in source.prices.by_name if not any(text.lower() in device for device in devices)]
