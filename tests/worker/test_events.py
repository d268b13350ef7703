import io

import pytest

from sdbench.backends.base import where_memory_ran_out
from sdbench.schema.wire import WORKER_EVENT, FailureEvent, StageEvent
from sdbench.worker.events import EventWriter


class OutOfMemoryError(RuntimeError):
    """Called as torch calls its own."""


@pytest.mark.parametrize(
    ("error", "where"),
    [
        (OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"), "device"),
        (RuntimeError("CUDA error: out of memory"), "device"),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"), "device"),
        (MemoryError(), "host"),
        (RuntimeError("[enforce fail at alloc_cpu.cpp:117] DefaultCPUAllocator: can't allocate memory"), "host"),
        (RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 8 bytes"), "host"),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), None),
        (ValueError("can't allocate memory"), None),
    ],
)
def test_memory_running_out_is_told_from_other_errors(error: Exception, where: str | None) -> None:
    assert where_memory_ran_out(error) == where


def test_failure_names_the_stage_it_happened_in() -> None:
    stream = io.BytesIO()
    events = EventWriter(stream)
    events.emit(StageEvent(stage="load"))
    events.emit_failure(KeyError("x"))
    event = WORKER_EVENT.validate_json(stream.getvalue().splitlines()[1])
    assert isinstance(event, FailureEvent)
    assert (event.stage, event.error_type, event.out_of_memory) == ("load", "KeyError", None)
