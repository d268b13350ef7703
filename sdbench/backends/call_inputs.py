"""What a pipeline call is given: the prompts, the options its class knows, and the initial noise."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sdbench.models.families import FAMILIES
from sdbench.models.schedulers import STOCHASTIC_SCHEDULERS
from sdbench.schema.experiment import Experiment
from sdbench.schema.pipeline import PipelineConfig

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class CallInputs:
    """The arguments of every call of a pipeline, and the random states from which its scheduler adds noise."""

    fixed: dict[str, Any]
    prompts: dict[str, list[str]]
    states: "tuple[torch.Tensor, ...]"

    def arguments(self) -> dict[str, Any]:
        """Return the arguments of one call: the same for each, though pipelines write into their prompts."""
        import torch

        arguments = self.fixed | {name: list(texts) for name, texts in self.prompts.items()}
        if self.states:
            generators = [torch.Generator("cpu") for _ in self.states]
            for generator, state in zip(generators, self.states, strict=True):
                generator.set_state(state)
            arguments["generator"] = generators
        return arguments


def make_inputs(experiment: Experiment, device: "torch.device", pipeline: Any, config: PipelineConfig) -> CallInputs:
    """Return what each call of ``pipeline`` is given, with the initial noise on the device."""
    import torch

    noise, states = draw_noise(experiment, config)
    in_fp32 = FAMILIES[config.class_name].latents_in_fp32
    denoiser = getattr(pipeline, config.denoiser_name)
    fixed = {
        "num_inference_steps": experiment.steps,
        "guidance_scale": experiment.guidance_scale,
        "height": experiment.height,
        "width": experiment.width,
        "latents": noise.to(device, torch.float32 if in_fp32 else denoiser.dtype),
    }
    if experiment.max_sequence_length is not None:
        fixed["max_sequence_length"] = experiment.max_sequence_length
    prompts = {"prompt": [experiment.prompt] * experiment.batch}
    # Pipelines treat an empty one as none, SDXL without encoding it.
    if config.guidance == "batch" and experiment.negative_prompt:
        prompts["negative_prompt"] = [experiment.negative_prompt] * experiment.batch
    return CallInputs(fixed, prompts, states if experiment.scheduler in STOCHASTIC_SCHEDULERS else ())


def draw_noise(experiment: Experiment, config: PipelineConfig) -> "tuple[torch.Tensor, tuple[torch.Tensor, ...]]":
    """Return the initial noise, float32 on the CPU, and the random state of each image after it.

    Its shape is (batch, channels, rows, columns) of latents, or (batch, tokens, channels x 4) where the pipeline packs.
    Image i of a batch starts from ``seed + i``, so it is the same image in every batch, precision and machine.
    """
    import torch

    latent = config.pixels_per_latent
    shape = (1, config.latent_channels, experiment.height // latent, experiment.width // latent)
    seeds = range(experiment.seed, experiment.seed + experiment.batch)
    generators = [torch.Generator("cpu").manual_seed(seed) for seed in seeds]
    noise = torch.cat([torch.randn(shape, generator=generator, dtype=torch.float32) for generator in generators])
    if config.packing > 1:
        noise = torch.nn.functional.pixel_unshuffle(noise, config.packing).flatten(2).transpose(1, 2).contiguous()
    return noise, tuple(generator.get_state() for generator in generators)
