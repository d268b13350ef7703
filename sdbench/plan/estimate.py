"""Rough time and memory of an experiment before anything has run, and whether this machine can run it at all."""

from collections.abc import Iterator
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
# Measured on two cores of two Xeon servers: 100 to 240 GFLOP/s in fp32 and fp16 eager; bf16 45 to 730.
_CPU_FLOP_PER_S_PER_CORE = 50e9
# Eager SD v1.4 in the 2022 study: 82 TFLOP in 6.4 s (A100, fp32 with TF32) and in 3.7 s (fp16).
_CUDA_FLOP_PER_S = {"fp32": 12e12, "fp16": 22e12, "bf16": 22e12}
# Once a round: interpreter, torch, diffusers and transformers, measured 5 to 8 s and 0.5 GiB. Each launch is then
# forked, opens its meters and runs the reference operation (0.2 to 0.6 s), and on a GPU makes a context.
ROUND_START_S = 6.0
_START_S = {"cpu": 0.4, "cuda": 3.0}
_START_BYTES = 512 * 2**20
# Kept weights are mapped, 0.3 to 1 s at full size. Drawing them for the first time takes some ten seconds more, once.
_LOAD_S_PER_PARAMETER = 1e-9
# The decoder's widest layers at full size: 256 channels in fp32 a pixel, four of them alive, and im2col.
_ACTIVATION_VALUES_PER_PIXEL = 2300
# A call of `tiny` is bound by the launch of its kernels, not by FLOPs.
_CALL_OVERHEAD_S = 0.02
# An interpreter, pydantic and pillow; nothing waits.
_VIRTUAL_LAUNCH_S = 0.5
# The estimate is rough: skip only what is clearly too large.
SKIP_RATIO = 1.5
# torch's kernels of these names exist for CUDA only.
_CUDA_ATTENTION = ("sdpa-cudnn", "sdpa-efficient", "xformers")
# What an option needs beyond torch and diffusers, by the module's name.
_MODULES_OF: dict[tuple[str, str], tuple[str, ...]] = {
    ("backend", "onnxruntime"): ("onnxruntime", "onnx", "onnxscript"),
    ("attention", "xformers"): ("xformers",),
}
_BYTES_PER_VALUE = {"fp32": 4, "fp16": 2, "bf16": 2}


class CostEstimate(Model):
    """Rough cost: the time (s) of a call, of a launch without its timed calls and in all, and the memory (bytes)."""

    call_s: float
    fixed_s: float
    launch_s: float
    memory_bytes: int


def estimate(planned: PlannedExperiment, device: DeviceKind, cpu_count: int) -> CostEstimate:
    """Return the rough cost of an experiment on a device; good to a factor of three, replaced by what is measured."""
    experiment = planned.experiment
    if experiment.backend == "virtual":
        return CostEstimate(call_s=0.0, fixed_s=_VIRTUAL_LAUNCH_S, launch_s=_VIRTUAL_LAUNCH_S, memory_bytes=0)
    parameter_count = load_architecture(experiment.architecture).parameter_count
    guidance = 2 if experiment.guidance_scale > 1 else 1
    unet_calls = count_unet_calls(experiment)
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
    untimed, timed = _count_calls(experiment, planned.protocol, call_s)
    fixed_s = (
        _START_S[device]
        + (0.0 if is_forked(planned) else ROUND_START_S)
        + parameter_count * _LOAD_S_PER_PARAMETER
        + untimed * call_s
    )
    value_bytes = _BYTES_PER_VALUE[experiment.precision]
    activations = experiment.batch * experiment.height * experiment.width * _ACTIVATION_VALUES_PER_PIXEL * value_bytes
    if experiment.architecture == "tiny":
        activations //= 16
    return CostEstimate(
        call_s=call_s,
        fixed_s=fixed_s,
        launch_s=fixed_s + timed * call_s,
        memory_bytes=parameter_count * value_bytes + activations + (_START_BYTES if device == "cpu" else 0),
    )


def is_forked(planned: PlannedExperiment) -> bool:
    """Return whether the launches of an experiment share the start of their round's template."""
    return planned.protocol.isolation == "fork" and planned.experiment.backend != "virtual"


def count_unet_calls(experiment: Experiment) -> int:
    """Return how often a call of the pipeline calls the UNet: PNDM takes its second step twice."""
    return experiment.steps + (experiment.scheduler == "pndm" and experiment.steps > 1)


def _count_calls(experiment: Experiment, protocol: Protocol, call_s: float) -> tuple[float, int]:
    """Return how many calls of the experiment's own batch and steps take as long as a launch's: untimed, and timed."""
    match experiment.workload:
        case "precision":
            # Reference and candidate: every length once, the trajectory once, and one observed call.
            return 2 * (1 + sum(experiment.sweep_steps) / experiment.steps) + 1, 0
        case "largest-batch":
            # Probes of few steps, on average at half of batch_max.
            shortened = min(PROBE_STEPS, experiment.steps) / experiment.steps
            return PROBES_AIM * shortened * experiment.batch_max / 2, 0
        case _:
            timed = max(protocol.calls_min, min(protocol.calls_max, int(protocol.launch_budget_s / call_s)))
            sustained = protocol.calls_min + protocol.sustained_s / call_s if protocol.sustained_s else 0.0
            return max(protocol.warmup_calls, protocol.warmup_s / call_s) + sustained, timed


def reason_to_skip(
    experiment: Experiment, device: DeviceKind, memory_total_bytes: Reading[int], needed_bytes: int, cpu_count: int
) -> Skipped | None:
    """Return why this machine cannot run an experiment, with a hint, or None."""
    total_bytes = memory_total_bytes.value if isinstance(memory_total_bytes, Known) else None
    problems = _find_problems(experiment, device, total_bytes, needed_bytes, cpu_count)
    return next((Skipped(reason=reason, hint=hint) for reason, hint in problems), None)


def _find_problems(
    experiment: Experiment, device: DeviceKind, total_bytes: int | None, needed_bytes: int, cpu_count: int
) -> Iterator[tuple[str, str]]:
    attention = experiment.attention
    if experiment.device not in ("any", device):
        reason = f"the experiment is for {experiment.device}, but this run is on {device}"
        yield reason, f"run again with --device {experiment.device}"
    if device == "cpu" and experiment.tf32 is True:
        yield "TF32 exists only on NVIDIA GPUs", "run it with --device cuda, or set tf32: false"
    if device == "cpu" and attention in _CUDA_ATTENTION:
        yield f"attention: {attention} needs an NVIDIA GPU", "run it with --device cuda, or choose another attention"
    if experiment.threads is not None and experiment.threads > cpu_count:
        reason = f"{experiment.threads} threads requested, but this process may use {cpu_count} CPUs"
        yield reason, f"set threads to at most {cpu_count}, or widen the CPU affinity"
    # On a GPU running out is a result; on the host it can take the machine down, so the estimate decides.
    if device == "cpu" and total_bytes is not None and needed_bytes > SKIP_RATIO * total_bytes:
        needed, total = format_bytes(needed_bytes), format_bytes(total_bytes)
        reason = f"needs about {needed} of host memory, this machine has {total}"
        yield reason, "use a smaller batch or image, or a machine with more memory"
    for (option, value), modules in _MODULES_OF.items():
        missing = [name for name in modules if getattr(experiment, option) == value and find_spec(name) is None]
        if missing:
            names, plural = ", ".join(missing), "s" * (len(missing) > 1)
            reason = f"{option}: {value} needs the package{plural} {names}, not installed here"
            yield reason, f"install {names} (the lock files have tested versions), or choose another {option}"
