"""Records joined into points: one experiment on one machine, with its estimate recomputed from the raw samples."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, NamedTuple, TypeVar

from sdbench.compare.comparison import Comparison
from sdbench.compare.quality import quality_checks_of, timed_calls_s
from sdbench.compare.trends import Trend
from sdbench.report.chart_model import IntervalChart, IntervalMark
from sdbench.report.format import Row, make_table
from sdbench.report.grouping import group_by
from sdbench.report.labels import name_experiments, split_labels
from sdbench.report.model import Column, Table
from sdbench.report.naming import name_machines
from sdbench.report.prices import NO_PRICES, Prices
from sdbench.schema.experiment import Experiment
from sdbench.schema.metrics import batch_of, images_per_min, launches_that_count
from sdbench.schema.outcome import (
    AnyOutcome,
    Launch,
    QualityCheck,
    ReferenceResult,
    Succeeded,
    find_precision_result,
    find_search,
    launches_of,
)
from sdbench.schema.record import PlannedExperiment, Record, Result
from sdbench.schema.workload_results import PrecisionResult
from sdbench.stats.intervals import Estimate, estimate_latency
from sdbench.store.run import Run

R = TypeVar("R", Comparison, Trend)

_LOG_SCALE_RATIO = 20.0
OPEN_ENDS = "Open ends: no interval, because launches are too few (under three) or too far apart (tenfold)."


@dataclass(frozen=True)
class Machine:
    """One run, and the number (from 1) and the name that its machine has on this page."""

    number: int
    name: str
    run: Run

    @property
    def record(self) -> Record:
        """The run's record."""
        return self.run.record


@dataclass(frozen=True)
class Point:
    """An experiment on a machine. ``counted`` are the launches its estimate (s) is made of."""

    machine: Machine
    label: str
    planned: PlannedExperiment
    outcome: AnyOutcome
    counted: tuple[Launch, ...]
    estimate: Estimate | None
    quality_checks: tuple[QualityCheck, ...]

    @property
    def experiment(self) -> Experiment:
        """The experiment's options."""
        return self.planned.experiment

    @property
    def status(self) -> str:
        """The outcome in words; a success without a usable sample is none."""
        if self.workload_result is not None:
            return "compared"
        if isinstance(self.outcome, Succeeded):
            return "no usable sample" if self.estimate is None else "ok"
        return self.outcome.kind.replace("_", " ")

    @cached_property
    def workload_result(self) -> PrecisionResult | None:
        """What the experiment compared, if that is what it does."""
        return find_precision_result(self.launches)

    @cached_property
    def batch(self) -> int:
        """How many images a call made: what a search resulted in, else what was requested."""
        return batch_of(self.planned, self.outcome)

    @property
    def is_reference(self) -> bool:
        """Whether it is a reference result: one number, no samples."""
        return isinstance(self.outcome, ReferenceResult)

    @cached_property
    def launches(self) -> tuple[Launch, ...]:
        """Every finished launch, counted or not."""
        return launches_of(self.outcome)


class Interval(NamedTuple):
    """A value with the ends of its interval, which a single launch does not have."""

    value: float
    low: float | None = None
    high: float | None = None

    def convert(self, function: Callable[[float], float]) -> "Interval":
        """Return the interval in another unit; ``function`` is monotonic."""
        ends = sorted(function(end) for end in (self.low, self.high) if end is not None)
        return Interval(function(self.value), *ends)


@dataclass(frozen=True)
class Measured(Point):
    """A point that has an estimate (s)."""

    estimate: Estimate

    @property
    def interval(self) -> Interval:
        """The latency (s), without an interval that is of too few launches or too wide to say anything."""
        estimate = self.estimate
        ends = (estimate.low, estimate.high) if estimate.is_useful else ()
        return Interval(estimate.value, *ends)

    @property
    def is_open(self) -> bool:
        """Whether it was measured, but in too few launches for an interval, or with one too wide to be drawn."""
        return not self.is_reference and not self.estimate.is_useful

    @property
    def images_per_min(self) -> Interval:
        """The throughput (images per minute)."""
        return self.interval.convert(lambda latency_s: images_per_min(self.batch, latency_s))


@dataclass(frozen=True)
class Compared:
    """Two runs of this page and their comparison."""

    baseline: Machine
    candidate: Machine
    comparison: Comparison


@dataclass(frozen=True)
class Source:
    """What the sections are built from."""

    machines: tuple[Machine, ...]
    points: tuple[Point, ...]
    prices: Prices = NO_PRICES
    compared: tuple[Compared, ...] = ()
    with_references: bool = True

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
        """The points that have an estimate, reference results among them."""
        return tuple(point for point in self.points if isinstance(point, Measured))

    @cached_property
    def own(self) -> tuple[Measured, ...]:
        """The points that have an estimate made of samples: no reference results."""
        return tuple(measured for measured in self.measured if not measured.is_reference)

    @cached_property
    def launches(self) -> tuple[Launch, ...]:
        """Every finished launch of every point."""
        return tuple(launch for point in self.points for launch in point.launches)

    def relabel(self, compared: R) -> R:
        """Return it with the page's labels, which distinguish what the plan's do not."""
        labels = {point.planned.experiment_id: point.label for point in self.points}
        named = [item.model_copy(update={"label": labels[item.experiment_id]}) for item in compared.experiments]
        return compared.model_copy(update={"experiments": tuple(named)})

    @property
    def row_columns(self) -> tuple[Column, ...]:
        """A table's first columns; the machine is named only when there are several."""
        experiment = Column(title="Experiment", key="experiment")
        return (experiment, Column(title="Machine", key="machine")) if self.several else (experiment,)

    def row_names(self, point: Point) -> tuple[str, ...]:
        """Return the first cells of a point's row, under ``row_columns``."""
        return (point.label, point.machine.name) if self.several else (point.label,)

    def table(self, caption: str, columns: Iterable[Column], rows: Iterable[tuple[Point, Row]]) -> Table:
        """Return a table of points, which the first cells of their rows name."""
        named = ((*self.row_names(point), *cells) for point, cells in rows)
        return make_table(caption, (*self.row_columns, *columns), named)

    def name(self, point: Point) -> str:
        """Return a point's name on this page."""
        return ", ".join(self.row_names(point))

    def mark(
        self, point: Point, interval: Interval, text: str, limit: float | None = None, *, is_open: bool = False
    ) -> IntervalMark:
        """Return a point's mark on a chart, named after its machine when there are several."""
        machine = point.machine.name
        words = f"{text} {machine}" if self.several else text
        fields = {"label": point.label, "machine": machine, "text": words, "limit": limit, "is_open": is_open}
        return IntervalMark(**fields, **interval._asdict())

    def chart(
        self, kind: Literal["points", "bars"], what: str, caption: str, axis: str, marks: Iterable[IntervalMark]
    ) -> IntervalChart:
        """Return a chart of intervals, on a log scale where points differ too much for a linear one.

        What its rows have in common is their title, so that each is named by what differs; rows of machines are not.
        """
        given = tuple(marks)
        labels = [mark.label for mark in given]
        shared, own = split_labels([] if set(labels) <= set(self.machine_names) else labels)
        own = {label: label for label in labels} | own
        if len(given) == 1:
            shared, own = labels[0], {labels[0]: given[0].machine}
        drawn = tuple(mark.model_copy(update={"label": own[mark.label]}) for mark in given)
        ends = [end for mark in drawn for end in (mark.low, mark.value, mark.high) if end is not None]
        names = dict.fromkeys(mark.machine for mark in drawn).keys()
        log_scale = kind == "points" and needs_log_scale(ends)
        words = [caption]
        words += ["Log scale: the largest value is over 20 times the smallest."] if log_scale else []
        words += [OPEN_ENDS] if any(mark.is_open for mark in drawn) else []
        return IntervalChart(
            kind=kind,
            title=f"{what.partition(',')[0]}: {shared}" if shared else what,
            alt=f"{what}: " + "; ".join(f"{mark.label} {mark.text}" for mark in given),
            caption=" ".join(words),
            axis=axis,
            log_scale=log_scale,
            machines=self.machine_names if names <= set(self.machine_names) else tuple(names),
            marks=drawn,
        )


def make_source(runs: Sequence[Run], prices: Prices = NO_PRICES) -> Source:
    """Return the runs joined on the experiment id, in the order in which the experiments first appear."""
    records = [run.record for run in runs]
    named_runs = enumerate(zip(name_machines(records), runs, strict=True), start=1)
    machines = tuple(Machine(number, name, run) for number, (name, run) in named_runs)
    results = ((machine, result) for machine in machines for result in machine.record.results)
    by_id = group_by(results, lambda item: item[1].planned.experiment_id)
    labels = name_experiments(records)
    points = (
        _make_point(machine, labels[key], result) for key, results in by_id.items() for machine, result in results
    )
    return Source(machines, tuple(points), prices)


def needs_log_scale(values: Sequence[float]) -> bool:
    """Return whether values differ so much that the small ones would vanish on a linear scale."""
    return bool(values) and min(values) > 0 and max(values) > _LOG_SCALE_RATIO * min(values)


def _make_point(machine: Machine, label: str, result: Result) -> Point:
    counted = launches_that_count(result.outcome)
    steady = timed_calls_s(result.outcome)
    estimate = estimate_latency(steady, result.planned.protocol.confidence) if steady else None
    if isinstance(result.outcome, ReferenceResult):
        estimate = Estimate(result.outcome.latency_s, None, None, None, launch_count=0, sample_count=0)
    if search := find_search(launches_of(result.outcome)):
        label = f"{label}: {search.largest_batch}"
    fields = (machine, label, result.planned, result.outcome, counted)
    checks = quality_checks_of(result)
    return Point(*fields, None, checks) if estimate is None else Measured(*fields, estimate, checks)
