"""The worker's voice: one JSON line per event, written between calls."""

import re
from typing import BinaryIO, Literal

from sdbench.schema.outcome import Stage
from sdbench.schema.wire import FailureEvent, Measurement, ResultEvent, SampleEvent, StageEvent

# What the allocators of torch and of the C++ library say; torch raises plain RuntimeError for host memory.
_HOST_MEMORY = re.compile(
    r"can't allocate memory|not enough memory|std::bad_alloc|Cannot allocate memory", re.IGNORECASE
)
_DEVICE_MEMORY = re.compile(r"CUDA( driver)? error: out of memory|(CUBLAS|CUDNN)_STATUS_ALLOC_FAILED", re.IGNORECASE)
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

    def _write(self, event: StageEvent | SampleEvent | ResultEvent | FailureEvent) -> None:
        line = memoryview(event.model_dump_json().encode() + b"\n")
        while line:
            line = line[self._stream.write(line) :]


def where_memory_ran_out(error: Exception) -> Literal["device", "host"] | None:
    """Return which memory an exception says was too small, or None for any other exception."""
    if type(error).__name__ == "OutOfMemoryError":  # torch's, without importing torch here
        return "device"
    if isinstance(error, RuntimeError) and _DEVICE_MEMORY.search(str(error)):
        return "device"
    if isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and _HOST_MEMORY.search(str(error))):
        return "host"
    return None
