"""What became of an experiment: its launches with every raw sample, or why there are none."""

from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import Field, FiniteFloat

from sdbench.schema.base import Count, Known, Model, PositiveFloat, PositiveInt, Reading, Sha256
from sdbench.schema.study import BatchSearch, Export, PrecisionStudy, Study

StopReason = Literal["precise enough", "most allowed", "budget", "interrupted"]
Stage = Literal[
    "start",
    "import",
    "fetch",
    "export",
    "load",
    "first call",
    "warm-up",
    "measure",
    "phases",
    "verify",
    "probe",
    "compare",
]


class Series(Model):
    """Raw samples in the order they were taken. The first ``warmup_count`` are warm-ups: kept, and marked so."""

    name: str
    unit: str
    samples: tuple[FiniteFloat, ...]
    warmup_count: Count = 0

    @property
    def steady(self) -> tuple[float, ...]:
        """The samples after the warm-ups."""
        return self.samples[self.warmup_count :]


class MemoryFigures(Model):
    """Figures that are often confused, each by its own name.

    The 2022 study reported what torch had reserved after one call, the nearest to ``torch_reserved_peak_bytes``.
    The two last split what the host holds at the end of the timed calls.
    """

    torch_allocated_peak_bytes: Reading[int]
    torch_reserved_peak_bytes: Reading[int]
    device_process_bytes: Reading[int]
    device_total_used_bytes: Reading[int]
    host_rss_peak_bytes: Reading[int]
    host_rss_anon_bytes: Reading[int]
    host_rss_file_bytes: Reading[int]


class Energy(Model):
    """Energy (J) drawn over the timed steady calls, and over how many calls and seconds."""

    source: Literal["nvml", "rapl", "none"]
    energy_j: Reading[float]
    call_count: Count
    duration_s: FiniteFloat


class Check(Model):
    """One thing that was asked and verified while it ran."""

    name: str
    asked: str
    found: str
    passed: bool


class ImageResult(Model):
    """One produced image: the hash of its RGB bytes, whether the decoder's output was finite, and where it is kept."""

    sha256: Sha256
    width: PositiveInt
    height: PositiveInt
    finite: bool
    path: str | None


TrustName = Literal[
    "throttled",
    "clocks",
    "other load",
    "foreign GPU processes",
    "warm-up",
    "launches",
    "modes",
    "drift",
    "finite",
    "output",
]


class TrustCheck(Model):
    """One reason to doubt a figure, looked into: what was found, beside the threshold and where that comes from."""

    name: TrustName
    verdict: Literal["good", "doubtful", "unknown"]
    evidence: str
    threshold: str
    source: str


class Notice(Model):
    """A warning as data: what was seen, and what to do."""

    code: str
    message: str
    remedy: str


class WorkerEnvironment(Model):
    """What the worker process itself saw of software and device."""

    backend: str
    backend_version: str
    device: str
    device_name: str
    threads: PositiveInt
    cuda_version: Reading[str]
    cudnn_version: Reading[str]
    weights_digest: str
    parameter_count: PositiveInt
    unet_calls: PositiveInt
    unet_calls_at_50_steps: PositiveInt
    cpu_capability: str


class ThrottleShare(Model):
    """A reason for which the hardware slowed itself, and in which share of the telemetry's samples it was seen."""

    reason: str
    ratio: FiniteFloat


class Conditions(Model):
    """What went on beside a launch: its telemetry summed up over the launch's life.

    ``clock_spread_ratio`` is the distance of the 10th and 90th percentile of the device's clock over its median;
    ``others_cpu_ratio`` the share of the machine's CPUs that others kept busy; ``load1_mean`` counts tasks, with the
    worker's own.
    """

    throttle_shares: Reading[tuple[ThrottleShare, ...]]
    clock_spread_ratio: Reading[float]
    others_cpu_ratio: Reading[float]
    load1_mean: Reading[float]
    steal_ratio: Reading[float]
    cpu_pressure_ratio: Reading[float]
    memory_pressure_ratio: Reading[float]
    foreign_gpu_process_count: Reading[int]


class Launch(Model):
    """One fresh process: load, first call and steady state apart. ``batch`` is how many images a timed call made.

    A launch that searched or compared holds its ``study`` and no latency series. ``turn`` is its place in the sequence
    of a session whose two sides took turns, None in a plain run.
    """

    index: Count
    turn: Count | None
    batch: PositiveInt
    started_utc: str
    wall_s: FiniteFloat
    import_s: FiniteFloat
    load_s: FiniteFloat
    first_call_s: FiniteFloat
    worker_cpu_s: FiniteFloat
    supervisor_cpu_s: FiniteFloat
    series: tuple[Series, ...]
    stop_reason: StopReason
    memory: MemoryFigures
    energy: Energy
    checks: tuple[Check, ...]
    images: tuple[ImageResult, ...]
    exports: tuple[Export, ...]
    study: Study | None
    environment: WorkerEnvironment
    throttled: Reading[bool]
    conditions: Conditions
    warnings: tuple[Notice, ...]

    def find_series(self, name: str) -> Series | None:
        """Return the series called ``name``, if this launch has it."""
        return next((series for series in self.series if series.name == name), None)


def was_throttled(launch: Launch) -> bool:
    """Return whether the hardware slowed itself down during a launch, as far as it could be read."""
    return isinstance(launch.throttled, Known) and launch.throttled.value


def find_search(launches: Sequence[Launch]) -> BatchSearch | None:
    """Return the last search for the largest batch among launches: a later one corrects an earlier one."""
    return next((launch.study for launch in reversed(launches) if isinstance(launch.study, BatchSearch)), None)


def find_precision_study(launches: Sequence[Launch]) -> PrecisionStudy | None:
    """Return the first precision study among launches: it is the one whose pictures are kept."""
    return next((launch.study for launch in launches if isinstance(launch.study, PrecisionStudy)), None)


def measuring_launches(launches: Sequence[Launch]) -> tuple[Launch, ...]:
    """Return the launches that a result is made of: after a search, those that measured the batch it found."""
    search = find_search(launches)
    return tuple(
        launch
        for launch in launches
        if not isinstance(launch.study, BatchSearch) and (search is None or launch.batch == search.largest_batch)
    )


def counted_launches(launches: Sequence[Launch]) -> tuple[Launch, ...]:
    """Return the launches that an estimate is made of: those that were not throttled, or all if all were."""
    measuring = measuring_launches(launches)
    return tuple(launch for launch in measuring if not was_throttled(launch)) or measuring


class Succeeded(Model):
    """Every launch ended well. Throttled launches are kept; the fresh ones that replace them count."""

    kind: Literal["succeeded"] = "succeeded"
    launches: Annotated[tuple[Launch, ...], Field(min_length=1)]
    stop_reason: StopReason
    warnings: tuple[Notice, ...] = ()


class OutOfMemory(Model):
    """The device or host had too little memory: a result, not an error."""

    kind: Literal["out_of_memory"] = "out_of_memory"
    stage: str
    where: Literal["device", "host"]
    message: str
    partial: tuple[Launch, ...]


class Failed(Model):
    """A launch ended in an error; launches finished before it are kept in ``partial``."""

    kind: Literal["failed"] = "failed"
    stage: str
    error_type: str
    message: str
    stderr_tail: str
    partial: tuple[Launch, ...]


class TimedOut(Model):
    """A launch did not end within its time limit (s) and was killed."""

    kind: Literal["timed_out"] = "timed_out"
    stage: str
    limit_s: FiniteFloat
    stderr_tail: str
    partial: tuple[Launch, ...]


class Skipped(Model):
    """The experiment was not tried, and why."""

    kind: Literal["skipped"] = "skipped"
    reason: str
    remedy: str


class Published(Model):
    """What somebody else published of an experiment: one figure, no samples; so it has no interval and no verdict.

    ``memory_bytes`` is what ``memory_meaning`` says.
    """

    kind: Literal["published"] = "published"
    latency_s: PositiveFloat
    memory_bytes: Reading[int]
    memory_meaning: str
    method: str
    caveats: tuple[str, ...]


AnyOutcome = Succeeded | OutOfMemory | Failed | TimedOut | Skipped | Published
Outcome = Annotated[AnyOutcome, Field(discriminator="kind")]


def launches_of(outcome: AnyOutcome) -> tuple[Launch, ...]:
    """Return every finished launch of an outcome, whatever its end."""
    match outcome:
        case Succeeded():
            return outcome.launches
        case Skipped() | Published():
            return ()
        case _:
            return outcome.partial
