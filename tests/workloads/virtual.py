"""A backend and a clock without a model and without time."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Self

from PIL import Image

from sdbench.backends.base import Clock, DeviceMemory, DeviceRoom, Observation, Profile, ReferenceSamples
from sdbench.probes.energy import EnergyMeter
from sdbench.schema.base import Known, Reading, Unknown
from sdbench.schema.experiment import Experiment
from sdbench.schema.manifest import Protocol
from sdbench.schema.outcome import Check, Energy, MemoryUse, RecordWarning
from sdbench.schema.wire import ProbeEvent, ProbingEvent, SampleEvent, StageEvent, WorkerEvent, WorkerRequest
from sdbench.schema.worker_environment import WorkerEnvironment
from sdbench.schema.workload_results import AllocatorEvents, BatchProbe, Export
from sdbench.workloads.base import Session
from tests.records import make_environment, make_experiment, make_memory


@dataclass
class FakeClock:
    now: float = 0.0

    def now_s(self) -> float:
        return self.now


@dataclass
class VirtualBackend:
    """Each call takes the next of ``latencies_s``; the clock advances by it while the device works."""

    clock: FakeClock
    latencies_s: list[float]
    pixel: Callable[[int], int] = lambda _call: 7
    finite: bool = True
    peak_bytes: int = 900 * 2**20
    reference: Unknown | None = None
    host_bound: Known[float] | None = None
    profiler_error: Exception | None = None
    calls: int = 0
    pending_s: float = 0.0
    log: list[str] = field(default_factory=list)

    def generate(self) -> tuple[Image.Image, ...]:
        self.log.append("generate")
        # The device works on after the call returned, as CUDA does.
        self.pending_s = self._next_s()
        return (draw(self.pixel(self.calls)),)

    def _next_s(self) -> float:
        self.calls += 1
        return self.latencies_s[min(self.calls, len(self.latencies_s)) - 1]

    def synchronize(self) -> None:
        self.log.append("synchronize")
        self.clock.now += self.pending_s
        self.pending_s = 0.0

    def time_reference_operation(self, clock: Clock) -> Reading[ReferenceSamples]:
        self.log.append("reference operation")
        self.clock.now += 0.1
        return self.reference or Known(value=ReferenceSamples("fixed", "fp32", "cpu", 1, (self.clock.now,)))

    def observe(self, clock: Clock) -> Observation:
        self.log.append("observe")
        total_s = self._next_s()
        self.clock.now += total_s
        phases = {"text_encoder": 0.1, "vae_decode": 0.3, "rest": 0.1, "total": total_s}
        images = (draw(7),)
        return Observation(
            images=images,
            phases_s=phases,
            denoise_steps_s=(0.25, 0.25),
            finite=(self.finite,),
            checks=(),
            host_bound_ratio=self.host_bound or Unknown(reason="virtual"),
        )

    def check_fp32(self) -> tuple[Check, ...]:
        self.log.append("check fp32")
        return ()

    def observe_attention(self) -> tuple[Check, ...]:
        self.log.append("observe attention")
        return ()

    def profile_operators(self, clock: Clock, trace_bytes_max: int | None = None) -> Profile:
        self.log.append("profile")
        if self.profiler_error:
            raise self.profiler_error
        return Profile(Unknown(reason="virtual"), trace=b"trace" if trace_bytes_max else None)

    def reset_peaks(self) -> None:
        self.log.append("reset")

    def read_peaks(self) -> DeviceMemory:
        none = Unknown(reason="virtual")
        return DeviceMemory(none, none)

    def describe(self) -> WorkerEnvironment:
        return make_environment()

    def exports(self) -> tuple[Export, ...]:
        return ()

    def warnings(self) -> tuple[RecordWarning, ...]:
        return ()

    def with_batch(self, batch: int, steps: int) -> Self:
        return self

    def recover(self) -> None:
        self.log.append("recover")

    def read_device_room(self) -> DeviceRoom | None:
        return None

    def read_allocator_events(self) -> Reading[AllocatorEvents]:
        return Unknown(reason="virtual")

    def decode_run(self, steps: int, *, every_call: bool) -> tuple[Any, ...]:
        raise NotImplementedError


def draw(red: int) -> Image.Image:
    """Return a picture of two colors."""
    picture = Image.new("RGB", (8, 8), (red, 0, 0))
    picture.putpixel((0, 0), (0, 0, 255))
    return picture


class LoggedEnergy(EnergyMeter):
    def __init__(self, log: list[str]) -> None:
        self._log = log

    def start(self) -> None:
        self._log.append("start energy")

    def stop(self, call_count: int, duration_s: float) -> Energy:
        self._log.append("stop energy")
        return Energy(
            source="none",
            energy_j=Unknown(reason="virtual"),
            call_count=call_count,
            duration_s=duration_s,
            counter_step_s=Unknown(reason="virtual"),
        )


@dataclass
class VirtualSession(Session):
    """A session around a virtual backend; its events and readings go into the backend's log."""

    machine: VirtualBackend
    protocol: Protocol
    experiment: Experiment = field(default_factory=make_experiment)
    known_probes: tuple[BatchProbe, ...] = ()
    keeps_images: bool = False

    def __post_init__(self) -> None:
        self._backend, self._paused_out_of_memory = self.machine, 0
        self.energy = LoggedEnergy(self.machine.log)
        self.clock = self.machine.clock
        self._started_s = self.clock.now_s()
        self.emit = self.log_event
        self.request = WorkerRequest(
            experiment=self.experiment,
            protocol=self.protocol,
            device="cpu",
            cache_folder="unused",
            image_prefix="images/0123456789abcdef-0-" if self.keeps_images else None,
            known_probes=self.known_probes,
        )

    def open_backend(self, experiment: Experiment) -> VirtualBackend:
        self.machine.log.append("open")
        return self.machine

    def reset_memory(self) -> None:
        self.machine.log.append("reset memory")

    def read_memory(self) -> MemoryUse:
        self.machine.log.append("read memory")
        return make_memory(peak_bytes=self.machine.peak_bytes)

    def log_event(self, event: WorkerEvent) -> None:
        match event:
            case StageEvent():
                self.machine.log.append(event.stage)
            case SampleEvent():
                self.machine.log.append(f"sample {event.latency_s:g}{' warm-up' * event.warmup}")
            case ProbingEvent():
                self.machine.log.append(f"probing {event.batch}")
            case ProbeEvent():
                self.machine.log.append(f"probe {event.probe.batch} {'fits' if event.probe.fits else 'does not fit'}")
