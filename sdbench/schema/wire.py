"""What supervisor and worker say to each other: one request on standard input, then events as JSON lines."""

from typing import Annotated, Literal

from pydantic import Field, FiniteFloat, TypeAdapter

from sdbench.schema.base import Count, Model, PositiveInt
from sdbench.schema.experiment import Experiment
from sdbench.schema.manifest import Protocol
from sdbench.schema.outcome import (
    Check,
    Energy,
    ImageResult,
    MemoryFigures,
    Notice,
    Series,
    Stage,
    StopReason,
    WorkerEnvironment,
)
from sdbench.schema.study import BatchProbe, Export, Study


class WorkerRequest(Model):
    """What one launch is to measure, and where.

    Pictures are kept under ``image_prefix``, None keeps none. ``known_probes`` is what earlier workers of the same
    search for the largest batch found.
    """

    experiment: Experiment
    protocol: Protocol
    device: str
    cache_folder: str
    image_prefix: Annotated[str, Field(pattern=r"^images/[0-9a-z-]+-$")] | None
    known_probes: tuple[BatchProbe, ...] = ()


class Picture(Model):
    """A picture to keep: its path within the bundle, and its WebP in base64."""

    path: Annotated[str, Field(pattern=r"^images/[0-9a-z-]+\.webp$")]
    webp_base64: str


class Measurement(Model):
    """What a worker found in its one launch."""

    batch: PositiveInt
    import_s: FiniteFloat
    load_s: FiniteFloat
    first_call_s: FiniteFloat
    worker_cpu_s: FiniteFloat
    series: tuple[Series, ...]
    stop_reason: StopReason
    memory: MemoryFigures
    energy: Energy
    checks: tuple[Check, ...]
    images: tuple[ImageResult, ...]
    exports: tuple[Export, ...]
    study: Study | None
    environment: WorkerEnvironment
    warnings: tuple[Notice, ...]
    pictures: tuple[Picture, ...]


class StageEvent(Model):
    """The worker enters a stage."""

    event: Literal["stage"] = "stage"
    stage: Stage


class SampleEvent(Model):
    """One call ended; sent between calls, never inside one."""

    event: Literal["sample"] = "sample"
    latency_s: FiniteFloat
    warmup: bool


class ProbingEvent(Model):
    """A batch is tried from now on; should the worker die of it, the batch does not fit."""

    event: Literal["probing"] = "probing"
    batch: PositiveInt


class ProbeEvent(Model):
    """What trying a batch gave."""

    event: Literal["probe"] = "probe"
    probe: BatchProbe


class ResultEvent(Model):
    """The launch ended well."""

    event: Literal["result"] = "result"
    measurement: Measurement


class FailureEvent(Model):
    """The launch ended in an error that the worker could still report."""

    event: Literal["failure"] = "failure"
    stage: Stage
    error_type: str
    message: str
    out_of_memory: Literal["device", "host"] | None


class Overhead(Model):
    """What the measuring loop costs: the ratio of CPU times to a bare loop with its interval, and by itself.

    ``own_s`` is a turn of the loop (s) around a pipeline that does nothing, ``call_s`` a bare call.
    """

    ratio: FiniteFloat
    low: FiniteFloat
    high: FiniteFloat
    pair_count: Count
    own_s: FiniteFloat
    call_s: FiniteFloat


WorkerEvent = StageEvent | SampleEvent | ProbingEvent | ProbeEvent | ResultEvent | FailureEvent
WORKER_EVENT: TypeAdapter[WorkerEvent] = TypeAdapter(Annotated[WorkerEvent, Field(discriminator="event")])
