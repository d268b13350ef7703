"""Rough time and memory of an experiment before anything has run."""

from sdbench.models.architectures import load_architecture
from sdbench.plan.machine import HOST_S_PER_UNET_CALL, Machine, flop_per_s
from sdbench.schema.base import Model
from sdbench.schema.experiment import Experiment
from sdbench.schema.manifest import Protocol
from sdbench.schema.record import PlannedExperiment
from sdbench.stats.batch_search import PROBE_STEPS, PROBES_AIM

# Counted on the meta device at 512x512: a UNet call without guidance, the VAE decode and the text encoder
# (torch's FlopCounterMode: 0.803, 2.515 and 0.0133 TFLOP).
# They scale with the pixels, the attention's square term aside.
_REFERENCE_PIXELS = 512 * 512
_UNET_FLOP = 0.803e12
_DECODE_FLOP = 2.515e12
_TEXT_FLOP = 0.0133e12
_REFERENCE_PARAMETERS = 1_066_234_307
# Once a round: interpreter, torch, diffusers and transformers, measured 5 to 8 s and 0.5 GiB. Each launch is then
# forked, opens its meters and runs the reference operation (0.2 to 0.6 s), and on a GPU makes a context.
ROUND_START_S = 6.0
_START_S = {"cpu": 0.4, "cuda": 3.0}
_START_BYTES = 512 * 2**20
# Kept weights are mapped, 0.3 to 1 s at full size. Drawing them for the first time takes some ten seconds more, once.
_LOAD_S_PER_PARAMETER = 1e-9
# The decoder's widest layers at full size: 256 channels in fp32 a pixel, four of them alive, and im2col.
_ACTIVATION_VALUES_PER_PIXEL = 2300
# Running out of memory takes a part of the first call: up to the VAE, whose layers are the widest.
_CALLS_WITHOUT_MEMORY = 1
# A call of `tiny` is bound by the launch of its kernels, not by FLOPs.
_CALL_OVERHEAD_S = 0.02
# An interpreter, pydantic and pillow; nothing waits.
_VIRTUAL_LAUNCH_S = 0.5
_BYTES_PER_VALUE = {"fp32": 4, "fp16": 2, "bf16": 2}


class CostEstimate(Model):
    """Rough cost: the time (s) of a call, of a launch without its timed calls and in all, and the memory (bytes).

    What does not fit on the GPU costs the launch that finds it out.
    """

    call_s: float
    fixed_s: float
    launch_s: float
    memory_bytes: int
    fits: bool


def estimate(planned: PlannedExperiment, machine: Machine) -> CostEstimate:
    """Return the rough cost of an experiment on a device, which is replaced by what is measured."""
    experiment = planned.experiment
    if experiment.backend == "virtual":
        seconds = {"call_s": 0.0, "fixed_s": _VIRTUAL_LAUNCH_S, "launch_s": _VIRTUAL_LAUNCH_S}
        return CostEstimate(**seconds, memory_bytes=0, fits=True)
    parameter_count = load_architecture(experiment.architecture).parameter_count
    value_bytes = _BYTES_PER_VALUE[experiment.precision]
    activations = experiment.batch * experiment.height * experiment.width * _ACTIVATION_VALUES_PER_PIXEL * value_bytes
    if experiment.architecture == "tiny":
        activations //= 16
    on_cpu = machine.kind == "cpu"
    memory_bytes = parameter_count * value_bytes + activations + (_START_BYTES if on_cpu else 0)
    # On the host it decides whether an experiment is tried at all.
    fits = on_cpu or machine.memory_total_bytes is None or memory_bytes <= machine.memory_total_bytes
    call_s = _estimate_call_s(experiment, parameter_count, machine)
    untimed, timed = _count_calls(experiment, planned.protocol, call_s) if fits else (_CALLS_WITHOUT_MEMORY, 0)
    fixed_s = (
        _START_S[machine.kind]
        + (0.0 if is_forked(planned) else ROUND_START_S)
        + parameter_count * _LOAD_S_PER_PARAMETER
        + untimed * call_s
    )
    return CostEstimate(
        call_s=call_s, fixed_s=fixed_s, launch_s=fixed_s + timed * call_s, memory_bytes=memory_bytes, fits=fits
    )


def _estimate_call_s(experiment: Experiment, parameter_count: int, machine: Machine) -> float:
    """Return about how long (s) a call takes: its FLOPs, or the launching of its kernels where that takes longer."""
    guidance = 2 if experiment.guidance_scale > 1 else 1
    unet_calls = count_unet_calls(experiment)
    flop = experiment.batch * (
        (unet_calls * guidance * _UNET_FLOP + _DECODE_FLOP) * experiment.height * experiment.width / _REFERENCE_PIXELS
        + _TEXT_FLOP
    )
    flop_s = flop * parameter_count / _REFERENCE_PARAMETERS / flop_per_s(machine, experiment)
    if machine.kind == "cpu":
        return flop_s + _CALL_OVERHEAD_S * (unet_calls + 2)
    return max(flop_s, HOST_S_PER_UNET_CALL * unet_calls) + _CALL_OVERHEAD_S


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
