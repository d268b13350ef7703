"""One number per launch: the metrics that claims are about."""

from dataclasses import dataclass
from statistics import median

from sdbench.schema.base import Known
from sdbench.schema.manifest import Metric
from sdbench.schema.outcome import (
    AnyOutcome,
    Launch,
    Published,
    Succeeded,
    counted_launches,
    find_search,
    launches_of,
    measuring_launches,
)
from sdbench.schema.record import Record, Result
from sdbench.schema.study import PrecisionStudy

_SECONDS_PER_MINUTE = 60.0


@dataclass(frozen=True)
class Values:
    """A metric of one experiment: a value per launch, in its unit.

    ``exact`` values are counts, not estimates; ``at_least`` marks one where the search ended at its upper end.
    """

    per_launch: tuple[float, ...]
    published: bool = False
    exact: bool = False
    at_least: bool = False


def batch_of(result: Result) -> int:
    """Return how many images a call of an experiment made: what a search found, else what was asked."""
    search = find_search(launches_of(result.outcome))
    return search.largest_batch if search and search.largest_batch else result.planned.experiment.batch


def read_metric(record: Record, result: Result, metric: Metric, at_steps: int | None) -> Values | str:
    """Return a metric of one result, or in words why it has none."""
    outcome = result.outcome
    if isinstance(outcome, Published):
        return _published(result, outcome, metric)
    if not isinstance(outcome, Succeeded):
        return f"{result.planned.label}: {_why_not(outcome)}"
    launches = counted_launches(outcome.launches)
    match metric:
        case "largest_batch":
            return _largest_batch(outcome)
        case "dissimilarity":
            return _dissimilarities(launches, at_steps)
        case "memory_bytes":
            return _memory(launches, on_cuda=record.device.startswith("cuda"))
        case _:
            return _latencies(launches, per_minute=metric == "throughput_images_per_min")


def _largest_batch(outcome: Succeeded) -> Values | str:
    search = find_search(outcome.launches)
    if search is None:
        return "no search for the largest batch"
    if not measuring_launches(outcome.launches):
        return "the largest batch was not confirmed by a full measurement"
    return Values((search.largest_batch,), exact=True, at_least=search.largest_batch == search.batch_max)


def _published(result: Result, outcome: Published, metric: Metric) -> Values | str:
    match metric:
        case "latency_s":
            value = outcome.latency_s
        case "throughput_images_per_min":
            value = result.planned.experiment.batch * _SECONDS_PER_MINUTE / outcome.latency_s
        case "memory_bytes" if isinstance(outcome.memory_bytes, Known):
            value = float(outcome.memory_bytes.value)
        case "largest_batch":
            value = float(result.planned.experiment.batch)
        case _:
            return "the source has no figure of it"
    return Values((value,), published=True)


def _why_not(outcome: AnyOutcome) -> str:
    if outcome.kind == "skipped":
        return f"skipped, {outcome.reason}"
    return outcome.kind.replace("_", " ")


def _latencies(launches: tuple[Launch, ...], *, per_minute: bool) -> Values | str:
    found = [
        (launch.batch, median(latency.steady))
        for launch in launches
        if (latency := launch.find_series("latency")) and latency.steady
    ]
    if not found:
        return "no latency was measured"
    return Values(
        tuple(batch * _SECONDS_PER_MINUTE / latency_s if per_minute else latency_s for batch, latency_s in found)
    )


def _memory(launches: tuple[Launch, ...], *, on_cuda: bool) -> Values | str:
    """The figure that speaks for the device: torch's reserved peak, as in the 2022 study, or the host's RSS peak."""
    name = "torch_reserved_peak_bytes" if on_cuda else "host_rss_peak_bytes"
    readings = [getattr(launch.memory, name) for launch in launches]
    known = tuple(float(reading.value) for reading in readings if isinstance(reading, Known) and reading.value)
    return Values(known) if known else f"{name} is unknown"


def _dissimilarities(launches: tuple[Launch, ...], at_steps: int | None) -> Values | str:
    values = []
    for study in (launch.study for launch in launches if isinstance(launch.study, PrecisionStudy)):
        item = next((item for item in study.sweep if item.steps == at_steps), None)
        if item is None:
            return f"no run of {at_steps} steps"
        if not isinstance(item.ssim, Known):
            return f"SSIM at {at_steps} steps: {item.ssim.reason}"
        values.append(1 - item.ssim.value)
    return Values(tuple(values)) if values else "nothing was compared"
