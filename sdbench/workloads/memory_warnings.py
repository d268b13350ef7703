"""Whether a GPU's memory hardly sufficed, or not even that: calls then ran, and slower than they would have."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from sdbench.backends.base import Backend, DeviceRoom
from sdbench.probes.readings import value_or
from sdbench.probes.sysfs import ROOT
from sdbench.probes.wsl import is_wsl
from sdbench.schema.base import Known, Reading
from sdbench.schema.outcome import MemoryUse, RecordWarning, warn
from sdbench.schema.warning_codes import WarningCode
from sdbench.schema.workload_results import AllocatorEvents
from sdbench.units import format_bytes


def read_room(backend: Backend) -> DeviceRoom | None:
    """Return the GPU's memory, what torch holds already counted as free; None where memory is the host's."""
    room = backend.read_device_room()
    held_bytes = value_or(backend.read_peaks().reserved_peak_bytes, 0)
    return replace(room, free_bytes=room.free_bytes + held_bytes) if room else None


def describe_events(events: AllocatorEvents) -> str:
    """Return in words how often memory was short; nothing where it never was."""
    counts = {
        "torch freed its cache and asked again": events.retries,
        "memory ran out within calls that continued with slower kernels": events.caught_out_of_memory,
    }
    return ", ".join(f"{text} ({count} x)" for text, count in counts.items() if count)


def find_memory_warnings(
    memory: MemoryUse, events: Reading[AllocatorEvents], at_start: DeviceRoom | None, root: Path = ROOT
) -> Iterator[RecordWarning]:
    """Yield warnings of a launch; ``at_start`` is what ``read_room`` returned before its first call."""
    if isinstance(events, Known) and (text := describe_events(events.value)):
        yield warn(WarningCode.ALLOCATOR_RETRIES, f"GPU memory was short: {text}")
    held_bytes = value_or(memory.torch_reserved_peak_bytes, 0)
    if at_start is None:
        return
    # Elsewhere than under Windows the driver refuses what is not free: others then freed some during the launch.
    limits = {"the GPU has": at_start.total_bytes}
    limits |= {"were free at the start": at_start.free_bytes} if is_wsl(root) else {}
    for title, limit_bytes in limits.items():
        if held_bytes > limit_bytes:
            sizes = f"{format_bytes(held_bytes)} where {title} {format_bytes(limit_bytes)}"
            yield warn(WarningCode.HOST_PAGING, f"torch held {sizes}: the driver paged GPU memory to the host")
            return
