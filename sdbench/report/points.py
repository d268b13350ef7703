"""Records joined into points: one experiment on one machine, with its estimate recomputed from the raw samples."""

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from sdbench.compare.comparison import Comparison
from sdbench.compare.trust import trust_of
from sdbench.report.prices import NO_PRICES, Prices
from sdbench.report.safe_text import clean
from sdbench.schema.base import Known
from sdbench.schema.experiment import Experiment
from sdbench.schema.outcome import (
    AnyOutcome,
    Launch,
    Published,
    Series,
    Succeeded,
    TrustCheck,
    counted_launches,
    find_precision_study,
    find_search,
    launches_of,
)
from sdbench.schema.record import PlannedExperiment, Record, Result
from sdbench.schema.study import PrecisionStudy
from sdbench.stats.intervals import Estimate, estimate_latency

Telemetry = Mapping[str, tuple[tuple[str, int, tuple[Series, ...]], ...]]
Images = Mapping[str, Mapping[str, bytes]]

STATUS_WORDS = {
    "succeeded": "ok",
    "out_of_memory": "out of memory",
    "failed": "failed",
    "timed_out": "timed out",
    "skipped": "skipped",
    "published": "published",
}
LOG_SCALE_RATIO = 20.0
SECONDS_PER_MINUTE = 60.0
_BOILERPLATE = re.compile(r"\((?:R|TM)\)")


@dataclass(frozen=True)
class Machine:
    """One record and the name its machine has on this page."""

    name: str
    record: Record

    @property
    def on_cuda(self) -> bool:
        """Whether the record was made on a CUDA device."""
        return self.record.device.startswith("cuda")


@dataclass(frozen=True)
class Point:
    """An experiment on a machine. ``counted`` are the launches its estimate (s) is made of."""

    machine: Machine
    label: str
    planned: PlannedExperiment
    outcome: AnyOutcome
    counted: tuple[Launch, ...]
    estimate: Estimate | None
    trust: tuple[TrustCheck, ...]

    @property
    def experiment(self) -> Experiment:
        """The experiment's options."""
        return self.planned.experiment

    @property
    def status(self) -> str:
        """The outcome in words; a success without a usable sample is none."""
        if self.study is not None:
            return "compared"
        if isinstance(self.outcome, Succeeded) and self.estimate is None:
            return "no usable sample"
        return STATUS_WORDS[self.outcome.kind]

    @cached_property
    def study(self) -> PrecisionStudy | None:
        """What the experiment compared, if that is what it does."""
        return find_precision_study(self.launches)

    @cached_property
    def batch(self) -> int:
        """How many images a call made: what a search found, else what was asked."""
        search = find_search(self.launches)
        return search.largest_batch if search and search.largest_batch else self.experiment.batch

    @property
    def is_published(self) -> bool:
        """Whether the figure is somebody else's: one number, no samples."""
        return isinstance(self.outcome, Published)

    @cached_property
    def launches(self) -> tuple[Launch, ...]:
        """Every finished launch, counted or not."""
        return launches_of(self.outcome)


@dataclass(frozen=True)
class Measured:
    """A point that has an estimate (s)."""

    point: Point
    estimate: Estimate

    @property
    def images_per_min(self) -> float:
        """The throughput (images per minute)."""
        return self.images_per_min_at(self.estimate.value)

    def images_per_min_at(self, latency_s: float) -> float:
        """Return the throughput (images per minute) if a call took ``latency_s`` (s)."""
        return SECONDS_PER_MINUTE * self.point.batch / latency_s


@dataclass(frozen=True)
class Compared:
    """Two runs by their numbers on this page, from 1, and what comparing them found."""

    baseline: int
    candidate: int
    comparison: Comparison


@dataclass(frozen=True)
class Source:
    """What the sections are built from."""

    machines: tuple[Machine, ...]
    points: tuple[Point, ...]
    telemetry: Telemetry
    images: Images
    prices: Prices = NO_PRICES
    compared: tuple[Compared, ...] = ()

    @property
    def several(self) -> bool:
        """Whether more than one record is shown side by side."""
        return len(self.machines) > 1

    @property
    def machine_names(self) -> tuple[str, ...]:
        """The machines' names, in order."""
        return tuple(machine.name for machine in self.machines)

    @cached_property
    def measured(self) -> tuple[Measured, ...]:
        """The points that have an estimate, those that others published among them."""
        return tuple(Measured(point, point.estimate) for point in self.points if point.estimate is not None)

    @cached_property
    def own(self) -> tuple[Measured, ...]:
        """The points that have an estimate made of samples: not those that others published."""
        return tuple(measured for measured in self.measured if not measured.point.is_published)

    @property
    def row_columns(self) -> str:
        """The titles of a table's first columns; the machine is named only when there are several."""
        return "Experiment|Machine" if self.several else "Experiment"

    def row_names(self, point: Point) -> tuple[str, ...]:
        """Return the first cells of a point's row, under ``row_columns``."""
        return (point.label, point.machine.name) if self.several else (point.label,)


def make_source(
    records: Sequence[Record], telemetry: Telemetry | None, images: Images | None, prices: Prices = NO_PRICES
) -> Source:
    """Return the records joined on the experiment id, in the order in which the experiments first appear."""
    machines = tuple(
        Machine(name=name, record=record) for name, record in zip(_name_machines(records), records, strict=True)
    )
    labels = _label_experiments(records)
    by_id: dict[str, list[tuple[Machine, Result]]] = {}
    for machine in machines:
        for result in machine.record.results:
            by_id.setdefault(result.planned.experiment_id, []).append((machine, result))
    points = tuple(
        _make_point(machine, label, result)
        for experiment_id, label in labels.items()
        for machine, result in by_id[experiment_id]
    )
    return Source(machines, points, telemetry or {}, images or {}, prices)


def needs_log_scale(values: Sequence[float]) -> bool:
    """Return whether values differ so much that the small ones would vanish on a linear scale."""
    return bool(values) and min(values) > 0 and max(values) > LOG_SCALE_RATIO * min(values)


def _make_point(machine: Machine, label: str, result: Result) -> Point:
    counted = _counted_launches(result.outcome)
    steady = [series.steady for launch in counted if (series := launch.find_series("latency"))]
    estimate = estimate_latency(steady, result.planned.protocol.confidence) if steady else None
    if isinstance(result.outcome, Published):
        estimate = _published_estimate(result.outcome)
    if search := find_search(launches_of(result.outcome)):
        label = f"{label}: {search.largest_batch}"
    return Point(machine, label, result.planned, result.outcome, counted, estimate, trust_of(result))


def _published_estimate(outcome: Published) -> Estimate:
    """One figure: no launch, no sample, no interval."""
    return Estimate(
        value=outcome.latency_s, low=None, high=None, relative_half_width=None, launch_count=0, sample_count=0
    )


def _counted_launches(outcome: AnyOutcome) -> tuple[Launch, ...]:
    """The launches of a success that were not throttled; when all were, all of them (the page then says so)."""
    if not isinstance(outcome, Succeeded):
        return ()
    return counted_launches([launch for launch in outcome.launches if _has_steady_samples(launch)])


def _has_steady_samples(launch: Launch) -> bool:
    series = launch.find_series("latency")
    return series is not None and bool(series.steady) and all(sample > 0 for sample in series.steady)


def _label_experiments(records: Sequence[Record]) -> dict[str, str]:
    """Map experiment ids to labels; two experiments whose options differ in what no label says get their id's start."""
    labels: dict[str, str] = {}
    for record in records:
        for result in record.results:
            labels.setdefault(result.planned.experiment_id, clean(result.planned.label))
    written = Counter(labels.values())
    return {
        experiment_id: label if written[label] == 1 else f"{label} ({experiment_id[:6]})"
        for experiment_id, label in labels.items()
    }


def _name_machines(records: Sequence[Record]) -> tuple[str, ...]:
    """The devices' names, and where several runs are of one device what tells them apart: versions, sides, times."""
    names = [_shorten(record.device_name) + _origin_words(record) + _side_words(record) for record in records]
    groups: dict[str, list[Record]] = {}
    for name, record in zip(names, records, strict=True):
        groups.setdefault(name, []).append(record)
    return tuple(
        name if len(groups[name]) == 1 else f"{name}, {_tell_apart(record, groups[name])}"
        for name, record in zip(names, records, strict=True)
    )


def _shorten(device_name: str) -> str:
    """A device's name without the marks of its maker."""
    return " ".join(_BOILERPLATE.sub(" ", clean(device_name)).split()) or "device without a name"


def _tell_apart(record: Record, group: Sequence[Record]) -> str:
    """The first thing that is known of all runs of a group and differs between each two of them."""
    for tell in _TELLS:
        found = [tell(other) for other in group]
        if None not in found and len(set(found)) == len(found):
            return clean(str(tell(record)))
    return clean(f"{record.created_utc}, {record.run_id[-6:]}")


def _driver(record: Record) -> str | None:
    driver = record.fingerprint.software.gpu_kernel_driver
    return f"driver {driver.value}" if isinstance(driver, Known) else None


def _torch(record: Record) -> str | None:
    packages = record.fingerprint.software.packages
    versions = (
        [package.version for package in packages.value if package.name == "torch"]
        if isinstance(packages, Known)
        else []
    )
    return f"torch {versions[0]}" if versions else None


# What tells two runs of one device apart, the most telling first.
_TELLS: tuple[Callable[[Record], str | None], ...] = (
    _driver,
    _torch,
    lambda record: record.created_utc[:10],
    lambda record: record.created_utc[11:],
    lambda record: record.created_utc,
)


def _origin_words(record: Record) -> str:
    if record.origin != "imported":
        return " (virtual)" if record.origin == "virtual" else ""
    source = record.manifest.source
    return f" (published, {source.year})" if source and source.year else " (published)"


def _side_words(record: Record) -> str:
    return f", side {record.session.side}" if record.session else ""
