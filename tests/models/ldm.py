"""Weights of diffusers' networks under the names that checkpoint files of one piece have."""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

UNET = "model.diffusion_model."
VAE = "first_stage_model."
CLIP = "cond_stage_model.transformer.text_model."
OPEN_CLIP = "cond_stage_model.model."
SDXL_CLIP = "conditioner.embedders.0.transformer.text_model."
SDXL_OPEN_CLIP = "conditioner.embedders.1.model."
_UNET_NAMES = {
    "conv_in": "input_blocks.0.0",
    "time_embedding.linear_1": "time_embed.0",
    "time_embedding.linear_2": "time_embed.2",
    "add_embedding.linear_1": "label_emb.0.0",
    "add_embedding.linear_2": "label_emb.0.2",
    "conv_norm_out": "out.0",
    "conv_out": "out.2",
    "mid_block.resnets.0": "middle_block.0",
    "mid_block.attentions.0": "middle_block.1",
    "mid_block.resnets.1": "middle_block.2",
}
_RESNET_NAMES = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "time_emb_proj": "emb_layers.1",
    "conv_shortcut": "skip_connection",
}
_VAE_ATTENTION = {"group_norm": "norm", "to_q": "q", "to_k": "k", "to_v": "v", "to_out.0": "proj_out"}
_OPEN_CLIP_NAMES = {
    "embeddings.token_embedding.weight": "token_embedding.weight",
    "embeddings.position_embedding.weight": "positional_embedding",
    "final_layer_norm.": "ln_final.",
    "encoder.layers.": "transformer.resblocks.",
    "layer_norm": "ln_",
    ".fc1.": ".c_fc.",
    ".fc2.": ".c_proj.",
    ".self_attn.": ".attn.",
}


def unet(weights: Mapping[str, torch.Tensor], config: Mapping[str, Any]) -> dict[str, torch.Tensor]:
    """Return the weights of a UNet; blocks are counted through in a checkpoint."""
    count = config["layers_per_block"] + 1
    attended = {name.partition(".attentions.")[0] for name in weights if ".attentions." in name}

    def rename(name: str) -> str:
        if match := re.match(r"(down|up)_blocks\.(\d+)\.(\w+)\.(\d+)\.(.*)", name):
            side, block, kind, layer, rest = match[1], int(match[2]), match[3], int(match[4]), match[5]
            side_name = "input_blocks" if side == "down" else "output_blocks"
            if kind == "downsamplers":
                return f"input_blocks.{(block + 1) * count}.0.op.{rest.removeprefix('conv.')}"
            if kind == "upsamplers":
                return f"output_blocks.{block * count + count - 1}.{1 + (f'up_blocks.{block}' in attended)}.{rest}"
            number = block * count + layer + (side == "down")
            inner = _replace(rest, _RESNET_NAMES) if kind == "resnets" else rest
            return f"{side_name}.{number}.{int(kind == 'attentions')}.{inner}"
        return _replace(_replace(name, _UNET_NAMES), _RESNET_NAMES if "resnets" in name else {})

    return {UNET + rename(name): tensor for name, tensor in weights.items()}


def vae(weights: Mapping[str, torch.Tensor], config: Mapping[str, Any]) -> dict[str, torch.Tensor]:
    """Return the weights of an autoencoder, whose attention has kernels of 1x1 in a checkpoint."""
    last = len(config["block_out_channels"]) - 1
    renamed = {}
    for name, tensor in weights.items():
        new = re.sub(r"up_blocks\.(\d+)", lambda match: f"up.{last - int(match[1])}", name)
        new = re.sub(r"mid_block\.resnets\.(\d+)", lambda match: f"mid.block_{int(match[1]) + 1}", new)
        new = (
            new.replace("down_blocks.", "down.")
            .replace(".resnets.", ".block.")
            .replace("conv_shortcut", "nin_shortcut")
        )
        new = new.replace("samplers.0.conv", "sample.conv").replace("conv_norm_out", "norm_out")
        if "mid_block.attentions.0" in new:
            new = _replace(new.replace("mid_block.attentions.0", "mid.attn_1"), _VAE_ATTENTION)
            tensor = tensor[:, :, None, None] if tensor.ndim > 1 else tensor  # noqa: PLW2901
        renamed[VAE + new] = tensor
    return renamed


def clip(weights: Mapping[str, torch.Tensor], prefix: str = CLIP) -> dict[str, torch.Tensor]:
    """Return the weights of OpenAI's text encoder, with the positions that were saved among them."""
    renamed = {prefix + name.removeprefix("text_model."): tensor for name, tensor in weights.items()}
    return {**renamed, f"{prefix}embeddings.position_ids": torch.arange(77)[None]}


def open_clip(weights: Mapping[str, torch.Tensor], prefix: str = OPEN_CLIP) -> dict[str, torch.Tensor]:
    """Return the weights of OpenCLIP's text encoder: query, key and value are one matrix."""
    own = {name.removeprefix("text_model."): tensor for name, tensor in weights.items()}
    renamed: dict[str, torch.Tensor] = {prefix + "logit_scale": torch.ones(())}
    for name, tensor in own.items():
        if ".q_proj." in name:
            joined = torch.cat([own[name.replace(".q_proj.", f".{part}_proj.")] for part in "qkv"])
            renamed[prefix + _replace(name, _OPEN_CLIP_NAMES).replace("q_proj.", "in_proj_")] = joined
        elif name == "text_projection.weight":
            renamed[prefix + "text_projection"] = tensor.T.contiguous()
        elif not re.search(r"\.[kv]_proj\.", name):
            renamed[prefix + _replace(name, _OPEN_CLIP_NAMES)] = tensor
    return renamed


def write_header(path: Path, tensors: Mapping[str, torch.Tensor]) -> None:
    """Write a file of the size of these tensors without their values: it takes no place on the disk."""
    entries, end = {}, 0
    for name, tensor in tensors.items():
        size = tensor.numel() * 2
        entries[name] = {"dtype": "F16", "shape": list(tensor.shape), "data_offsets": [end, end + size]}
        end += size
    header = json.dumps(entries).encode()
    with path.open("wb") as file:
        file.write(len(header).to_bytes(8, "little") + header)
        file.truncate(8 + len(header) + end)


def _replace(name: str, names: Mapping[str, str]) -> str:
    for old, new in names.items():
        name = name.replace(old, new)
    return name
