"""A backend and a clock without a model and without time."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Self

from PIL import Image

from sdbench.backends.base import Clock, DeviceMemory, Observation
from sdbench.schema.base import Unknown
from sdbench.schema.experiment import Experiment
from sdbench.schema.manifest import Protocol
from sdbench.schema.outcome import Energy, MemoryFigures, Notice, Stage, WorkerEnvironment
from sdbench.schema.study import BatchProbe, Export
from tests.records import make_environment, make_experiment, make_memory


@dataclass
class FakeClock:
    now: float = 0.0

    def now_s(self) -> float:
        return self.now


@dataclass
class VirtualBackend:
    """Each call takes the next of ``latencies_s``; the clock is told so while the device works."""

    clock: FakeClock
    latencies_s: list[float]
    pixel: Callable[[int], int] = lambda _call: 7
    finite: bool = True
    observed_s: float = 1.0
    peak_bytes: int = 900 * 2**20
    calls: int = 0
    pending_s: float = 0.0
    log: list[str] = field(default_factory=list)

    def generate(self) -> tuple[Image.Image, ...]:
        self.log.append("generate")
        # The device works on after the call returned, as CUDA does.
        self.pending_s = self.latencies_s[min(self.calls, len(self.latencies_s) - 1)]
        self.calls += 1
        return (Image.new("RGB", (8, 8), (self.pixel(self.calls), 0, 0)),)

    def synchronize(self) -> None:
        self.log.append("synchronize")
        self.clock.now += self.pending_s
        self.pending_s = 0.0

    def observe(self, clock: Clock) -> Observation:
        self.log.append("observe")
        phases = {"text_encode": 0.1, "vae_decode": 0.3, "rest": 0.1, "total": self.observed_s}
        images = (Image.new("RGB", (8, 8), (7, 0, 0)),)
        return Observation(
            images=images, phases_s=phases, denoise_steps_s=(0.25, 0.25), finite=(self.finite,), checks=()
        )

    def reset_peaks(self) -> None:
        self.log.append("reset")

    def read_peaks(self) -> DeviceMemory:
        none = Unknown(reason="virtual")
        return DeviceMemory(none, none)

    def describe(self) -> WorkerEnvironment:
        return make_environment()

    def exports(self) -> tuple[Export, ...]:
        return ()

    def notices(self) -> tuple[Notice, ...]:
        return ()

    def with_batch(self, batch: int, steps: int) -> Self:
        return self

    def recover(self) -> None:
        self.log.append("recover")

    def device_memory_limit_bytes(self) -> int | None:
        return None

    def decode_run(self, steps: int, *, every_call: bool) -> tuple[Any, ...]:
        raise NotImplementedError


@dataclass
class VirtualSession:
    """A session around a virtual backend; what it is told goes into the backend's log."""

    backend: VirtualBackend
    protocol: Protocol
    experiment: Experiment = field(default_factory=make_experiment)
    known_probes: tuple[BatchProbe, ...] = ()
    keeps_images: bool = False

    @property
    def clock(self) -> FakeClock:
        return self.backend.clock

    def open_backend(self, experiment: Experiment) -> VirtualBackend:
        self.backend.log.append("open")
        return self.backend

    def start_energy(self) -> None:
        self.backend.log.append("start energy")

    def stop_energy(self, call_count: int, duration_s: float) -> Energy:
        self.backend.log.append("stop energy")
        return Energy(source="none", energy_j=Unknown(reason="virtual"), call_count=call_count, duration_s=duration_s)

    def reset_memory(self) -> None:
        self.backend.log.append("reset memory")

    def read_memory(self) -> MemoryFigures:
        self.backend.log.append("read memory")
        return make_memory(peak_bytes=self.backend.peak_bytes)

    def say_stage(self, stage: Stage) -> None:
        self.backend.log.append(stage)

    def say_sample(self, latency_s: float, warmup: bool) -> None:
        self.backend.log.append(f"sample {latency_s:g}{' warm-up' * warmup}")

    def say_probing(self, batch: int) -> None:
        self.backend.log.append(f"probing {batch}")

    def say_probe(self, probe: BatchProbe) -> None:
        self.backend.log.append(f"probe {probe.batch} {'fits' if probe.fits else 'does not fit'}")

    def image_path(self, name: str) -> str | None:
        return f"images/0123456789abcdef-0-{name}.webp" if self.keeps_images else None
