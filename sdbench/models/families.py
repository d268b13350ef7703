"""What the pipelines of one diffusers class have in common, and their configs do not say."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from sdbench.schema.pipeline import NativeOptions


@dataclass(frozen=True)
class Family:
    """The defaults of a pipeline class's call, and how it takes the initial noise and decodes.

    ``latents_in_a_row`` is the size for configs that name none, as ``default_sample_size`` in the pipeline's code.
    ``longest_prompt`` is what ``max_sequence_length`` may be. ``text_encoders`` is how many it cannot do without. With
    ``upcasts_decoder`` a decoder that overflows in fp16 runs in fp32. ``flags`` are switches of its class that
    an index may omit, with their defaults.
    """

    steps: int
    guidance_scale: float
    max_sequence_length: int | None = None
    longest_prompt: int | None = None
    text_encoders: int = 1
    latents_in_a_row: int = 128
    latents_in_fp32: bool = False
    is_flow_matching: bool = False
    upcasts_decoder: bool = False
    flags: Mapping[str, bool] = field(default_factory=dict)

    def native(self, size_px: int) -> NativeOptions:
        """Return the native options of a pipeline that has no line in the table."""
        return NativeOptions(
            size_px=max(1, size_px),
            steps=self.steps,
            guidance_scale=self.guidance_scale,
            max_sequence_length=self.max_sequence_length,
        )


# Defaults of __call__ in diffusers 0.42, and the longest prompt of check_inputs. Z-Image checks none: its transformer
# has 1536 positions for the prompt, in blocks of 32, and the image that follows.
FAMILIES: dict[str, Family] = {
    "StableDiffusionPipeline": Family(50, 7.5, latents_in_a_row=64),
    "StableDiffusionXLPipeline": Family(
        50, 5.0, text_encoders=2, upcasts_decoder=True, flags={"force_zeros_for_empty_prompt": True}
    ),
    "StableDiffusion3Pipeline": Family(28, 7.0, 256, 512, text_encoders=2, is_flow_matching=True),
    "FluxPipeline": Family(28, 3.5, 512, 512, text_encoders=2, is_flow_matching=True),
    "ZImagePipeline": Family(50, 5.0, 512, 1504, latents_in_fp32=True, is_flow_matching=True),
}
# Every network that a pipeline may have, and its library.
KNOWN_NETWORKS: dict[str, str] = {
    "AutoencoderKL": "diffusers",
    "CLIPTextModel": "transformers",
    "CLIPTextModelWithProjection": "transformers",
    "FluxTransformer2DModel": "diffusers",
    "Qwen3Model": "transformers",
    "SD3Transformer2DModel": "diffusers",
    "T5EncoderModel": "transformers",
    "UNet2DConditionModel": "diffusers",
    "ZImageTransformer2DModel": "diffusers",
}
# What the config of a text encoder says of its model: model_type, and how the names in architectures begin.
MODEL_TYPES: dict[str, tuple[str, str]] = {
    "CLIPTextModel": ("clip_text_model", "CLIP"),
    "CLIPTextModelWithProjection": ("clip_text_model", "CLIP"),
    "Qwen3Model": ("qwen3", "Qwen3"),
    "T5EncoderModel": ("t5", "T5"),
}
