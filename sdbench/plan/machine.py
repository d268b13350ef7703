"""What the planner knows of the device that experiments will run on, and how fast that is."""

import os
from collections.abc import Mapping

from sdbench.probes.cgroup import count_usable_cpus
from sdbench.probes.devices import Device
from sdbench.probes.readings import value_or
from sdbench.schema.base import Model
from sdbench.schema.experiment import DeviceKind, Experiment

Capability = tuple[int, int]

# Measured on two cores of two Xeon servers: 100 to 240 GFLOP/s in fp32 and fp16 eager; bf16 45 to 730.
_CPU_FLOP_PER_S_PER_CORE = 50e9
# FLOP in a clock of one multiprocessor that a whole call of SD v1 reaches on NVIDIA cards at large batches, by the
# first compute capability for which it holds: half precision with SDPA, and fp32. The clock is NVML's highest.
# Half precision: 7.0, 8.0, 8.6 and 8.9 from V100, A100, RTX 3090 and RTX 4090 at batch 16 (huggingface/diffusers,
# docs/source/en/optimization/torch2.0.md: 1.66, 3.6, 1.7 and 3.2 calls of the UNet a second, each 25.7 TFLOP); 7.5
# between the T4 there and the Quadro RTX 8000 of the 2022 study. fp32: the study's rows at the largest batch. 9.0 and
# newer have no public result at large batches: the A100's, times what their data sheets promise more, a third of it.
_GPU_FLOP_PER_CLOCK: dict[Capability, tuple[float, float]] = {
    (7, 0): (350, 58),
    (7, 5): (200, 58),
    (8, 0): (600, 115),
    (8, 6): (240, 70),
    (8, 9): (210, 70),
    (9, 0): (760, 150),
    (12, 0): (210, 70),
}
# A GPU that reports too little to look it up: between a small card and a large one.
_UNKNOWN_GPU_FLOP_PER_S = (30e12, 10e12)
# Half precision without a fused kernel for attention: the study's rows (eager, under autocast) against those with SDPA.
_UNFUSED_RATIO = 0.45
_UNFUSED = ("eager", "sliced", "sdpa-math")
# fp32 with TF32 for matrix products, on the tensor cores; A100: 156 against 19.5 TFLOP/s, of which a part is attained.
_TF32_RATIO = 1.5
# Transformers are matrix products for the most part: FLUX.1 [dev] at 1024x1024 in bf16, 28 steps in 24.94 s on an L20
# (xlite-dev/flux-faster, README), is 1.7 times the rate of the UNet at that card's multiprocessors and clock.
_TRANSFORMER_RATIO = 1.7
# What the host needs to launch the 1,500 kernels of a UNet call of SD v1, whatever the GPU: 25 to 33 ms (31 calls a
# second on an A100, fal-ai/stable-diffusion-benchmarks; 40 on an RTX 4090, the diffusers page above).
HOST_S_PER_DENOISER_CALL = 0.028


class Machine(Model):
    """A device as the planner sees it; what could not be read is None.

    ``cpu_count`` is what this process can keep busy, ``present_cpu_count`` what it may run on: a CPU limit throttles
    more threads than it has time for, and they are warned of. ``rates_flop_per_s`` are what earlier runs reached here,
    by ``rate_key``.
    """

    kind: DeviceKind
    cpu_count: int
    present_cpu_count: int
    memory_total_bytes: int | None
    compute_capability: Capability | None
    multiprocessor_count: int | None
    clock_max_sm_mhz: int | None
    rates_flop_per_s: dict[str, float]


def describe_machine(device: Device, rates_flop_per_s: Mapping[str, float] | None = None) -> Machine:
    """Return what the planner needs of a device, and of the CPUs of this process."""
    capability = value_or(device.compute_capability, None)
    return Machine(
        kind=device.kind,
        cpu_count=count_usable_cpus(),
        present_cpu_count=len(os.sched_getaffinity(0)),
        memory_total_bytes=value_or(device.memory_total_bytes, None),
        compute_capability=None if capability is None else parse_capability(capability),
        multiprocessor_count=value_or(device.multiprocessor_count, None),
        clock_max_sm_mhz=value_or(device.clock_max_sm_mhz, None),
        rates_flop_per_s=dict(rates_flop_per_s or {}),
    )


def parse_capability(text: str) -> Capability:
    """Return a compute capability, as "8.6", as a pair that compares."""
    major, _, minor = text.partition(".")
    return int(major), int(minor or 0)


def flop_per_s(machine: Machine, experiment: Experiment, *, is_unet: bool) -> float:
    """Return about how many FLOP a second a large batch of an experiment gets from the device."""
    if (measured := measured_flop_per_s(machine, experiment)) is not None:
        return measured
    if machine.kind == "cpu":
        return _CPU_FLOP_PER_S_PER_CORE * (experiment.threads or machine.cpu_count)
    half, single = _gpu_flop_per_s(machine)
    if computes_in(experiment) == "fp32":
        return single * (_TF32_RATIO if experiment.tf32 is True else 1.0)
    return half * (1.0 if is_unet else _TRANSFORMER_RATIO) * _unfused_ratio(experiment)


def measured_flop_per_s(machine: Machine, experiment: Experiment) -> float | None:
    """Return how many FLOP a second earlier runs got from the device in the experiment's precision, if any did."""
    rate = machine.rates_flop_per_s.get(rate_key(experiment, experiment.threads or machine.cpu_count))
    return None if rate is None else rate * (_unfused_ratio(experiment) if machine.kind == "cuda" else 1.0)


def rate_key(experiment: Experiment, threads: int) -> str:
    """Return what the rate of a device depends on most; threads decide nothing on a GPU, and are those of the host."""
    return f"{computes_in(experiment)}{' TF32' if experiment.tf32 is True else ''}, {threads} threads"


def _unfused_ratio(experiment: Experiment) -> float:
    return _UNFUSED_RATIO if computes_in(experiment) != "fp32" and experiment.attention in _UNFUSED else 1.0


def computes_in(experiment: Experiment) -> str:
    """Return the precision of the matrix products: that of autocast where it is on."""
    return experiment.precision if experiment.autocast == "off" else experiment.autocast


def _gpu_flop_per_s(machine: Machine) -> tuple[float, float]:
    """Return the rate in half precision and in fp32."""
    capability, count, clock_mhz = machine.compute_capability, machine.multiprocessor_count, machine.clock_max_sm_mhz
    known = [first for first in _GPU_FLOP_PER_CLOCK if capability is not None and first <= capability]
    if not known or count is None or clock_mhz is None:
        return _UNKNOWN_GPU_FLOP_PER_S
    half, single = _GPU_FLOP_PER_CLOCK[max(known)]
    clocks_per_s = count * clock_mhz * 1e6
    return half * clocks_per_s, single * clocks_per_s
