"""Which number stands for a launch: latency, throughput, memory and energy, decided here and nowhere else.

A metric is read from *sources* in order of preference, and compared only between launches that know the same source.
On a GPU, memory is what torch reserved at its peak (as in the 2022 study), else what the driver charges to the process;
the host's memory never stands for a GPU's.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from math import exp, fsum, log
from statistics import median
from typing import Literal

from sdbench.schema.base import Known, Reading, Unknown
from sdbench.schema.outcome import (
    AnyOutcome,
    Launch,
    MemoryUse,
    ReferenceResult,
    Succeeded,
    find_search,
    launches_of,
    measuring_launches,
    was_throttled,
)
from sdbench.schema.record import PlannedExperiment
from sdbench.schema.work import Work

MetricName = Literal["latency_s", "throughput_images_per_min", "memory_bytes", "energy_j"]

METRIC_TITLES: dict[MetricName, str] = {
    "latency_s": "latency",
    "throughput_images_per_min": "throughput",
    "memory_bytes": "memory",
    "energy_j": "energy",
}
SOURCE_TITLES = {
    "latency": "latency",
    "torch_reserved_peak_bytes": "torch reserved peak",
    "device_process_bytes": "GPU memory of the process",
    "host_rss_peak_bytes": "host RSS peak",
    "nvml": "NVML energy counter",
    "rapl": "RAPL energy counter",
}
SECONDS_PER_MINUTE = 60.0
# The series of calls after a time of load.
SUSTAINED = "latency.sustained"
# Phases are of the last warm-up call; beyond this ratio to the timed calls they are not those of a timed one.
PHASE_TOTAL_TOLERANCE = 0.05

# A picosecond, a picojoule: less is a broken clock or counter, and its logarithm would drown all others.
_VALUE_MIN = 1e-12
_GPU_MEMORY_SOURCES = ("torch_reserved_peak_bytes", "device_process_bytes")
_HOST_MEMORY_SOURCES = ("host_rss_peak_bytes",)
_ENERGY_SOURCES = ("nvml", "rapl")


@dataclass(frozen=True)
class MemoryRange:
    """Memory (bytes) over the launches that count: the median, the least and the most, and where it was read."""

    median_bytes: float
    low_bytes: float
    high_bytes: float
    launch_count: int
    source_title: str


def is_on_gpu(launch: Launch) -> bool:
    """Return whether a launch ran on a GPU."""
    return launch.environment.device.startswith("cuda")


def steady_latencies_s(launch: Launch) -> tuple[float, ...]:
    """Return the steady calls (s) of a launch; none where nothing was timed or a call did not take positive time."""
    series = launch.find_series("latency")
    return series.steady if series and min(series.steady, default=0.0) >= _VALUE_MIN else ()


def launches_that_count(outcome: AnyOutcome) -> tuple[Launch, ...]:
    """Return the launches that a result is made of: of a success, those not throttled whose calls were timed.

    Where all were throttled, or nothing was timed because the workload compares images, all of them count.
    """
    return counted_launches(outcome.launches) if isinstance(outcome, Succeeded) else ()


def counted_launches(launches: Sequence[Launch]) -> tuple[Launch, ...]:
    """Return those of launches that count, as in ``launches_that_count``."""
    measuring = measuring_launches(launches)
    timed = tuple(launch for launch in measuring if steady_latencies_s(launch)) or measuring
    return tuple(launch for launch in timed if not was_throttled(launch)) or timed


def latency_s(launch: Launch) -> float | None:
    """Return the latency (s per call) of a launch, the median of its steady calls; None where nothing was timed."""
    steady = steady_latencies_s(launch)
    return median(steady) if steady else None


def sustained_ratio(launch: Launch) -> float | None:
    """Return how many times as long a call takes after the protocol's load as before it, None where none was made."""
    series, short_s = launch.find_series(SUSTAINED), latency_s(launch)
    return median(series.steady) / short_s if series and series.steady and short_s else None


def result_sustained_ratio(outcome: AnyOutcome) -> float | None:
    """Return the sustained ratio of an experiment, the geometric mean of its launches."""
    ratios = map(sustained_ratio, launches_that_count(outcome))
    return _geometric_mean([ratio for ratio in ratios if ratio is not None and ratio >= _VALUE_MIN])


def images_per_min(batch: int, seconds_per_call: float) -> float:
    """Return the throughput (images per minute) of calls that make ``batch`` images each."""
    return SECONDS_PER_MINUTE * batch / seconds_per_call


def batch_of(planned: PlannedExperiment, outcome: AnyOutcome) -> int:
    """Return how many images a call of an experiment makes: what a search found, else what was requested."""
    search = find_search(launches_of(outcome))
    return search.largest_batch if search and search.largest_batch else planned.experiment.batch


def sources(metric: MetricName, launches: Sequence[Launch]) -> tuple[str, ...]:
    """Return the sources that at least one launch knows, the preferred first."""
    return tuple(
        source
        for source in _sources_of(metric, launches)
        if any(isinstance(read(metric, source, launch), Known) for launch in launches)
    )


def common_source(metric: MetricName, baseline: Sequence[Launch], candidate: Sequence[Launch]) -> Reading[str]:
    """Return the preferred source that both records know, or why their values cannot be compared."""
    first, second = sources(metric, baseline), sources(metric, candidate)
    for source in first:
        if source in second:
            return Known(value=source)
    title = METRIC_TITLES[metric]
    if not first or not second:
        return Unknown(reason=f"{title} was not measured in both records")
    names = (SOURCE_TITLES[known[0]] for known in (first, second))
    return Unknown(reason=f"{title} was measured differently: {' against '.join(names)}")


def read(metric: MetricName, source: str, launch: Launch) -> Reading[float]:
    """Return a metric of one launch from one source, or why it is unknown; energy is per image."""
    if metric == "memory_bytes":
        reading: Reading[int] = getattr(launch.memory, source)
        return Known(value=float(reading.value)) if isinstance(reading, Known) else reading
    if metric == "energy_j":
        return _read_energy(source, launch)
    seconds = latency_s(launch)
    if seconds is None:
        return Unknown(reason="no latency was measured")
    return Known(value=seconds if metric == "latency_s" else images_per_min(launch.batch, seconds))


def values(metric: MetricName, launches: Sequence[Launch], source: str | None = None) -> tuple[float, ...]:
    """Return the known values of a metric, one per launch, from ``source`` or else the preferred one that is known."""
    chosen = source or next(iter(sources(metric, launches)), None)
    if chosen is None:
        return ()
    readings = (read(metric, chosen, launch) for launch in launches)
    return tuple(reading.value for reading in readings if isinstance(reading, Known))


def read_memory(memory: MemoryUse, *, on_gpu: bool) -> Reading[int]:
    """Return the memory (bytes) that stands for a device: the first source that is known, or why the last is not."""
    sources_in_order = _GPU_MEMORY_SOURCES if on_gpu else _HOST_MEMORY_SOURCES
    readings: list[Reading[int]] = [getattr(memory, source) for source in sources_in_order]
    return next((reading for reading in readings if isinstance(reading, Known)), readings[-1])


def reader(metric: MetricName, source: str) -> Callable[[Launch], float | None]:
    """Return a function that reads a metric of a launch from one source: None where it is unknown."""

    def read_launch(launch: Launch) -> float | None:
        reading = read(metric, source, launch)
        return reading.value if isinstance(reading, Known) else None

    return read_launch


def explain_missing(metric: MetricName, launches: Sequence[Launch]) -> str:
    """Return why no launch knows a metric: the first reason that the preferred source gives, of memory the last."""
    if metric == "memory_bytes":
        memory = next((read_memory(launch.memory, on_gpu=is_on_gpu(launch)) for launch in launches), None)
        return memory.reason if isinstance(memory, Unknown) else "no launch has it"
    readings = (read(metric, source, launch) for source in _sources_of(metric, launches) for launch in launches)
    return next((reading.reason for reading in readings if isinstance(reading, Unknown)), "no launch has it")


def result_latency_s(outcome: AnyOutcome) -> float | None:
    """Return an experiment's latency (s per call): the geometric mean of its launches, or the reference's own."""
    if isinstance(outcome, ReferenceResult):
        return outcome.latency_s
    return _geometric_mean(values("latency_s", launches_that_count(outcome)))


def result_work(outcome: AnyOutcome) -> Work | None:
    """Return the work of one call of an outcome's launches; None without a launch."""
    return next((launch.environment.work for launch in launches_of(outcome)), None)


def result_memory(outcome: AnyOutcome) -> MemoryRange | Unknown:
    """Return an experiment's memory over the launches that count, a reference's own, or why it is unknown."""
    if isinstance(outcome, ReferenceResult):
        known = outcome.memory_bytes
        if isinstance(known, Unknown):
            return known
        return MemoryRange(known.value, known.value, known.value, 1, outcome.memory_meaning)
    launches = launches_that_count(outcome)
    source = next(iter(sources("memory_bytes", launches)), None)
    if source is None:
        return Unknown(reason=explain_missing("memory_bytes", launches))
    known_bytes = values("memory_bytes", launches, source)
    return MemoryRange(median(known_bytes), min(known_bytes), max(known_bytes), len(known_bytes), SOURCE_TITLES[source])


def result_energy_j(outcome: AnyOutcome) -> Reading[float]:
    """Return an experiment's energy (J per image), the geometric mean of its launches, or why it is unknown."""
    if isinstance(outcome, ReferenceResult):
        return Unknown(reason="not recorded by the source")
    launches = launches_that_count(outcome)
    energy_j = _geometric_mean([value for value in values("energy_j", launches) if value >= _VALUE_MIN])
    if energy_j is None:
        return Unknown(reason=explain_missing("energy_j", launches))
    return Known(value=energy_j)


def _geometric_mean(known: Sequence[float]) -> float | None:
    return exp(fsum(map(log, known)) / len(known)) if known else None


def _read_energy(source: str, launch: Launch) -> Reading[float]:
    energy = launch.energy
    if isinstance(energy.energy_j, Unknown):
        return energy.energy_j
    if energy.source != source:
        return Unknown(reason=f"energy was read from {energy.source}")
    if not energy.call_count:
        return Unknown(reason="no steady call was timed")
    return Known(value=energy.energy_j.value / (energy.call_count * launch.batch))


def _sources_of(metric: MetricName, launches: Iterable[Launch]) -> tuple[str, ...]:
    if metric == "energy_j":
        return _ENERGY_SOURCES
    if metric == "memory_bytes":
        on_gpu = any(is_on_gpu(launch) for launch in launches)
        return _GPU_MEMORY_SOURCES if on_gpu else _HOST_MEMORY_SOURCES
    return ("latency",)
