"""What a workload gets from the worker: backends, clock, meters, the supervisor; and what it returns."""

import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Protocol

from sdbench.backends import BACKENDS
from sdbench.backends.base import Backend, BackendModule, Clock, free_unreferenced_memory
from sdbench.probes.cgroup import count_usable_cpus
from sdbench.probes.devices import check_card, choose_device
from sdbench.probes.energy import EnergyMeter
from sdbench.probes.memory import HostMemoryProbe, read_device_memory
from sdbench.schema.base import Known, Reading, Unknown
from sdbench.schema.experiment import Experiment
from sdbench.schema.operators import OperatorTable
from sdbench.schema.outcome import (
    Check,
    Energy,
    ImageResult,
    MemoryUse,
    RecordWarning,
    Series,
    StopReason,
)
from sdbench.schema.reference_operation import ReferenceOperation
from sdbench.schema.wire import Stage, StageEvent, WorkerEvent, WorkerRequest
from sdbench.schema.workload_results import AllocatorEvents, BatchSearch, PrecisionResult

# Of the workloads that time no steady calls.
NO_REFERENCE_OPERATION = Unknown(reason="it runs around timed calls, which only workload latency makes")
NO_ALLOCATOR_EVENTS = Unknown(reason="they are counted up to the last timed call, and only workload latency makes any")
NOT_PROFILED = Unknown(reason="only workload latency profiles a call")

_PEAKS = ("torch_allocated_peak_bytes", "torch_reserved_peak_bytes", "host_rss_peak_bytes")


class Session:
    """One launch: what is requested, the clock of every timing, the meters, and ``emit`` for the supervisor.

    ``load_s`` is the time (s) it took to open all backends.
    """

    def __init__(self, request: WorkerRequest, clock: Clock, emit: Callable[[WorkerEvent], None]) -> None:
        self.request = request
        self.experiment = request.experiment
        self.protocol = request.protocol
        self.clock = clock
        self.emit = emit
        self.load_s = 0.0
        self._started_s = clock.now_s()
        self._device = choose_device(request.device)
        self._host = HostMemoryProbe()
        self.energy = EnergyMeter(self._device)
        self._backend: Backend | None = None
        # The peaks until counting was paused.
        self._earlier: MemoryUse | None = None
        self._libraries_bytes = 0
        self._paused_out_of_memory = 0

    @property
    def backend(self) -> Backend:
        """The backend that was opened last."""
        if self._backend is None:
            raise RuntimeError("no backend is open")
        return self._backend

    def emit_stage(self, stage: Stage) -> None:
        """Tell the supervisor which stage begins."""
        self.emit(StageEvent(stage=stage))

    def import_libraries(self, experiment: Experiment) -> BackendModule:
        """Return the module of the experiment's backend, with its libraries imported."""
        module: BackendModule = import_module(BACKENDS[experiment.backend])
        module.import_libraries()
        return module

    def open_backend(self, experiment: Experiment) -> Backend:
        """Load ``experiment``; memory peaks count from here on, and the time (s) adds to ``load_s``.

        An open backend is closed before, so that two never share the memory.
        """
        if self._backend is not None:
            self._backend = None
            free_unreferenced_memory()
        module = self.import_libraries(experiment)
        cache_folder = Path(self.request.cache_folder)
        self.emit_stage("fetch")
        module.fetch(experiment, self.request.device, cache_folder, self.emit_stage)
        threads = experiment.threads or count_usable_cpus()
        self.emit_stage("load")
        started_s = self.clock.now_s()
        self._backend = module.open_backend(experiment, self.request.device, cache_folder, threads)
        self.backend.synchronize()
        if self._device.kind == "cuda" and (torch := sys.modules.get("torch")) is not None:
            check_card(self._device, torch)
        self.load_s += self.clock.now_s() - started_s
        self.reset_memory()
        return self.backend

    @property
    def left_s(self) -> float:
        """How long (s) the launch may still take before it is killed."""
        return self.protocol.launch_timeout_s - (self.clock.now_s() - self._started_s)

    def reset_memory(self) -> None:
        """Start new memory peaks."""
        self._earlier, self._libraries_bytes = None, 0
        self._host.reset()
        self.backend.reset_peaks()

    @contextmanager
    def memory_paused(self) -> Iterator[None]:
        """While entered, no memory counts; nor do libraries that were loaded onto the device meanwhile."""
        earlier, events = self.read_memory(), self.read_allocator_events()
        yield
        self._paused_out_of_memory += events_since(events, self.read_allocator_events()).caught_out_of_memory
        self.reset_memory()
        later = self.read_memory()
        self._earlier = earlier
        self._libraries_bytes = max(0, _difference(later.device_process_bytes, earlier.device_process_bytes))

    def read_memory(self) -> MemoryUse:
        """Return the memory values (bytes) since the last reset: peaks, and what is in use now."""
        now = self._read_memory()
        if self._earlier is None:
            return now
        values = {name: _higher(getattr(self._earlier, name), getattr(now, name)) for name in _PEAKS}
        if isinstance(now.device_process_bytes, Known):
            values["device_process_bytes"] = Known(value=now.device_process_bytes.value - self._libraries_bytes)
        return now.model_copy(update=values)

    def _read_memory(self) -> MemoryUse:
        peaks = self.backend.read_peaks()
        process_bytes, total_bytes = read_device_memory(self._device)
        host_peak, host_anonymous, host_file_backed = self._host.read()
        return MemoryUse(
            torch_allocated_peak_bytes=peaks.allocated_peak_bytes,
            torch_reserved_peak_bytes=peaks.reserved_peak_bytes,
            device_process_bytes=process_bytes,
            device_total_used_bytes=total_bytes,
            host_rss_peak_bytes=host_peak,
            host_rss_anon_bytes=host_anonymous,
            host_rss_file_bytes=host_file_backed,
        )

    def read_allocator_events(self) -> Reading[AllocatorEvents]:
        """Return how often memory was short since the process began, but not while counting was paused."""
        events = self.backend.read_allocator_events()
        if isinstance(events, Unknown):
            return events
        caught = events.value.caught_out_of_memory - self._paused_out_of_memory
        return Known(value=AllocatorEvents(retries=events.value.retries, caught_out_of_memory=caught))

    def image_path(self, name: str) -> str | None:
        """Return the path within the bundle of a picture called ``name``, None when none are kept."""
        return f"{self.request.image_prefix}{name}.webp" if self.request.image_prefix else None


def _higher(first: Reading[int], second: Reading[int]) -> Reading[int]:
    """Return the higher of two peaks, unknown if one of them is."""
    if isinstance(first, Unknown) or isinstance(second, Unknown):
        return first if isinstance(first, Unknown) else second
    return Known(value=max(first.value, second.value))


def _difference(later: Reading[int], earlier: Reading[int]) -> int:
    return later.value - earlier.value if isinstance(later, Known) and isinstance(earlier, Known) else 0


def events_since(earlier: Reading[AllocatorEvents], later: Reading[AllocatorEvents]) -> AllocatorEvents:
    """Return what was counted between two readings; nothing where one is unknown."""
    if isinstance(earlier, Unknown) or isinstance(later, Unknown):
        return AllocatorEvents(retries=0, caught_out_of_memory=0)
    return AllocatorEvents(
        retries=later.value.retries - earlier.value.retries,
        caught_out_of_memory=later.value.caught_out_of_memory - earlier.value.caught_out_of_memory,
    )


@dataclass(frozen=True)
class WorkloadOutput:
    """What a workload measured. ``pictures`` maps paths within the bundle to the bytes of a WebP, ``trace`` is gzip."""

    batch: int
    stop_reason: StopReason
    first_call_s: float
    memory: MemoryUse
    allocator: Reading[AllocatorEvents]
    energy: Energy
    reference_operation: Reading[ReferenceOperation]
    host_bound_ratio: Reading[float]
    series: tuple[Series, ...] = ()
    checks: tuple[Check, ...] = ()
    images: tuple[ImageResult, ...] = ()
    operators: Reading[OperatorTable] = NOT_PROFILED
    warnings: tuple[RecordWarning, ...] = ()
    workload_result: BatchSearch | PrecisionResult | None = None
    pictures: Mapping[str, bytes] = field(default_factory=dict)
    trace: bytes | None = None


class Workload(Protocol):
    """What a module named in ``WORKLOADS`` offers."""

    def run(self, session: Session) -> WorkloadOutput:
        """Do the workload and return what it measured."""
