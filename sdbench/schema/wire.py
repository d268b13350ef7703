"""What supervisor and worker say to each other: one request on standard input, then events as JSON lines."""

from typing import Annotated, Literal

from pydantic import Field, FiniteFloat, TypeAdapter

from sdbench.schema.base import Count, Model
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


class WorkerRequest(Model):
    """What one launch is to measure, and where."""

    experiment: Experiment
    protocol: Protocol
    device: str
    cache_folder: str
    keep_images: bool


class KeptImage(Model):
    """The first image of a batch as lossless WebP, in base64."""

    index: Count
    webp_base64: str


class Measurement(Model):
    """What a worker found in its one launch."""

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
    environment: WorkerEnvironment
    warnings: tuple[Notice, ...]
    kept_images: tuple[KeptImage, ...]


class StageEvent(Model):
    """The worker enters a stage."""

    event: Literal["stage"] = "stage"
    stage: Stage


class SampleEvent(Model):
    """One call ended; sent between calls, never inside one."""

    event: Literal["sample"] = "sample"
    latency_s: FiniteFloat
    warmup: bool


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


WorkerEvent = Annotated[StageEvent | SampleEvent | ResultEvent | FailureEvent, Field(discriminator="event")]
WORKER_EVENT: TypeAdapter[StageEvent | SampleEvent | ResultEvent | FailureEvent] = TypeAdapter(WorkerEvent)
