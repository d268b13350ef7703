"""What a backend offers to a workload."""

import gc
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, Self

from sdbench.probes.out_of_memory import where_memory_ran_out as where_memory_ran_out  # noqa: PLC0414 - exported
from sdbench.processes import return_freed_memory
from sdbench.schema.base import Reading, Unknown
from sdbench.schema.experiment import Experiment, Precision
from sdbench.schema.operators import OperatorTable
from sdbench.schema.outcome import Check, RecordWarning
from sdbench.schema.wire import Stage
from sdbench.schema.worker_environment import WorkerEnvironment
from sdbench.schema.workload_results import AllocatorEvents, Export


class Clock(Protocol):
    """A monotonic clock."""

    def now_s(self) -> float:
        """Return the time (s) since an arbitrary start."""


class WrongExecution(Exception):
    """What ran is not what was requested: the launch fails, because its number would be of something else."""


@dataclass(frozen=True)
class Observation:
    """One observed call: its phases (s), whether each image's pixels were finite, and what was verified.

    ``phases_s`` maps each text encoder, vae_decode, rest and total to their time, ``denoise_steps_s`` holds one
    value per denoiser call. ``host_bound_ratio`` is the share of denoiser calls in which the GPU waited for the host.
    """

    images: tuple[Any, ...]
    phases_s: dict[str, float]
    denoise_steps_s: tuple[float, ...]
    finite: tuple[bool, ...]
    checks: tuple[Check, ...]
    host_bound_ratio: Reading[float]


@dataclass(frozen=True)
class Profile:
    """What calls under a profiler gave: the table, what ran as checks, and the trace (gzip) where it is wanted."""

    operators: Reading[OperatorTable]
    checks: tuple[Check, ...] = ()
    trace: bytes | None = None
    warnings: tuple[RecordWarning, ...] = ()


@dataclass(frozen=True)
class ReferenceSamples:
    """A reference operation (see its schema), and how long (s) each of its samples took."""

    name: str
    precision: Precision
    device: str
    threads: int
    samples_s: tuple[float, ...]


@dataclass(frozen=True)
class DeviceMemory:
    """Torch's peaks (bytes) since the last reset, or why there are none."""

    allocated_peak_bytes: Reading[int]
    reserved_peak_bytes: Reading[int]


@dataclass(frozen=True)
class DeviceRoom:
    """Memory (bytes) of the GPU that no process uses, and all it has."""

    free_bytes: int
    total_bytes: int


class Backend(Protocol):
    """A loaded pipeline on a device."""

    def generate(self) -> tuple[Any, ...]:
        """Return the PIL images of one call of the stock pipeline, from prompt to pixels."""

    def synchronize(self) -> None:
        """Wait until the device has done all its work."""
        return

    def time_reference_operation(self, clock: Clock) -> Reading[ReferenceSamples]:
        """Return how fast the device is at the moment, by an operation that is the same in every launch."""

    def observe(self, clock: Clock) -> Observation:
        """Run one call with phases timed and everything verified; never part of the timed calls.

        Raises:
            WrongExecution: something else ran than the experiment requests.
        """

    def check_fp32(self) -> tuple[Check, ...]:
        """Return the checks of what fp32 is computed in, which the observed call makes too.

        Raises:
            WrongExecution: it is not what the experiment requests.
        """
        return ()

    def observe_attention(self) -> tuple[Check, ...]:
        """Return the check of the attention kernels that ran, by a call of its own after the timed ones.

        Raises:
            WrongExecution: another kernel ran than the experiment requests.
        """
        return ()

    def profile_operators(self, clock: Clock, trace_bytes_max: int | None = None) -> Profile:
        """Return where the time of a call goes, by calls of their own after the timed ones.

        The trace is made where ``trace_bytes_max`` limits it; where it is larger, a warning says so.

        Raises:
            RuntimeError: the profiler failed, or the device's memory ran out.
            MemoryError: the host's memory ran out.
        """
        del clock, trace_bytes_max
        return Profile(Unknown(reason="this backend has no profiler"))

    def reset_peaks(self) -> None:
        """Forget the memory peaks so far."""
        return

    def read_peaks(self) -> DeviceMemory:
        """Return the memory peaks since the reset."""

    def read_allocator_events(self) -> Reading[AllocatorEvents]:
        """Return how often memory was short, since the process began."""
        return Unknown(reason="only torch counts them, and only on a GPU")

    def describe(self) -> WorkerEnvironment:
        """Return the software and device that the worker process runs with."""

    def exports(self) -> tuple[Export, ...]:
        """Return the files the networks were exported to, none for a backend that needs no export."""
        return ()

    def warnings(self) -> tuple[RecordWarning, ...]:
        """Return what the user should know of this configuration."""
        return ()

    def with_batch(self, batch: int, steps: int) -> Self:
        """Return the same loaded pipeline, configured for another batch size and number of steps."""

    def recover(self) -> None:
        """Free what a call that ran out of memory left behind."""
        free_unreferenced_memory()

    def read_device_room(self) -> DeviceRoom | None:
        """Return the device's free and total memory (bytes), None where its memory is the host's."""
        return None

    def decode_run(self, steps: int, *, every_call: bool) -> tuple[Any, ...]:
        """Return images as float RGB arrays (height, width, 3) float32 in 0 to 1, of a run of ``steps`` steps.

        With ``every_call`` one after each denoiser call, otherwise the finished one only. NaN stays NaN.
        """


class BackendModule(Protocol):
    """What a module named in ``BACKENDS`` offers."""

    def import_libraries(self) -> None:
        """Import what the backend needs, so that the import can be timed apart from loading."""

    def fetch(
        self, experiment: Experiment, device: str, cache_folder: Path, emit_stage: Callable[[Stage], None]
    ) -> None:
        """Put what ``device`` needs and is not in ``cache_folder`` yet there, so that loading is timed alone.

        Raises:
            UserError: the weights are not pinned.
            WeightsUnavailable: pretrained weights are not available.
            EnvironmentProblem: the cache cannot be written.
            ExportFailed: a network cannot be exported.
            MemoryError: the host's memory does not suffice for the export.
        """

    def open_backend(self, experiment: Experiment, device: str, cache_folder: Path, thread_count: int) -> Backend:
        """Return the loaded pipeline of ``experiment`` on ``device`` ("cpu", "cuda:0", ...).

        Raises:
            UserError: the pipeline or scheduler is unknown, or the weights are not pinned.
            EnvironmentProblem: the device, a library or the weights are not available.
            SessionFailed: onnxruntime cannot run an exported network.
            WrongExecution: something other than what was requested would run.
        """


def free_unreferenced_memory() -> None:
    """Free what nothing refers to any more, and the blocks of it that torch keeps on the GPU."""
    gc.collect()
    return_freed_memory()
    # Not imported here: where torch has not been used there is nothing of it to free.
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        torch.cuda.empty_cache()
