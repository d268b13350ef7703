"""One checkpoint file with all networks of an SD 1.x, SD 2.x or SDXL model, in the names that its authors gave them."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sdbench.errors import UserError
from sdbench.models.fill_network import UnfitWeightsError
from sdbench.models.pipeline_folders import load_shipped
from sdbench.models.safetensors_file import DamagedFileError, StoredTensor, read_header, read_tensors
from sdbench.schema.pipeline import PipelineConfig

_UNET = "model.diffusion_model."
_FIRST_WEIGHT = _UNET + "input_blocks.0.0.weight"
_VAE = "first_stage_model."
_CLIP = "cond_stage_model.transformer."
_OPEN_CLIP = "cond_stage_model.model."
_SDXL_CLIP = "conditioner.embedders.0.transformer."
_SDXL_OPEN_CLIP = "conditioner.embedders.1.model."
_LATENT_CHANNELS = 4
_NAMES_SHOWN = 5


@dataclass(frozen=True)
class Layout:
    """How a family names its networks: the shipped pipeline with its configs, and the prefix of each network."""

    base: str
    context_size: int
    prefixes: Mapping[str, str]


_LAYOUTS = (
    Layout("sd-1.5", 768, {"text_encoder": _CLIP, "unet": _UNET, "vae": _VAE}),
    Layout("sd-2.1", 1024, {"text_encoder": _OPEN_CLIP, "unet": _UNET, "vae": _VAE}),
    Layout(
        "sdxl",
        2048,
        {"text_encoder": _SDXL_CLIP, "text_encoder_2": _SDXL_OPEN_CLIP, "unet": _UNET, "vae": _VAE},
    ),
)
# Copies for training, and what the sampler computes from its settings.
_NO_WEIGHTS = frozenset(
    {
        "alphas_cumprod", "alphas_cumprod_prev", "betas", "denoiser.sigmas", "global_step",
        "log_one_minus_alphas_cumprod", "logvar", "model_ema.decay", "model_ema.num_updates",
        "posterior_log_variance_clipped", "posterior_mean_coef1", "posterior_mean_coef2", "posterior_variance",
        "scale_factor", "sqrt_alphas_cumprod", "sqrt_one_minus_alphas_cumprod", "sqrt_recip_alphas_cumprod",
        "sqrt_recipm1_alphas_cumprod",
    }
)  # fmt: skip
_COPIES = "model_ema."
# Within a text encoder: positions, the temperature of CLIP's training, and the mask of causal attention.
_NOT_READ = ("position_ids", "logit_scale", "attn_mask")
# SD 2.x takes what the last layer but one gives: the last layer and the projection come with the file all the same.
_NOT_READ_OF_SD2 = ("text_projection", "transformer.resblocks.23.")
# What marks the file of another model: a part of a name.
_OTHERS = {
    "lora_": "a LoRA",
    "double_blocks.": "FLUX",
    "joint_blocks.": "Stable Diffusion 3",
    "control_model.": "a ControlNet",
    "controlnet_cond_embedding.": "a ControlNet",
    "conditioner.embedders.0.model.": "the refiner of SDXL",
    "edm_mean": "Playground",
    "v_pred": "a model that predicts a velocity",
    "down_blocks.": "one network of a folder in diffusers' layout",
}
_OTHERS_WITHOUT_UNET = {_VAE: "a VAE", "decoder.conv_in.": "a VAE", "text_model.": "a text encoder"}


def read_checkpoint(path: Path) -> PipelineConfig:
    """Return the pipeline of a checkpoint: the configs of the shipped one with the same networks.

    Raises:
        UserError: it cannot be read, or is not a checkpoint of a family that is known.
    """
    try:
        tensors = read_header(path)
    except DamagedFileError as error:
        raise UserError(f"{path.name} cannot be loaded: {error}; download it again") from None
    except OSError as error:
        raise UserError(f"{path.name} cannot be read: {error.strerror}; check the path and its permissions") from None
    return load_shipped(find_layout(tensors, path.name).base).model_copy(update={"name": path.stem})


def find_layout(tensors: Mapping[str, StoredTensor], name: str) -> Layout:
    """Return the family of a checkpoint, by the names and shapes of its tensors; ``name`` stands for it in messages.

    Raises:
        UserError: it is none that is known.
    """
    known = "SD 1.x, SD 2.x and SDXL with UNet, VAE and text encoder"
    markers = _OTHERS if _FIRST_WEIGHT in tensors else _OTHERS | _OTHERS_WITHOUT_UNET
    if other := next((title for mark, title in markers.items() if any(mark in key for key in tensors)), None):
        raise UserError(f"{name} is {other}; one file can be of {known}: name a folder for other pipelines")
    first = tensors.get(_FIRST_WEIGHT)
    if first is None or len(first.shape) != 4:  # noqa: PLR2004 - of a convolution
        raise UserError(f"{name} has no UNet that sdbench knows; one file can be of {known}")
    if (channels := first.shape[1]) != _LATENT_CHANNELS:
        problem = f"is not a text-to-image model (its UNet has {channels} input channels)"
        raise UserError(f"{name} {problem}; choose a text-to-image checkpoint")
    sizes = {item.shape[-1] for key, item in tensors.items() if key.startswith(_UNET) and "attn2.to_k.weight" in key}
    layout = next((layout for layout in _LAYOUTS if sizes == {layout.context_size}), None)
    if layout is None:
        raise UserError(f"{name} has a UNet with text of size {sorted(sizes)}; one file can be of {known}")
    missing = [part for part, prefix in layout.prefixes.items() if not any(key.startswith(prefix) for key in tensors)]
    if missing:
        raise UserError(f"{name} has no {' and no '.join(missing)}; choose a file with all networks of the model")
    return layout


def read_component(path: Path, part: str, config: PipelineConfig, network: Any) -> dict[str, Any]:
    """Return the weights of one network in a checkpoint, in diffusers' names.

    Raises:
        DamagedFileError: the file is not a whole one.
        UnfitWeightsError: it has weights that belong to no network.
        UserError: it is not a checkpoint of a family that is known.
        OSError: it cannot be read.
    """
    header = read_header(path)
    prefixes = find_layout(header, path.name).prefixes
    known = (*prefixes.values(), _COPIES)
    if strays := sorted(key for key in header if not key.startswith(known) and key not in _NO_WEIGHTS):
        raise UnfitWeightsError(f"{len(strays)} unexpected ({', '.join(strays[:_NAMES_SHOWN])})")
    prefix = prefixes[part]
    wanted = {key: item for key, item in header.items() if key.startswith(prefix) and not _is_ignored(key, prefix)}
    tensors = {key: _narrow(tensor, network) for key, tensor in read_tensors(path, wanted.items())}
    converted = _convert(prefix, tensors, config.networks[part].config, network)
    left = sum(item.value_count for item in wanted.values()) - sum(tensor.numel() for tensor in converted.values())
    if left > 0:
        raise UnfitWeightsError(f"{left:,} values that belong to nothing in the network")
    return converted


def _narrow(tensor: Any, network: Any) -> Any:
    """Return a tensor in the type of the network if that takes less memory: a whole network is held at once."""
    dtypes = {parameter.dtype for parameter in network.parameters()}
    is_wider = len(dtypes) == 1 and tensor.element_size() > max(dtype.itemsize for dtype in dtypes)
    return tensor.to(dtypes.pop()) if is_wider else tensor


def _is_ignored(key: str, prefix: str) -> bool:
    name = key.removeprefix(prefix)
    of_sd2 = prefix == _OPEN_CLIP and name.startswith(_NOT_READ_OF_SD2)
    return of_sd2 or name.rpartition(".")[2] in _NOT_READ


def _convert(prefix: str, tensors: dict[str, Any], config: Mapping[str, Any], network: Any) -> dict[str, Any]:
    from diffusers.loaders import single_file_utils as diffusers

    converted: dict[str, Any]
    match prefix:
        case "model.diffusion_model.":
            converted = diffusers.convert_ldm_unet_checkpoint(tensors, config)
        case "first_stage_model.":
            converted = diffusers.convert_ldm_vae_checkpoint(tensors, config)
        case "cond_stage_model.transformer." | "conditioner.embedders.0.transformer.":
            converted = diffusers.convert_ldm_clip_checkpoint(tensors)
        case _:
            converted = diffusers.convert_open_clip_checkpoint(network, tensors, prefix)
    return converted
