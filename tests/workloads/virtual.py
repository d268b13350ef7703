"""A backend and a clock without a model and without time."""

from collections.abc import Callable
from dataclasses import dataclass, field

from PIL import Image

from sdbench.backends.base import Clock, DeviceMemory, Observation
from sdbench.schema.base import Unknown
from sdbench.schema.outcome import Energy, Notice, Stage, WorkerEnvironment
from sdbench.workloads.latency import Instruments
from tests.records import make_environment


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

    def notices(self) -> tuple[Notice, ...]:
        return ()


def make_instruments(clock: FakeClock, log: list[str]) -> Instruments:
    def say_stage(stage: Stage) -> None:
        log.append(stage)

    def stop_energy(call_count: int, duration_s: float) -> Energy:
        log.append("stop energy")
        return Energy(source="none", energy_j=Unknown(reason="virtual"), call_count=call_count, duration_s=duration_s)

    return Instruments(
        clock=clock,
        start_energy=lambda: log.append("start energy"),
        stop_energy=stop_energy,
        say_stage=say_stage,
        say_sample=lambda latency_s, warmup: log.append(f"sample {latency_s:g}{' warm-up' * warmup}"),
        end_of_calls=lambda: log.append("end of calls"),
    )
