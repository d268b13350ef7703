"""Backend ``virtual``: no network and no waiting, a virtual clock that moves by latencies drawn from a noise model.

It tests everything around a measurement. Its records are marked and never mix with real ones.
"""

import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from random import Random
from typing import Any, Self

import sdbench
from sdbench.backends.base import Backend, Clock, DeviceMemory, Observation, ReferenceSamples, WrongExecution
from sdbench.probes.virtual import STALLED_FACTOR, VirtualMachine, read_pace, read_virtual_machine
from sdbench.schema.base import Known, Reading, Unknown
from sdbench.schema.experiment import SIZE_STEP_PX, Experiment
from sdbench.schema.outcome import Check
from sdbench.schema.wire import Stage
from sdbench.schema.work import Work
from sdbench.schema.worker_environment import WorkerEnvironment

# The first call of a process is slower, as compilation and caches make it with a real one.
_FIRST_CALL_FACTOR = 2.0
_NATIVE_STEPS = 50
_LOAD_S = 0.5
_REFERENCE_S = 0.01
_REFERENCE_SAMPLES = 6
# The shares of a call, roughly those of the 2022 study's pipeline.
_TEXT_SHARE, _DECODE_SHARE, _REST_SHARE = 0.02, 0.1, 0.01
_MEMORY_BYTES = 2**30
_PICTURE_PX = 16
_NONE = Unknown(reason="the machine is virtual")


@dataclass
class VirtualClock:
    """A clock that moves only when it is advanced."""

    _now_s: float = 0.0

    def now_s(self) -> float:
        """Return the virtual time (s)."""
        return self._now_s

    def advance(self, duration_s: float) -> None:
        """Let ``duration_s`` pass."""
        self._now_s += duration_s


# A process has one clock, as with the real one.
CLOCK = VirtualClock()


class VirtualBackend(Backend):
    """A pipeline whose calls take the time of its noise model, with one picture per seed."""

    def __init__(self, experiment: Experiment, machine: VirtualMachine) -> None:
        """Start the launch at the machine's position on its time line."""
        self._experiment = experiment
        self._position = machine.position
        self._pace = read_pace(machine, experiment)
        self._random = Random(f"{machine.seed} calls {machine.position}")  # noqa: S311 - noise, no secret
        # Of its own, so that the calls' noise depends on the seed alone.
        self._reference_random = Random(f"{machine.seed} reference {machine.position}")  # noqa: S311
        self._call_count = 0

    def generate(self) -> tuple[Any, ...]:
        """Return the pictures of one call, and let the call's time pass."""
        from PIL import Image

        self._fail_if_configured()
        CLOCK.advance(self._next_latency_s())
        e = self._experiment
        size = (_PICTURE_PX, _PICTURE_PX)
        colors = [sha256(f"{e.seed + index} {e.prompt}".encode()).digest() for index in range(e.batch)]
        return tuple(Image.frombytes("RGB", size, color[:24] * (_PICTURE_PX**2 // 8)) for color in colors)

    def _next_latency_s(self) -> float:
        e = self._experiment.virtual
        latency_s = e.latency_s * self._pace * max(1e-3, 1 + e.call_noise * self._random.gauss(0, 1))
        latency_s *= STALLED_FACTOR if self._random.random() < e.stall else 1.0
        latency_s *= _FIRST_CALL_FACTOR if self._call_count == 0 else 1.0
        self._call_count += 1
        return latency_s

    def _fail_if_configured(self) -> None:
        if self._position != self._experiment.virtual.fault_launch:
            return
        match self._experiment.virtual.fault:
            case "crash":
                os.kill(os.getpid(), signal.SIGKILL)
            case "out-of-memory":
                raise MemoryError("the virtual memory ran out, as configured")
            case "hang":
                time.sleep(self._experiment.virtual.latency_s * 1e6)

    def time_reference_operation(self, clock: Clock) -> Reading[ReferenceSamples]:
        """Return simulated samples (s), which see what makes the machine slower and not how long a call is."""
        samples_s = []
        noise = self._experiment.virtual.call_noise
        for _ in range(_REFERENCE_SAMPLES):
            started_s = clock.now_s()
            CLOCK.advance(_REFERENCE_S * self._pace * max(1e-3, 1 + noise * self._reference_random.gauss(0, 1)))
            samples_s.append(clock.now_s() - started_s)
        return Known(value=ReferenceSamples("simulated", "fp32", "virtual", 1, tuple(samples_s)))

    def observe(self, clock: Clock) -> Observation:
        """Return a call's phases (s), which add up to its whole time."""
        started_s = clock.now_s()
        images = self.generate()
        total_s = clock.now_s() - started_s
        shares = {"text_encoder": _TEXT_SHARE, "vae_decode": _DECODE_SHARE, "rest": _REST_SHARE, "total": 1.0}
        steps_s = total_s * (1 - _TEXT_SHARE - _DECODE_SHARE - _REST_SHARE)
        finite = self._experiment.virtual.fault != "not-finite"
        return Observation(
            images=images,
            phases_s={name: share * total_s for name, share in shares.items()},
            denoise_steps_s=(steps_s / self._experiment.steps,) * self._experiment.steps,
            finite=(finite,) * len(images),
            checks=(Check(name="backend", expected="virtual", observed="virtual", passed=True),),
            host_bound_ratio=_NONE,
        )

    def read_peaks(self) -> DeviceMemory:
        """Return a fixed peak (bytes): one share, and one more for each image."""
        peak = Known(value=_MEMORY_BYTES * (1 + self._experiment.batch))
        return DeviceMemory(allocated_peak_bytes=peak, reserved_peak_bytes=peak)

    def describe(self) -> WorkerEnvironment:
        """Return an environment that says it is virtual."""
        return WorkerEnvironment(
            backend="virtual",
            backend_version=sdbench.__version__,
            device="virtual",
            device_name="virtual machine",
            threads=1,
            cuda_version=_NONE,
            cudnn_version=_NONE,
            weights_digest="virtual",
            weights_source="simulated",
            weights_mapped_bytes=0,
            parameter_count=1,
            work=_count_work(self._experiment),
            drawn_tokens={},
            cpu_capability="virtual",
            onednn_isa=_NONE,
            cudnn_benchmark=_NONE,
            cudnn_deterministic=_NONE,
            deterministic_algorithms=True,
            loaded_libraries=_NONE,
        )

    def with_batch(self, batch: int, steps: int) -> Self:
        """Fail: the schema refuses a virtual experiment that is not about latency."""
        raise WrongExecution(f"backend virtual measures latency only, not batch {batch} at {steps} steps")

    def decode_run(self, steps: int, *, every_call: bool) -> tuple[Any, ...]:
        """Fail in the same way."""
        images = "the images of every call" if every_call else "the image"
        raise WrongExecution(f"backend virtual measures latency only, and has not {images} of {steps} steps")


def _count_work(experiment: Experiment) -> Work:
    pixels = experiment.height * experiment.width
    return Work(
        pixels=pixels,
        latent_tokens=max(1, pixels // SIZE_STEP_PX**2),
        text_tokens={},
        denoiser_calls=experiment.steps,
        native_steps=_NATIVE_STEPS,
        denoiser_calls_at_native_steps=_NATIVE_STEPS,
        flop_per_image={},
        weight_bytes={},
        activation_bytes_per_image={},
        operators={},
    )


def import_libraries() -> None:
    """There are none."""


def fetch(experiment: Experiment, device: str, cache_folder: Path, emit_stage: Callable[[Stage], None]) -> None:
    """There is nothing to fetch."""


def open_backend(experiment: Experiment, device: str, cache_folder: Path, thread_count: int) -> VirtualBackend:
    """Return the backend, after the load's virtual time; device, cache and threads are for real ones."""
    del device, cache_folder, thread_count
    CLOCK.advance(_LOAD_S)
    return VirtualBackend(experiment, read_virtual_machine(os.environ))
