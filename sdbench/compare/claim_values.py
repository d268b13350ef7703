"""The values that a claim is about: one per launch, of one experiment or of a pair read from the same source."""

from collections.abc import Sequence
from dataclasses import dataclass

from sdbench.compare.comparability import explain_outcome
from sdbench.schema.base import Known, Unknown
from sdbench.schema.manifest import Metric
from sdbench.schema.metrics import (
    METRIC_TITLES,
    common_source,
    explain_missing,
    images_per_min,
    launches_that_count,
    values,
)
from sdbench.schema.outcome import Launch, ReferenceResult, Succeeded, find_search, measuring_launches
from sdbench.schema.record import Result
from sdbench.schema.workload_results import PrecisionResult


class NotTested(Exception):
    """Why these results do not test a claim."""


@dataclass(frozen=True)
class Values:
    """A metric of one experiment: a value per launch, in its unit.

    ``exact`` values are counts, not estimates; ``at_least`` marks one where the search ended at its upper end.
    """

    per_launch: tuple[float, ...]
    reference: bool = False
    exact: bool = False
    at_least: bool = False


def read_values(results: Sequence[tuple[Result, int | None]], metric: Metric) -> tuple[Values, ...]:
    """Return a metric of each result, which comes with the steps of its precision run.

    Raises:
        NotTested: a result has no value, or there is no source that all of them know.
    """
    source = None
    launches = [launches_that_count(result.outcome) for result, _ in results]
    if metric != "largest_batch" and metric != "dissimilarity" and len(results) > 1 and all(launches):  # noqa: PLR1714
        common = common_source(metric, *launches)
        if isinstance(common, Unknown):
            raise NotTested(common.reason)
        source = common.value
    return tuple(_read(result, metric, at_steps, source) for result, at_steps in results)


def _read(result: Result, metric: Metric, at_steps: int | None, source: str | None) -> Values:
    outcome = result.outcome
    if isinstance(outcome, ReferenceResult):
        return Values((_read_reference(result, outcome, metric),), reference=True)
    if not isinstance(outcome, Succeeded):
        raise NotTested(f"{result.planned.label}: {explain_outcome(outcome)}")
    launches = launches_that_count(outcome)
    if metric == "largest_batch":
        return _read_largest_batch(outcome)
    if metric == "dissimilarity":
        return Values(_read_dissimilarities(launches, at_steps))
    if known := values(metric, launches, source):
        return Values(known)
    raise NotTested(f"{METRIC_TITLES[metric]}: {explain_missing(metric, launches)}")


def _read_largest_batch(outcome: Succeeded) -> Values:
    search = find_search(outcome.launches)
    if search is None:
        raise NotTested("no search for the largest batch")
    if not measuring_launches(outcome.launches):
        raise NotTested("the largest batch was not confirmed by a full measurement")
    return Values((search.largest_batch,), exact=True, at_least=search.largest_batch == search.batch_max)


def _read_reference(result: Result, outcome: ReferenceResult, metric: Metric) -> float:
    batch = result.planned.experiment.batch
    match metric:
        case "latency_s":
            return outcome.latency_s
        case "throughput_images_per_min":
            return images_per_min(batch, outcome.latency_s)
        case "memory_bytes" if isinstance(outcome.memory_bytes, Known):
            return float(outcome.memory_bytes.value)
        case "largest_batch":
            return float(batch)
    raise NotTested("not recorded by the source")


def _read_dissimilarities(launches: Sequence[Launch], at_steps: int | None) -> tuple[float, ...]:
    compared = [launch.workload_result for launch in launches if isinstance(launch.workload_result, PrecisionResult)]
    if not compared:
        raise NotTested("nothing was compared")
    dissimilarities = []
    for comparison in compared:
        item = next((item for item in comparison.sweep if item.steps == at_steps), None)
        if item is None:
            raise NotTested(f"no run of {at_steps} steps")
        if not isinstance(item.ssim, Known):
            raise NotTested(f"SSIM at {at_steps} steps: {item.ssim.reason}")
        dissimilarities.append(1 - item.ssim.value)
    return tuple(dissimilarities)
