"""Rough time and memory of an experiment before anything has run, and whether this machine can run it at all."""

from importlib.util import find_spec

from sdbench.models.architectures import load_architecture
from sdbench.schema.base import Known, Model, Reading
from sdbench.schema.experiment import DeviceKind, Experiment
from sdbench.schema.manifest import Protocol
from sdbench.schema.outcome import Skipped
from sdbench.schema.record import PlannedExperiment
from sdbench.stats.batch_search import PROBE_STEPS, PROBES_AIM
from sdbench.units import format_bytes

# Counted on the meta device at 512x512: a UNet call without guidance, the VAE decode and the text encoder
# (torch's FlopCounterMode: 0.803, 2.515 and 0.0133 TFLOP).
# They scale with the pixels, the attention's square term aside.
_REFERENCE_PIXELS = 512 * 512
_UNET_FLOP = 0.803e12
_DECODE_FLOP = 2.515e12
_TEXT_FLOP = 0.0133e12
_REFERENCE_PARAMETERS = 1_066_234_307
# Measured on two cores of two Xeon servers: 100 to 240 GFLOP/s in fp32 eager; fp16 alike; bf16 45 to 730.
_CPU_FLOP_PER_S_PER_CORE = 50e9
# Eager SD v1.4 in the 2022 study: 82 TFLOP in 6.4 s (A100, fp32 with TF32) and in 3.7 s (fp16).
_CUDA_FLOP_PER_S = {"fp32": 12e12, "fp16": 22e12, "bf16": 22e12}
# Interpreter, torch, diffusers and transformers: measured 6.5 to 8 s and 0.5 GiB.
_START_S = 8.0
_START_BYTES = 512 * 2**20
# Random numbers cost 10 ns each on one core; two threads fill.
_FILL_S_PER_PARAMETER = 6e-9
# The decoder's widest layers at full size: 256 channels in fp32 a pixel, four of them alive, with im2col beside.
_ACTIVATION_VALUES_PER_PIXEL = 2300
# A call of `tiny` is bound by the launch of its kernels, not by FLOPs.
_CALL_OVERHEAD_S = 0.02
# No libraries are imported and nobody waits: an interpreter, pydantic and pillow.
_VIRTUAL_LAUNCH_S = 0.5
# The estimate is rough: only what is clearly too large is not tried.
SKIP_RATIO = 1.5
# torch's kernels of these names exist for CUDA only.
_CUDA_ATTENTION = ("sdpa-cudnn", "sdpa-efficient", "xformers")
# What an option needs beyond torch and diffusers, by the module's name.
_MODULES_OF: dict[tuple[str, str], tuple[str, ...]] = {
    ("backend", "onnxruntime"): ("onnxruntime", "onnx", "onnxscript"),
    ("attention", "xformers"): ("xformers",),
}
_BYTES_PER_VALUE = {"fp32": 4, "fp16": 2, "bf16": 2}


class Estimate(Model):
    """Rough figures: the time of one call and of one whole launch (s), and the memory (bytes)."""

    call_s: float
    launch_s: float
    memory_bytes: int


def estimate(planned: PlannedExperiment, device: DeviceKind, cpu_count: int) -> Estimate:
    """Return the rough cost of an experiment on a device; good to a factor of three, replaced by what is measured."""
    experiment = planned.experiment
    if experiment.backend == "virtual":
        return Estimate(call_s=0.0, launch_s=_VIRTUAL_LAUNCH_S, memory_bytes=0)
    parameter_count = load_architecture(experiment.architecture).parameter_count
    guidance = 2 if experiment.guidance_scale > 1 else 1
    unet_calls = experiment.steps + (experiment.scheduler == "pndm" and experiment.steps > 1)
    flop = experiment.batch * (
        (unet_calls * guidance * _UNET_FLOP + _DECODE_FLOP) * experiment.height * experiment.width / _REFERENCE_PIXELS
        + _TEXT_FLOP
    )
    flop *= parameter_count / _REFERENCE_PARAMETERS
    rate = (
        _CPU_FLOP_PER_S_PER_CORE * (experiment.threads or cpu_count)
        if device == "cpu"
        else _CUDA_FLOP_PER_S[experiment.precision]
    )
    call_s = flop / rate + _CALL_OVERHEAD_S * (unet_calls + 2)
    calls = _count_calls(experiment, planned.protocol, call_s)
    value_bytes = _BYTES_PER_VALUE[experiment.precision]
    activations = experiment.batch * experiment.height * experiment.width * _ACTIVATION_VALUES_PER_PIXEL * value_bytes
    if experiment.architecture == "tiny":
        activations //= 16
    return Estimate(
        call_s=call_s,
        launch_s=_START_S + parameter_count * _FILL_S_PER_PARAMETER + calls * call_s,
        memory_bytes=parameter_count * value_bytes + activations + (_START_BYTES if device == "cpu" else 0),
    )


def _count_calls(experiment: Experiment, protocol: Protocol, call_s: float) -> float:
    """How many calls of the experiment's own batch and steps a launch is worth."""
    match experiment.workload:
        case "precision":
            # Reference and candidate: every length once, the trajectory once, and one observed call.
            return 2 * (1 + sum(experiment.sweep_steps) / experiment.steps) + 1
        case "largest-batch":
            # Probes of few steps, on average at half of what is looked for.
            shortened = min(PROBE_STEPS, experiment.steps) / experiment.steps
            return PROBES_AIM * shortened * experiment.batch_max / 2
        case _:
            timed = max(protocol.calls_min, min(protocol.calls_max, int(protocol.launch_budget_s / call_s)))
            return protocol.warmup_calls + timed + protocol.phase_calls


def reason_to_skip(
    experiment: Experiment, device: DeviceKind, memory_total_bytes: Reading[int], needed_bytes: int, cpu_count: int
) -> Skipped | None:
    """Return why this machine cannot run an experiment, with the remedy, or None."""
    if experiment.device not in ("any", device):
        return Skipped(
            reason=f"the experiment is for {experiment.device}, this run is on {device}",
            remedy=f"run again with --device {experiment.device}",
        )
    return (
        (_lack_of_gpu(experiment) if device == "cpu" else None)
        or _lack_of_packages(experiment)
        or _lack_of_cpus_or_memory(experiment, device, memory_total_bytes, needed_bytes, cpu_count)
    )


def _lack_of_gpu(experiment: Experiment) -> Skipped | None:
    if experiment.tf32:
        return Skipped(reason="TF32 exists only on NVIDIA GPUs", remedy="run it with --device cuda, or set tf32: false")
    if experiment.attention in _CUDA_ATTENTION:
        return Skipped(
            reason=f"attention: {experiment.attention} needs an NVIDIA GPU",
            remedy="run it with --device cuda, or choose another attention",
        )
    return None


def _lack_of_packages(experiment: Experiment) -> Skipped | None:
    for (option, value), modules in _MODULES_OF.items():
        missing = [name for name in modules if getattr(experiment, option) == value and find_spec(name) is None]
        if missing:
            return Skipped(
                reason=f"{option}: {value} needs the package{'s' * (len(missing) > 1)} {', '.join(missing)}, "
                "not installed here",
                remedy=f"install {', '.join(missing)} (the lock files name the versions sdbench was tried with), "
                f"or choose another {option}",
            )
    return None


def _lack_of_cpus_or_memory(
    experiment: Experiment, device: DeviceKind, memory_total_bytes: Reading[int], needed_bytes: int, cpu_count: int
) -> Skipped | None:
    if experiment.threads is not None and experiment.threads > cpu_count:
        return Skipped(
            reason=f"{experiment.threads} threads are asked for, this process may use {cpu_count} CPUs",
            remedy=f"set threads to at most {cpu_count}, or widen the CPU affinity",
        )
    # On a GPU running out is a result; on the host it can take the machine down, so the estimate decides.
    if (
        device == "cpu"
        and isinstance(memory_total_bytes, Known)
        and needed_bytes > SKIP_RATIO * memory_total_bytes.value
    ):
        return Skipped(
            reason=f"needs about {format_bytes(needed_bytes)} of host memory, "
            f"this machine has {format_bytes(memory_total_bytes.value)}",
            remedy="use a smaller batch or image, or a machine with more memory",
        )
    return None
