"""Memory and energy of a point: which figure speaks for the device, and why one is not known."""

from dataclasses import dataclass
from statistics import median

from sdbench.report.points import Machine, Point
from sdbench.schema.base import Known, Reading, Unknown
from sdbench.schema.fingerprint import GpuIdentity
from sdbench.schema.outcome import Published

MEMORY_TITLES = {
    "torch_reserved_peak_bytes": "torch reserved peak",
    "host_rss_peak_bytes": "host RSS peak",
}


@dataclass(frozen=True)
class MemoryUse:
    """Bytes over the counted launches: the middle one, the least and the most."""

    median_bytes: float
    low_bytes: int
    high_bytes: int
    launch_count: int


def memory_field(point: Point) -> str:
    """Return the field that speaks for the device: torch's reserved peak on CUDA, the host's RSS peak on a CPU."""
    return "torch_reserved_peak_bytes" if point.machine.on_cuda else "host_rss_peak_bytes"


def memory_title(point: Point) -> str:
    """Return which memory figure a point has, in words; a published one says what it means."""
    if isinstance(point.outcome, Published):
        return point.outcome.memory_meaning
    return MEMORY_TITLES[memory_field(point)]


def memory_capacity(machine: Machine) -> Reading[int]:
    """Return how much memory (bytes) a machine's device has, or why that is unknown."""
    hardware = machine.record.fingerprint.hardware
    if not machine.on_cuda:
        return hardware.memory_total_bytes
    if isinstance(hardware.gpus, Unknown):
        return hardware.gpus
    named = [gpu.memory_total_bytes for gpu in hardware.gpus.value if _is_named(gpu, machine.record.device_name)]
    sizes = {size.value for size in named if isinstance(size, Known)}
    if len(sizes) != 1:
        return Unknown(reason="no GPU of the fingerprint, or several of different memory, has the device's name")
    return Known(value=sizes.pop())


def _is_named(gpu: GpuIdentity, device_name: str) -> bool:
    return isinstance(gpu.name, Known) and gpu.name.value == device_name


def memory_use(point: Point) -> MemoryUse | Unknown:
    """Return the memory (bytes) of a point, or why it is unknown."""
    if isinstance(point.outcome, Published):
        return _published_memory(point.outcome)
    readings = [getattr(launch.memory, memory_field(point)) for launch in point.counted]
    known = [reading.value for reading in readings if isinstance(reading, Known)]
    if not known:
        return _first_reason(readings)
    return MemoryUse(median(known), min(known), max(known), len(known))


def energy_per_image(point: Point) -> Reading[float]:
    """Return the energy per image (J) over the steady calls of the counted launches, or why it is unknown."""
    if point.is_published:
        return Unknown(reason="not recorded by the source")
    energies = [launch.energy for launch in point.counted]
    known = [(e.energy_j.value, e.call_count) for e in energies if isinstance(e.energy_j, Known) and e.call_count]
    image_count = sum(count for _, count in known) * point.batch
    if not image_count:
        return _first_reason([energy.energy_j for energy in energies])
    return Known[float](value=sum(energy_j for energy_j, _ in known) / image_count)


def _published_memory(outcome: Published) -> MemoryUse | Unknown:
    figure = outcome.memory_bytes
    return figure if isinstance(figure, Unknown) else MemoryUse(figure.value, figure.value, figure.value, 1)


def _first_reason(readings: list[Reading[int]] | list[Reading[float]]) -> Unknown:
    reasons = [reading.reason for reading in readings if isinstance(reading, Unknown)]
    return Unknown(reason=reasons[0] if reasons else "no launch has this figure")
