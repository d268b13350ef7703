"""What a backend offers to a workload."""

from dataclasses import dataclass
from typing import Any, Protocol

from sdbench.schema.base import Reading
from sdbench.schema.outcome import Check, Notice, WorkerEnvironment


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

    def notices(self) -> tuple[Notice, ...]:
        """Return what the user should know of this set-up."""
