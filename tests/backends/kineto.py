"""Stand-ins for events of torch's profiler, with the getters that are read, as a GPU makes them."""

from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

US = 1_000


@dataclass
class Event:
    """An event as ``torch._C._autograd._KinetoEvent`` has it; times in microseconds here, in nanoseconds there."""

    its_name: str
    start_us: float
    end_us: float
    device: str = "CPU"
    correlation: int = 0
    linked: int = 0
    its_shapes: tuple[tuple[int, ...], ...] = ()
    types: tuple[str, ...] = ()
    inputs: tuple[Any, ...] = ()
    thread: int = 1
    activity: str = "cpu_op"
    annotation: bool = False
    stream: int = 7

    def name(self) -> str:
        return self.its_name

    def start_ns(self) -> int:
        return round(self.start_us * US)

    def end_ns(self) -> int:
        return round(self.end_us * US)

    def device_type(self) -> Any:
        return SimpleNamespace(name=self.device)

    def correlation_id(self) -> int:
        return self.correlation

    def linked_correlation_id(self) -> int:
        return self.linked

    def shapes(self) -> list[list[int]]:
        return [list(shape) for shape in self.its_shapes]

    def dtypes(self) -> list[str]:
        return list(self.types)

    def concrete_inputs(self) -> list[Any]:
        return list(self.inputs)

    def start_thread_id(self) -> int:
        return self.thread

    def device_resource_id(self) -> int:
        return self.stream

    def is_user_annotation(self) -> bool:
        return self.annotation

    def activity_type(self) -> str:
        return self.activity


def mark(phase: str, at_us: float) -> Event:
    """Return the event with which a phase begins."""
    return Event(f"sdbench:{phase}", at_us, at_us, activity="user_annotation", annotation=True)


def operator(name: str, start_us: float, end_us: float, correlation: int = 0, **changes: Any) -> Event:
    """Return an operator on the CPU."""
    return Event(name, start_us, end_us, correlation=correlation, **changes)


def runtime(name: str, start_us: float, end_us: float, correlation: int = 0, linked: int = 0) -> Event:
    """Return a call of CUDA's runtime."""
    return Event(name, start_us, end_us, correlation=correlation, linked=linked, activity="cuda_runtime")


def kernel(name: str, start_us: float, end_us: float, correlation: int = 0, linked: int = 0, stream: int = 7) -> Event:
    """Return a kernel on the GPU."""
    linking: dict[str, Any] = {"correlation": correlation, "linked": linked, "stream": stream}
    return Event(name, start_us, end_us, "CUDA", activity="kernel", **linking)
