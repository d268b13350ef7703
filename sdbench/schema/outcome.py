"""What became of an experiment: its launches with every raw sample, or why there are none."""

from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import Field

from sdbench.schema.base import Compact, Count, Known, Model, Number, PositiveFloat, PositiveInt, Reading, Sha256
from sdbench.schema.conditions import Conditions
from sdbench.schema.manifest import Isolation
from sdbench.schema.operators import OperatorTable
from sdbench.schema.reference_operation import ReferenceOperation
from sdbench.schema.warning_codes import WarningCode
from sdbench.schema.worker_environment import WorkerEnvironment
from sdbench.schema.workload_results import AllocatorEvents, BatchSearch, Export, PrecisionResult, WorkloadResult

StopReason = Literal["converged", "max_launches", "max_calls", "budget", "interrupted"]
QualityVerdict = Literal["passed", "warned", "not checked"]


class Series(Compact):
    """Raw samples in the order they were taken. The first ``warmup_count`` are warm-ups: kept, and marked so."""

    name: str = Field(description="What was sampled.")
    unit: str = Field(description="Unit of the samples.")
    samples: tuple[Number, ...] = Field(description="All samples in the order they were taken.")
    warmup_count: Count = Field(default=0, description="How many of the first samples are warm-ups.")

    @property
    def steady(self) -> tuple[float, ...]:
        """The samples after the warm-ups."""
        return self.samples[self.warmup_count :]


class MemoryUse(Compact):
    """Results that are often confused, each by its own name.

    The 2022 study reported what torch had reserved after one call, the nearest to ``torch_reserved_peak_bytes``.
    The two last split what the host holds at the end of the timed calls.
    """

    torch_allocated_peak_bytes: Reading[int] = Field(description="Peak that torch's tensors took.")
    torch_reserved_peak_bytes: Reading[int] = Field(description="Peak that torch reserved.")
    device_process_bytes: Reading[int] = Field(description="Device memory that the driver charges to the process.")
    device_total_used_bytes: Reading[int] = Field(description="Device memory in use by all processes.")
    host_rss_peak_bytes: Reading[int] = Field(description="Peak resident memory of the process on the host.")
    host_rss_anon_bytes: Reading[int] = Field(description="Resident memory not of files, after the timed calls.")
    host_rss_file_bytes: Reading[int] = Field(description="Resident memory of files, after the timed calls.")


class Energy(Compact):
    """Energy (J) drawn over the timed steady calls, and over how many calls and seconds."""

    source: Literal["nvml", "rapl", "none"] = Field(description="The counter that was read.")
    energy_j: Reading[float] = Field(description="Energy in joules.")
    call_count: Count = Field(description="Steady calls within the reading.")
    duration_s: Number = Field(description="Seconds of the steady calls.")
    counter_step_s: Reading[float] = Field(description="Seconds between two steps of the counter, where it was seen.")


class Check(Compact):
    """One thing that was requested, and verified while it ran."""

    name: str = Field(description="What was checked.")
    expected: str = Field(description="What was requested.")
    observed: str = Field(description="What ran.")
    passed: bool = Field(description="Whether they are equal.")


class ImageResult(Compact):
    """One produced image: the hash of its RGB bytes, whether it can be an image, and where it is kept."""

    sha256: Sha256 = Field(description="Hash of the RGB bytes.")
    width: PositiveInt = Field(description="Width in pixels.")
    height: PositiveInt = Field(description="Height in pixels.")
    finite: bool = Field(description="Whether the decoder's output was finite.")
    constant: bool = Field(description="Whether all pixels have one color.")
    path: str | None = Field(description="File in the bundle; null where it was not kept.")


QualityCheckName = Literal[
    "throttled",
    "clocks",
    "other load",
    "machine speed",
    "foreign GPU processes",
    "warm-up",
    "launches",
    "modes",
    "drift",
    "finite",
    "output",
]


class QualityCheck(Compact):
    """One reason not to trust a result, checked: the evidence, the threshold, and the threshold's source."""

    name: QualityCheckName = Field(description="What was checked.")
    verdict: QualityVerdict = Field(description="Result of the check.")
    evidence: str = Field(description="What was observed.")
    threshold: str = Field(description="Where the check begins to warn.")
    source: str = Field(description="Where the threshold comes from.")


class RecordWarning(Model):
    """A warning as data: what was observed, and what to do."""

    code: WarningCode = Field(description="Identifier of the kind of warning.")
    message: str = Field(description="What was observed.")
    hint: str = Field(description="What to do.")


def warn(code: WarningCode, message: str) -> RecordWarning:
    """Return a warning with the hint of its kind."""
    return RecordWarning(code=code, message=message, hint=code.hint)


class LaunchData(Compact):
    """What the worker measures in one launch: a latency series, or a ``workload_result`` of a search or comparison."""

    batch: PositiveInt = Field(description="Images that a timed call made.")
    import_s: Number = Field(description="Seconds to import the libraries, by the template where there is one.")
    load_s: Number = Field(description="Seconds to load the networks.")
    first_call_s: Number = Field(description="Seconds of the first call.")
    worker_cpu_s: Number = Field(description="CPU seconds of the worker.")
    series: tuple[Series, ...] = Field(description="Raw samples.")
    stop_reason: StopReason = Field(description="Why sampling stopped.")
    memory: MemoryUse = Field(description="Memory in use.")
    allocator: Reading[AllocatorEvents] = Field(description="Signs that the GPU's memory hardly sufficed.")
    energy: Energy = Field(description="Energy of the steady calls.")
    reference_operation: Reading[ReferenceOperation] = Field(description="Speed of the machine around the timed calls.")
    host_bound_ratio: Reading[float] = Field(
        description="Share of denoiser calls in which the GPU waited for the host."
    )
    operators: Reading[OperatorTable] = Field(description="Where the time of a call goes, by operator.")
    checks: tuple[Check, ...] = Field(description="What was requested against what ran.")
    images: tuple[ImageResult, ...] = Field(description="Images of the last timed call.")
    exports: tuple[Export, ...] = Field(description="Networks that were exported.")
    workload_result: WorkloadResult | None = Field(description="Result of a search or a comparison.")
    environment: WorkerEnvironment = Field(description="What the worker observed of software and device.")
    warnings: tuple[RecordWarning, ...] = Field(description="What may affect its values.")


class Launch(LaunchData):
    """One fresh process, as the supervisor observed it."""

    index: Count = Field(description="Number of the launch, from 0.")
    isolation: Isolation = Field(description="Whether it was forked from a template or spawned.")
    template_id: str | None = Field(description="Template it was forked from; null for a spawned one.")
    position: Count | None = Field(description="Place in the order of an interleaved session; null in a plain run.")
    started_utc: str = Field(description="When it started, UTC.")
    wall_s: Number = Field(description="Seconds from start to end.")
    supervisor_cpu_s: Number = Field(description="CPU seconds of the supervisor.")
    calls_limit_s: Number | None = Field(
        description="Seconds the run's budget left for timed calls, if it limited them."
    )
    throttled: Reading[bool] = Field(description="Whether the hardware slowed itself down.")
    conditions: Conditions = Field(description="What else went on during the launch.")

    def find_series(self, name: str) -> Series | None:
        """Return the series called ``name``, if this launch has it."""
        return next((series for series in self.series if series.name == name), None)


def was_throttled(launch: Launch) -> bool:
    """Return whether the hardware slowed itself down during a launch, as far as it could be read."""
    return isinstance(launch.throttled, Known) and launch.throttled.value


def find_search(launches: Sequence[Launch]) -> BatchSearch | None:
    """Return the last search for the largest batch among launches: a later one corrects an earlier one."""
    results = (launch.workload_result for launch in reversed(launches))
    return next((result for result in results if isinstance(result, BatchSearch)), None)


def find_precision_result(launches: Sequence[Launch]) -> PrecisionResult | None:
    """Return the first precision result among launches: it is the one whose pictures are kept."""
    results = (launch.workload_result for launch in launches)
    return next((result for result in results if isinstance(result, PrecisionResult)), None)


def measuring_launches(launches: Sequence[Launch]) -> tuple[Launch, ...]:
    """Return the launches that a result is made of: after a search, those that measured the batch it found."""
    search = find_search(launches)
    return tuple(
        launch
        for launch in launches
        if not isinstance(launch.workload_result, BatchSearch)
        and (search is None or launch.batch == search.largest_batch)
    )


class Succeeded(Model):
    """Every launch ended well. Throttled launches are kept; the fresh ones that replace them count."""

    kind: Literal["succeeded"] = Field(default="succeeded", description="Kind of outcome.")
    launches: Annotated[tuple[Launch, ...], Field(min_length=1)] = Field(description="Launches in the order they ran.")
    stop_reason: StopReason = Field(description="Why no more launches were made.")
    warnings: tuple[RecordWarning, ...] = Field(default=(), description="What may affect the result.")


class OutOfMemory(Model):
    """The device or host had too little memory: a result, not an error."""

    kind: Literal["out_of_memory"] = Field(default="out_of_memory", description="Kind of outcome.")
    stage: str = Field(description="Where the launch was.")
    where: Literal["device", "host"] = Field(description="Whose memory was too small.")
    message: str = Field(description="What was reported.")
    partial: tuple[Launch, ...] = Field(description="Launches that finished before.")


class Failed(Model):
    """A launch ended in an error; launches finished before it are kept in ``partial``."""

    kind: Literal["failed"] = Field(default="failed", description="Kind of outcome.")
    stage: str = Field(description="Where the launch was.")
    error_type: str = Field(description="Class of the error.")
    message: str = Field(description="Message of the error.")
    stderr_tail: str = Field(description="Last lines of the worker's output.")
    partial: tuple[Launch, ...] = Field(description="Launches that finished before.")


class TimedOut(Model):
    """A launch did not end within its time limit (s) and was killed."""

    kind: Literal["timed_out"] = Field(default="timed_out", description="Kind of outcome.")
    stage: str = Field(description="Where the launch was.")
    limit_s: Number = Field(description="Time limit in seconds.")
    stderr_tail: str = Field(description="Last lines of the worker's output.")
    partial: tuple[Launch, ...] = Field(description="Launches that finished before.")


class Skipped(Model):
    """The experiment was not tried, and why."""

    kind: Literal["skipped"] = Field(default="skipped", description="Kind of outcome.")
    reason: str = Field(description="Why it was not tried.")
    hint: str = Field(description="What to do.")


class ReferenceResult(Model):
    """A result that somebody else published: one number, no samples, so neither interval nor verdict.

    ``memory_bytes`` is what ``memory_meaning`` says.
    """

    kind: Literal["reference"] = Field(default="reference", description="Kind of outcome.")
    latency_s: PositiveFloat = Field(description="Seconds per call.")
    memory_bytes: Reading[int] = Field(description="Memory in bytes.")
    memory_meaning: str = Field(description="How the memory was read.")
    method: str = Field(description="How the latency was measured.")
    caveats: tuple[str, ...] = Field(description="What the source leaves open.")


AnyOutcome = Succeeded | OutOfMemory | Failed | TimedOut | Skipped | ReferenceResult
Outcome = Annotated[AnyOutcome, Field(discriminator="kind")]


def launches_of(outcome: AnyOutcome) -> tuple[Launch, ...]:
    """Return every finished launch of an outcome, whatever its end."""
    match outcome:
        case Succeeded():
            return outcome.launches
        case Skipped() | ReferenceResult():
            return ()
        case _:
            return outcome.partial
