"""What a backend offers to a workload."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol, Self

from sdbench.schema.base import Reading
from sdbench.schema.experiment import Experiment
from sdbench.schema.outcome import Check, Notice, Stage, WorkerEnvironment
from sdbench.schema.study import Export

# What the allocators of torch and of the C++ library say; torch raises plain RuntimeError for host memory.
_HOST_MEMORY = re.compile(
    r"can't allocate memory|not enough memory|std::bad_alloc|Cannot allocate memory", re.IGNORECASE
)
_DEVICE_MEMORY = re.compile(r"CUDA( driver)? error: out of memory|(CUBLAS|CUDNN)_STATUS_ALLOC_FAILED", re.IGNORECASE)


class Clock(Protocol):
    """A monotonic clock."""

    def now_s(self) -> float:
        """Return the time (s) since an arbitrary start."""


class WrongExecution(Exception):
    """What ran is not what was asked: the launch fails, because its number would be of something else."""


@dataclass(frozen=True)
class Observation:
    """One observed call: its phases (s), whether each image's pixels were finite, and what was verified.

    ``phases_s`` maps text_encode, vae_decode, rest and total to their time, ``denoise_steps_s`` holds one
    value per UNet call.
    """

    images: tuple[Any, ...]
    phases_s: dict[str, float]
    denoise_steps_s: tuple[float, ...]
    finite: tuple[bool, ...]
    checks: tuple[Check, ...]


@dataclass(frozen=True)
class DeviceMemory:
    """Torch's peaks (bytes) since the last reset, or why there are none."""

    allocated_peak_bytes: Reading[int]
    reserved_peak_bytes: Reading[int]


class Backend(Protocol):
    """A loaded pipeline on a device."""

    def generate(self) -> tuple[Any, ...]:
        """Return the PIL images of one call of the stock pipeline, from prompt to pixels."""

    def synchronize(self) -> None:
        """Wait until the device has done all its work."""

    def observe(self, clock: Clock) -> Observation:
        """Run one call with phases timed and everything verified; never part of the timed calls."""

    def reset_peaks(self) -> None:
        """Forget the memory peaks so far."""

    def read_peaks(self) -> DeviceMemory:
        """Return the memory peaks since the reset."""

    def describe(self) -> WorkerEnvironment:
        """Return what the worker sees of software and device."""

    def exports(self) -> tuple[Export, ...]:
        """Return the files the networks were exported to, none for a backend that needs no export."""

    def notices(self) -> tuple[Notice, ...]:
        """Return what the user should know of this set-up."""

    def with_batch(self, batch: int, steps: int) -> Self:
        """Return the same loaded pipeline, set up for another batch size and number of steps."""

    def recover(self) -> None:
        """Give back what a call that ran out of memory left behind."""

    def device_memory_limit_bytes(self) -> int | None:
        """Return how much memory (bytes) this process may have on the device, None where that is the host's."""

    def decode_run(self, steps: int, *, every_call: bool) -> tuple[Any, ...]:
        """Return images as float RGB arrays (height, width, 3) float32 in 0 to 1, of a run of ``steps`` steps.

        With ``every_call`` one after each UNet call, otherwise the finished one only. NaN stays NaN.
        """


class BackendModule(Protocol):
    """What a module named in ``BACKENDS`` offers."""

    def import_libraries(self) -> None:
        """Import what the backend needs, so that the import can be timed apart from loading."""

    def fetch(self, experiment: Experiment, cache_folder: Path, say_stage: Callable[[Stage], None]) -> None:
        """Put what is not in ``cache_folder`` yet there (downloads, exports), so that loading is timed alone."""

    def open_backend(self, experiment: Experiment, device: str, cache_folder: Path, thread_count: int) -> Backend:
        """Return the loaded pipeline of ``experiment`` on ``device`` ("cpu", "cuda:0", ...)."""


def where_memory_ran_out(error: Exception) -> Literal["device", "host"] | None:
    """Return which memory an exception says was too small, or None for any other exception."""
    if type(error).__name__ == "OutOfMemoryError":  # torch's, without importing torch here
        return "device"
    if isinstance(error, RuntimeError) and _DEVICE_MEMORY.search(str(error)):
        return "device"
    if isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and _HOST_MEMORY.search(str(error))):
        return "host"
    return None
