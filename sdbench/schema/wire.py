"""The protocol between supervisor and worker: one request on standard input, then events as JSON lines.

Between supervisor and template: a message per datagram of a socket. The supervisor sends ``FORK`` with the worker's
three file descriptors, and ``REAP`` when nothing of the worker is left.
"""

from typing import Annotated, Literal

from pydantic import Field, TypeAdapter

from sdbench.schema.base import Count, Model, Number, PositiveInt
from sdbench.schema.ceilings import CeilingPrecision, Ceilings
from sdbench.schema.experiment import Experiment
from sdbench.schema.manifest import Protocol
from sdbench.schema.outcome import LaunchData
from sdbench.schema.workload_results import BatchProbe

Stage = Literal[
    "start",
    "ceilings",
    "import",
    "fetch",
    "draw",
    "export",
    "load",
    "first call",
    "warm-up",
    "reference",
    "measure",
    "sustain",
    "verify",
    "profile",
    "probe",
    "compare",
]


FORK = b"fork"
REAP = b"reap"


class WorkerRequest(Model):
    """What one launch is to measure, and where.

    Pictures are kept under ``image_prefix``, None keeps none. ``known_probes`` is what earlier workers of the same
    search for the largest batch found. The first launch of an experiment that measures also profiles a call.
    """

    experiment: Experiment
    protocol: Protocol
    device: str
    cache_folder: str
    image_prefix: Annotated[str, Field(pattern=r"^images/[0-9a-z-]+-$")] | None
    known_probes: tuple[BatchProbe, ...] = ()
    is_first: bool = False


class CeilingsRequest(Model):
    """A worker that is to measure what the device reaches, and no launch. ``threads`` None are all usable CPUs."""

    device: str
    threads: PositiveInt | None
    precisions: tuple[CeilingPrecision, ...]


Request = WorkerRequest | CeilingsRequest
REQUEST: TypeAdapter[Request] = TypeAdapter(Request)


class Picture(Model):
    """A picture to keep: its path within the bundle, and its WebP in base64."""

    path: Annotated[str, Field(pattern=r"^images/[0-9a-z-]+\.webp$")]
    webp_base64: str


class Measurement(LaunchData):
    """What a worker sends at the end of its one launch; the trace is of a profiled call, in gzip and base64."""

    pictures: tuple[Picture, ...]
    trace_base64: str | None


class StageEvent(Model):
    """The worker enters a stage."""

    event: Literal["stage"] = "stage"
    stage: Stage


class SampleEvent(Model):
    """One call ended; sent between calls, never inside one."""

    event: Literal["sample"] = "sample"
    latency_s: Number
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


class CeilingsEvent(Model):
    """What the device reaches."""

    event: Literal["ceilings"] = "ceilings"
    ceilings: Ceilings


class FailureEvent(Model):
    """The launch ended in an error that the worker could still report."""

    event: Literal["failure"] = "failure"
    stage: Stage
    error_type: str
    message: str
    out_of_memory: Literal["device", "host"] | None


class UnusableForkEvent(Model):
    """What the template's libraries hold does not work in a forked process: this launch has to be spawned."""

    event: Literal["unusable fork"] = "unusable fork"
    reason: str


class TemplateReady(Model):
    """The libraries are imported; ``unsafe`` is why no process must be forked from this one, if so."""

    event: Literal["ready"] = "ready"
    import_s: Number
    unsafe: str | None


class ForkedEvent(Model):
    """A worker was forked."""

    event: Literal["forked"] = "forked"
    pid: PositiveInt


class ExitedEvent(Model):
    """The worker is dead; its number is not given to another process before ``REAP``."""

    event: Literal["exited"] = "exited"
    return_code: int


class Overhead(Model):
    """What the measuring loop costs: the ratio of CPU times to a bare loop with its interval, and by itself.

    ``own_s`` is one pass of the loop (s) around a pipeline that does nothing, ``call_s`` a bare call.
    """

    ratio: Number
    low: Number
    high: Number
    pair_count: Count
    own_s: Number
    call_s: Number


WorkerEvent = (
    StageEvent
    | SampleEvent
    | ProbingEvent
    | ProbeEvent
    | ResultEvent
    | CeilingsEvent
    | FailureEvent
    | UnusableForkEvent
)
WORKER_EVENT: TypeAdapter[WorkerEvent] = TypeAdapter(Annotated[WorkerEvent, Field(discriminator="event")])
TemplateEvent = TemplateReady | FailureEvent | ForkedEvent | ExitedEvent
TEMPLATE_EVENT: TypeAdapter[TemplateEvent] = TypeAdapter(Annotated[TemplateEvent, Field(discriminator="event")])
