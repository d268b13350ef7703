"""What a pipeline calls its denoiser with, by the denoiser's class: shapes for counting and for exporting."""

from collections.abc import Callable, Mapping
from typing import Any

from sdbench.schema.pipeline import PipelineConfig

# Makes a tensor of a shape, float32.
Make = Callable[..., Any]
_TIME_IDS = 6
_AXES = 3


def denoiser_inputs(
    config: PipelineConfig, batch: int, rows: int, columns: int, tokens: Mapping[str, int], make: Make
) -> dict[str, Any]:
    """Return the named inputs of one denoiser call for latents of (rows, columns).

    Args:
        config: the pipeline.
        batch: samples in the call.
        rows: height of the latents.
        columns: width of the latents.
        tokens: tokens of a prompt by text encoder.
        make: called with a shape, returns a tensor.
    """
    class_name = config.networks[config.denoiser_name].class_name
    return _INPUTS[class_name](config, batch, rows, columns, tokens, make)


def _unet(
    config: PipelineConfig, batch: int, rows: int, columns: int, tokens: Mapping[str, int], make: Make
) -> dict[str, Any]:
    unet = config.denoiser
    inputs = {
        "sample": make(batch, unet["in_channels"], rows, columns),
        "timestep": make(),
        "encoder_hidden_states": make(batch, tokens["text_encoder"], unet["cross_attention_dim"]),
    }
    if unet.get("addition_embed_type") == "text_time":
        pooled = unet["projection_class_embeddings_input_dim"] - _TIME_IDS * unet["addition_time_embed_dim"]
        inputs["added_cond_kwargs"] = {"text_embeds": make(batch, pooled), "time_ids": make(batch, _TIME_IDS)}
    if unet.get("time_cond_proj_dim"):
        inputs["timestep_cond"] = make(batch, unet["time_cond_proj_dim"])
    return inputs


def _flux(
    config: PipelineConfig, batch: int, rows: int, columns: int, tokens: Mapping[str, int], make: Make
) -> dict[str, Any]:
    transformer, text = config.denoiser, tokens["text_encoder_2"]
    image = rows * columns // config.packing**2
    inputs = {
        "hidden_states": make(batch, image, transformer["in_channels"]),
        "encoder_hidden_states": make(batch, text, transformer["joint_attention_dim"]),
        "pooled_projections": make(batch, transformer["pooled_projection_dim"]),
        "timestep": make(batch),
        "img_ids": make(image, _AXES),
        "txt_ids": make(text, _AXES),
    }
    return inputs | ({"guidance": make(batch)} if transformer["guidance_embeds"] else {})


def _sd3(
    config: PipelineConfig, batch: int, rows: int, columns: int, tokens: Mapping[str, int], make: Make
) -> dict[str, Any]:
    transformer = config.denoiser
    # The two CLIP encoders are joined along the channels, T5 follows them along the tokens.
    text = tokens["text_encoder"] + tokens["text_encoder_3"]
    return {
        "hidden_states": make(batch, transformer["in_channels"], rows, columns),
        "encoder_hidden_states": make(batch, text, transformer["joint_attention_dim"]),
        "pooled_projections": make(batch, transformer["pooled_projection_dim"]),
        "timestep": make(batch),
    }


def _z_image(
    config: PipelineConfig, batch: int, rows: int, columns: int, tokens: Mapping[str, int], make: Make
) -> dict[str, Any]:
    transformer = config.denoiser
    return {
        "x": [make(transformer["in_channels"], 1, rows, columns) for _ in range(batch)],
        "t": make(batch),
        "cap_feats": [make(tokens["text_encoder"], transformer["cap_feat_dim"]) for _ in range(batch)],
    }


_INPUTS: Mapping[str, Callable[[PipelineConfig, int, int, int, Mapping[str, int], Make], dict[str, Any]]] = {
    "UNet2DConditionModel": _unet,
    "FluxTransformer2DModel": _flux,
    "SD3Transformer2DModel": _sd3,
    "ZImageTransformer2DModel": _z_image,
}
