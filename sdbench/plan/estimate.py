"""Rough time and memory of an experiment before anything has run."""

from sdbench.models.facts import BYTES_PER_VALUE, PipelineFacts, load_facts
from sdbench.models.families import FAMILIES
from sdbench.models.pipeline_folders import find_pipeline
from sdbench.plan.families import attending_blocks
from sdbench.plan.machine import HOST_S_PER_DENOISER_CALL, Machine, flop_per_s, measured_flop_per_s
from sdbench.schema.base import Model
from sdbench.schema.experiment import Experiment
from sdbench.schema.manifest import Protocol
from sdbench.schema.pipeline import PipelineConfig
from sdbench.schema.record import PlannedExperiment
from sdbench.stats.batch_search import PROBE_STEPS, PROBES_AIM
from sdbench.store.cache_folder import cache_folder, weights_limit_bytes

# Once a round: interpreter, torch, diffusers and transformers, measured 5 to 8 s and 0.5 GiB. Each launch is then
# forked, opens its meters and runs the reference operation (0.2 to 0.6 s), and on a GPU makes a context.
ROUND_START_S = 6.0
_START_S = {"cpu": 0.4, "cuda": 3.0}
_START_BYTES = 512 * 2**20
# Kept weights are mapped, 0.3 to 1 s at full size. Drawing them takes some ten seconds more, once; where they are
# larger than the cache may become, in every launch.
_LOAD_S_PER_PARAMETER = 1e-9
_DRAW_S_PER_PARAMETER = 1e-8
# Values that a decoder holds at its peak for a pixel and a channel of its widest full-size layer, of which SDXL's has
# 256. Measured on a CPU (peak of the resident set over it before the call): 3.9 in fp32 at 512 and 1024, 4.6 in bf16.
_DECODER_VALUES_PER_CHANNEL = 4.6
# The same of a denoiser, for a token of a sample and a channel of its first layer (UNets) or of its tokens. Measured:
# 38 to 50 of Stable Diffusion 1.5's 320 channels, 36 to 44 of FLUX.1's 3,072; less than a decode takes, if that is not
# sliced.
_DENOISER_VALUES_PER_CHANNEL = 40
# Attention without a fused kernel keeps the scores of its widest layer so many times: in the 2022 study 28 images in
# half precision fitted an A100's 80 GB and 32 did not; ``sliced`` makes half of the heads at a time.
_SCORES_KEPT = 2.1
_SCORES_SHARE = {"eager": 1.0, "sdpa-math": 1.0, "sliced": 0.5}
# Running out of memory takes a part of the first call: up to the VAE, whose layers are the widest.
_CALLS_WITHOUT_MEMORY = 1
# A call of `tiny-sd` is bound by the launch of its kernels, not by FLOPs.
_CALL_OVERHEAD_S = 0.02
# An interpreter, pydantic and pillow; nothing waits.
_VIRTUAL_LAUNCH_S = 0.5


class CostEstimate(Model):
    """Rough cost: the time (s) of a call, of a launch without its timed calls and in all, and the memory (bytes).

    What does not fit on the GPU costs the launch that finds it out. ``measured_rate``: the time is from the rate that
    earlier runs reached here, and not from FLOP and typical rates.
    """

    call_s: float
    fixed_s: float
    launch_s: float
    memory_bytes: int
    weights_bytes: int = 0
    fits: bool
    measured_rate: bool = False


def estimate(planned: PlannedExperiment, machine: Machine) -> CostEstimate:
    """Return the rough cost of an experiment on a device, which is replaced by what is measured."""
    experiment = planned.experiment
    if experiment.backend == "virtual":
        seconds = {"call_s": 0.0, "fixed_s": _VIRTUAL_LAUNCH_S, "launch_s": _VIRTUAL_LAUNCH_S}
        return CostEstimate(**seconds, memory_bytes=0, fits=True)
    config = find_pipeline(experiment, cache_folder())
    facts = load_facts(config, cache_folder())
    on_cpu = machine.kind == "cpu"
    weights_bytes = facts.weights_bytes(experiment.precision)
    memory_bytes = weights_bytes + _activation_bytes(experiment, config) + (_START_BYTES if on_cpu else 0)
    # On the host it decides whether an experiment is tried at all.
    fits = on_cpu or machine.memory_total_bytes is None or memory_bytes <= machine.memory_total_bytes
    call_s = _estimate_call_s(experiment, config, facts, machine)
    untimed, timed = _count_calls(experiment, planned.protocol, call_s) if fits else (_CALLS_WITHOUT_MEMORY, 0)
    drawn = experiment.weights == "synthetic" and weights_bytes > weights_limit_bytes()
    fixed_s = (
        _START_S[machine.kind]
        + (0.0 if is_forked(planned) else ROUND_START_S)
        + facts.parameter_count * (_DRAW_S_PER_PARAMETER if drawn else _LOAD_S_PER_PARAMETER)
        + untimed * call_s
    )
    return CostEstimate(
        call_s=call_s,
        fixed_s=fixed_s,
        launch_s=fixed_s + timed * call_s,
        memory_bytes=memory_bytes,
        weights_bytes=weights_bytes,
        fits=fits,
        measured_rate=measured_flop_per_s(machine, experiment) is not None,
    )


def _activation_bytes(experiment: Experiment, config: PipelineConfig) -> int:
    """Return what a call holds at its peak beyond the weights: in the decoder, or in a denoiser call."""
    return max(_decoder_bytes(experiment, config), _denoiser_bytes(experiment, config))


def _decoder_bytes(experiment: Experiment, config: PipelineConfig) -> int:
    upcast = experiment.precision == "fp16" and FAMILIES[config.class_name].upcasts_decoder
    pixels = experiment.height * experiment.width
    if experiment.vae_tiling:
        pixels = min(pixels, int(config.decoder.get("sample_size", 32)) ** 2)
    images = 1 if experiment.vae_slicing else experiment.batch
    values = images * pixels * max(config.decoder["block_out_channels"][:2]) * _DECODER_VALUES_PER_CHANNEL
    return int(values * BYTES_PER_VALUE["fp32" if upcast else experiment.precision])


def _denoiser_bytes(experiment: Experiment, config: PipelineConfig) -> int:
    blocks, tokens = attending_blocks(config), config.latent_tokens(experiment.height, experiment.width)
    is_unet = config.denoiser_name == "unet"
    channels = config.denoiser["block_out_channels"][0] if is_unet else blocks[0].heads * blocks[0].head_channels
    scores = max(block.heads * (tokens // 4**block.halvings) ** 2 for block in blocks)
    kept = _SCORES_KEPT * _SCORES_SHARE.get(experiment.attention, 0.0)
    samples = experiment.batch * config.guided_batch(experiment.guidance_scale)
    # Autocast computes norms and softmax in fp32.
    size = BYTES_PER_VALUE[experiment.precision if experiment.autocast == "off" else "fp32"]
    return int(samples * (tokens * channels * _DENOISER_VALUES_PER_CHANNEL + scores * kept) * size)


def _estimate_call_s(experiment: Experiment, config: PipelineConfig, facts: PipelineFacts, machine: Machine) -> float:
    """Return about how long (s) a call takes: its FLOPs, or the launching of its kernels where that takes longer."""
    calls = count_denoiser_calls(experiment)
    flop = experiment.batch * facts.flop_per_image(config, experiment, calls)
    flop_s = flop / flop_per_s(machine, experiment, is_unet=config.denoiser_name == "unet")
    if machine.kind == "cpu":
        return flop_s + _CALL_OVERHEAD_S * (calls + 2)
    return max(flop_s, HOST_S_PER_DENOISER_CALL * calls) + _CALL_OVERHEAD_S


def is_forked(planned: PlannedExperiment) -> bool:
    """Return whether the launches of an experiment share the start of their round's template."""
    return planned.protocol.isolation == "fork" and planned.experiment.backend != "virtual"


def count_denoiser_calls(experiment: Experiment) -> int:
    """Return how often a call of the pipeline calls the denoiser: PNDM takes its second step twice."""
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
