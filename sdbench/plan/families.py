"""Which options a pipeline knows, and what it was made for."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from sdbench.errors import UserError
from sdbench.models.schedulers import FLOW_SCHEDULERS, SCHEDULERS, native_scheduler
from sdbench.schema.experiment import Experiment
from sdbench.schema.pipeline import PipelineConfig

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
    """Return the values of the options that an experiment may leave out: those that the pipeline was made for.

    Raises:
        UserError: the pipeline comes with a scheduler that is not known.
    """
    native = config.native
    return {
        "height": native.size_px,
        "width": native.size_px,
        "steps": native.steps,
        "guidance_scale": native.guidance_scale,
        "max_sequence_length": native.max_sequence_length,
        "scheduler": native_scheduler(config),
    }


def refuse_options(experiment: Experiment, config: PipelineConfig) -> None:
    """Do nothing if the pipeline knows all options of an experiment.

    Raises:
        UserError: an option would be ignored, or the pipeline could not run with it.
    """
    if experiment.backend == "virtual":
        return
    for problem in _find_problems(experiment, config):
        raise UserError(problem)


def _find_problems(experiment: Experiment, config: PipelineConfig) -> Iterator[str]:
    name, fields = experiment.pipeline, type(experiment).model_fields
    step = config.pixels_per_token
    for side in ("height", "width"):
        if getattr(experiment, side) % step:
            yield f"{side} {getattr(experiment, side)} does not fit {name}: expected a multiple of {step}"
    flow = native_scheduler(config) in FLOW_SCHEDULERS
    if (experiment.scheduler in FLOW_SCHEDULERS) != flow:
        known = ", ".join(key for key in SCHEDULERS if (key in FLOW_SCHEDULERS) == flow)
        yield f"scheduler: {experiment.scheduler} does not fit {name}: expected {known}"
    if flow and experiment.timestep_spacing is not None:
        yield f"'timestep_spacing' does not apply to scheduler: {experiment.scheduler}; remove it"
    if config.denoiser_name != "unet" and experiment.attention in _UNET_ATTENTION:
        yield f"attention: {experiment.attention} exists for UNets only, and {name} has a transformer; choose sdpa"
    if config.denoiser_name != "unet" and experiment.channels_last:
        yield f"'channels_last' applies to UNets only, and {name} has a transformer; remove it"
    if config.native.max_sequence_length is None and experiment.max_sequence_length is not None:
        yield f"'max_sequence_length' does not apply to {name}, whose prompts always have 77 tokens; remove it"
    if config.guidance == "none" and experiment.guidance_scale != config.native.guidance_scale:
        yield f"'guidance_scale' has no effect on {name}, which was distilled without it; remove it"
    if config.guidance != "batch" and experiment.negative_prompt != fields["negative_prompt"].default:
        yield f"'negative_prompt' has no effect on {name}, which takes no second prompt; remove it"
