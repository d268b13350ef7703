"""The worker's voice: one JSON line per event, written between calls."""

from typing import BinaryIO

from sdbench.backends.base import where_memory_ran_out
from sdbench.schema.outcome import Stage
from sdbench.schema.study import BatchProbe
from sdbench.schema.wire import (
    FailureEvent,
    Measurement,
    ProbeEvent,
    ProbingEvent,
    ResultEvent,
    SampleEvent,
    StageEvent,
    WorkerEvent,
)

# More than is kept: the supervisor redacts first and cuts then, so that no half of a secret slips through.
_MESSAGE_CHARACTERS = 8000


class EventWriter:
    """Writes events to the supervisor's pipe and knows the stage that a failure belongs to."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._stage: Stage = "start"

    def say_stage(self, stage: Stage) -> None:
        """Tell which stage begins."""
        self._stage = stage
        self._write(StageEvent(stage=stage))

    def say_sample(self, latency_s: float, warmup: bool) -> None:
        """Tell one call's latency (s)."""
        self._write(SampleEvent(latency_s=latency_s, warmup=warmup))

    def say_probing(self, batch: int) -> None:
        """Tell which batch is tried from now on."""
        self._write(ProbingEvent(batch=batch))

    def say_probe(self, probe: BatchProbe) -> None:
        """Tell what trying a batch gave."""
        self._write(ProbeEvent(probe=probe))

    def say_result(self, measurement: Measurement) -> None:
        """Tell what the launch found."""
        self._write(ResultEvent(measurement=measurement))

    def say_failure(self, error: Exception) -> None:
        """Tell why the launch failed, and whether memory ran out."""
        text = str(error).encode(errors="replace").decode()
        message = text[:_MESSAGE_CHARACTERS] or type(error).__name__
        self._write(
            FailureEvent(
                stage=self._stage,
                error_type=type(error).__name__,
                message=message,
                out_of_memory=where_memory_ran_out(error),
            )
        )

    def _write(self, event: WorkerEvent) -> None:
        line = memoryview(event.model_dump_json().encode() + b"\n")
        while line:
            line = line[self._stream.write(line) :]
