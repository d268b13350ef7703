"""Which options a pipeline knows, and what it was made for."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from sdbench.errors import UserError
from sdbench.models.families import FAMILIES
from sdbench.models.schedulers import (
    FLOW_SCHEDULERS,
    LCM_STEPS_MAX,
    SCHEDULERS,
    UNSPACED_SCHEDULERS,
    native_scheduler,
)
from sdbench.schema.experiment import Experiment
from sdbench.schema.pipeline import PipelineConfig

_MISSING = object()
# Processors that diffusers has for UNets only.
_UNET_ATTENTION = ("eager", "sliced", "xformers")


@dataclass(frozen=True)
class AttendingBlock:
    """A kind of block of a denoiser that attends: its heads, their channels, and how often it has halved the image."""

    heads: int
    head_channels: int
    halvings: int


def attending_blocks(config: PipelineConfig) -> tuple[AttendingBlock, ...]:
    """Return the kinds of blocks of a pipeline's denoiser that attend."""
    denoiser = config.denoiser
    if config.denoiser_name != "unet":
        heads = denoiser.get("num_attention_heads") or denoiser["n_heads"]
        return (AttendingBlock(heads, denoiser.get("attention_head_dim") or denoiser["dim"] // heads, 0),)
    levels = list(zip(denoiser["block_out_channels"], denoiser["down_block_types"], strict=True))
    # diffusers calls the number of heads their dimension here (huggingface/diffusers#2011).
    heads = denoiser["attention_head_dim"]
    counts = [heads] * len(levels) if isinstance(heads, int) else heads
    blocks = [
        AttendingBlock(count, channels // count, halvings)
        for halvings, ((channels, kind), count) in enumerate(zip(levels, counts, strict=True))
        if kind.startswith("CrossAttn")
    ]
    # The middle block attends too.
    return (*blocks, AttendingBlock(counts[-1], levels[-1][0] // counts[-1], len(levels) - 1))


def native_options(config: PipelineConfig) -> dict[str, Any]:
    """Return the values of the options that an experiment may omit: those that the pipeline was made for.

    A pipeline that comes with a scheduler that is not known leaves that option to be set.
    """
    native, scheduler = config.native, native_scheduler(config)
    return ({} if scheduler is None else {"scheduler": scheduler}) | {
        "height": native.size_px,
        "width": native.size_px,
        "steps": native.steps,
        "guidance_scale": native.guidance_scale,
        "max_sequence_length": native.max_sequence_length,
    }


def drop_unchanged(config: PipelineConfig, changes: Mapping[str, Any]) -> dict[str, Any]:
    """Return the changes of a pipeline's configs without those that change nothing: they are no other experiment."""
    networks = {part: network.config for part, network in config.networks.items()}
    parts = {path: path.partition(".") for path in changes}
    return {
        path: value
        for path, value in changes.items()
        if networks.get(parts[path][0], {}).get(parts[path][2], _MISSING) != value
    }


def refuse_options(experiment: Experiment, config: PipelineConfig) -> None:
    """Do nothing if the pipeline knows all options of an experiment.

    Raises:
        UserError: an option would be ignored, or the pipeline could not run with it.
    """
    if experiment.backend == "virtual":
        return
    try:
        problem = next(_find_problems(experiment, config), None)
    except (ArithmeticError, KeyError, TypeError, ValueError) as error:
        raise UserError(f"the configs of {config.name} do not fit each other ({error!r}); correct them") from None
    if problem is not None:
        raise UserError(problem)


def _find_problems(experiment: Experiment, config: PipelineConfig) -> Iterator[str]:
    name = experiment.pipeline
    yield from _find_config_problems(experiment, config)
    yield from _find_size_problems(experiment, config)
    yield from _find_scheduler_problems(experiment, config)
    if config.denoiser_name != "unet" and experiment.attention in _UNET_ATTENTION:
        yield f"attention: {experiment.attention} exists for UNets only, and {name} has a transformer; choose sdpa"
    if config.denoiser_name != "unet" and experiment.channels_last:
        yield f"'channels_last' applies to UNets only, and {name} has a transformer; remove it"
    if config.guidance == "none" and experiment.guidance_scale != config.native.guidance_scale:
        yield f"'guidance_scale' has no effect on {name}, which was distilled without it; remove it"
    if experiment.negative_prompt and config.guidance != "batch":
        yield f"'negative_prompt' has no effect on {name}, which takes no second prompt; remove it"
    elif experiment.negative_prompt and config.guided_batch(experiment.guidance_scale) == 1:
        scale = f"guidance_scale {experiment.guidance_scale:g}"
        yield f"'negative_prompt' has no effect on {name} at {scale}; remove it, or raise guidance_scale"


def _find_config_problems(experiment: Experiment, config: PipelineConfig) -> Iterator[str]:
    name = experiment.pipeline
    for key, value in experiment.config.items():
        if isinstance(value, int | float) and value < 0:
            yield f"config {key!r} is {value}: expected a number from 0"
    channels, latent_channels = int(config.denoiser["in_channels"]), config.latent_channels
    if channels not in (latent_channels, latent_channels * config.packing**2):
        part = config.denoiser_name
        yield f"the {part} of {name} takes {channels} channels, and its vae makes latents of {latent_channels}"


def _find_size_problems(experiment: Experiment, config: PipelineConfig) -> Iterator[str]:
    name, step = experiment.pipeline, config.pixels_per_token
    positions = config.denoiser.get("pos_embed_max_size")
    for side in ("height", "width"):
        size_px = getattr(experiment, side)
        if rest := size_px % step:
            nearest = " or ".join(str(near) for near in (size_px - rest, size_px - rest + step) if near)
            yield f"{side} {size_px} does not fit {name}: expected a multiple of {step}, such as {nearest}"
        if positions is not None and size_px > positions * step:
            yield f"{side} {size_px} does not fit {name}: expected at most {positions * step}"
    longest, tokens = FAMILIES[config.class_name].longest_prompt, experiment.max_sequence_length
    if tokens is not None and longest is None:
        yield f"'max_sequence_length' does not apply to {name}, whose prompts always have 77 tokens; remove it"
    elif tokens is not None and longest is not None and tokens > longest:
        yield f"max_sequence_length {tokens} does not fit {name}: expected at most {longest}"


def _find_scheduler_problems(experiment: Experiment, config: PipelineConfig) -> Iterator[str]:
    name, scheduler = experiment.pipeline, experiment.scheduler
    flow = FAMILIES[config.class_name].is_flow_matching
    if (scheduler in FLOW_SCHEDULERS) != flow:
        known = ", ".join(key for key in SCHEDULERS if (key in FLOW_SCHEDULERS) == flow)
        yield f"scheduler: {scheduler} does not fit {name}: expected {known}"
    if experiment.timestep_spacing is not None and scheduler in UNSPACED_SCHEDULERS:
        yield f"'timestep_spacing' does not apply to scheduler: {scheduler}; remove it"
    steps = max(experiment.steps, experiment.sweep_max if experiment.workload == "precision" else 0)
    if scheduler == "lcm" and steps > LCM_STEPS_MAX:
        option = "sweep_max" if steps > experiment.steps else "steps"
        yield f"{option} {steps} does not fit scheduler: lcm: expected at most {LCM_STEPS_MAX}"
