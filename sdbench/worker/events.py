"""Events from worker to supervisor: one JSON line per event, written between calls."""

from typing import BinaryIO

from sdbench.backends.base import where_memory_ran_out
from sdbench.schema.wire import FailureEvent, Stage, StageEvent, WorkerEvent

# More than is kept: the supervisor redacts first and cuts then, so that no half of a secret slips through.
_MESSAGE_CHARACTERS = 8000


class EventWriter:
    """Writes events to the supervisor's pipe, and remembers the stage for a failure."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._stage: Stage = "start"

    def emit(self, event: WorkerEvent) -> None:
        """Write an event; a failure after a stage event belongs to that stage."""
        if isinstance(event, StageEvent):
            self._stage = event.stage
        line = memoryview(event.model_dump_json().encode() + b"\n")
        while line:
            line = line[self._stream.write(line) :]

    def emit_failure(self, error: Exception) -> None:
        """Report why the launch failed, and whether memory ran out."""
        self.emit(describe_failure(error, self._stage))


def describe_failure(error: Exception, stage: Stage) -> FailureEvent:
    """Return the event for an error that came up in a stage."""
    text = str(error).encode(errors="replace").decode()
    return FailureEvent(
        stage=stage,
        error_type=type(error).__name__,
        message=text[:_MESSAGE_CHARACTERS] or type(error).__name__,
        out_of_memory=where_memory_ran_out(error),
    )
