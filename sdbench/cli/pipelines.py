"""``sdbench pipelines``: what is known of each pipeline, or all of one."""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sdbench.cli.options import add_json_option
from sdbench.cli.output import make_table, open_console, show
from sdbench.models.facts import BYTES_PER_VALUE, PipelineFacts, load_facts
from sdbench.models.pipeline_folders import load_pipeline, shipped_pipelines
from sdbench.models.schedulers import native_scheduler
from sdbench.models.work import count_text_tokens
from sdbench.plan.estimate import count_denoiser_calls
from sdbench.plan.families import native_options
from sdbench.plan.own_pipelines import is_path, read_own
from sdbench.schema.experiment import Experiment
from sdbench.schema.pipeline import PipelineConfig
from sdbench.store.cache_folder import cache_folder
from sdbench.units import format_bytes, round_significant

_LINE_CHARACTERS = 200
_COLUMNS = (
    "pipeline",
    "title",
    "class",
    "parameters",
    "size",
    "steps",
    "guidance",
    "weights fp32",
    "weights 16-bit",
    "TFLOP/image",
    "tokens",
)
_COMPONENT_COLUMNS = ("component", "class", "parameters", "tokens", "TFLOP/call", "config")
_TEXT_COLUMNS = ("pipeline", "title", "component", "class", "config")
# What decides the work of a network, in any class.
_KEYS = (
    "block_out_channels", "layers_per_block", "transformer_layers_per_block", "cross_attention_dim",
    "num_layers", "num_single_layers", "num_hidden_layers", "n_layers", "num_refiner_layers", "n_refiner_layers",
    "hidden_size", "d_model", "dim", "num_attention_heads", "num_heads", "n_heads", "attention_head_dim",
    "in_channels", "latent_channels", "patch_size", "all_patch_size", "guidance_embeds", "force_upcast", "vocab_size",
)  # fmt: skip
_GUIDANCE = {
    "batch": "guidance doubles the batch of the denoiser",
    "embedding": "guidance is an input of the denoiser",
    "none": "distilled without guidance",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    parser.add_argument("pipeline", nargs="?", metavar="NAME", help="show all of this pipeline: a name, or a folder")
    add_json_option(parser)


def execute(options: argparse.Namespace) -> int:
    """Print one line per shipped pipeline, or everything about one, and return 0."""
    names = shipped_pipelines() if options.pipeline is None else (options.pipeline,)
    described = [_describe(_find(name)) for name in names]
    if options.json:
        show(json.dumps(described if options.pipeline is None else described[0], indent=1))
    elif options.pipeline is None:
        _print(_COLUMNS, [_row(item) for item in described])
        show("\nsdbench pipelines NAME shows the components; --set pipeline=NAME measures one.")
    else:
        _print_one(described[0])
    return 0


def _find(name: str) -> PipelineConfig:
    if is_path(name):
        return read_own(Path(name).expanduser(), with_weights=False).config
    return load_pipeline(name, cache_folder())


def _describe(config: PipelineConfig) -> dict[str, Any]:
    """Return what is known of a pipeline as JSON types: sizes in pixels and bytes, work in FLOP."""
    facts, native, shipped = load_facts(config, cache_folder()), config.native, shipped_pipelines().get(config.name)
    experiment = Experiment.model_validate({"pipeline": config.name} | native_options(config))
    tokens = config.latent_tokens(native.size_px, native.size_px)
    return {
        "name": config.name,
        "title": shipped.title if shipped else config.name,
        "source": shipped.source if shipped else None,
        "class": config.class_name,
        **native.to_json_dict(),
        "scheduler": native_scheduler(config) or config.scheduler.class_name,
        "guidance": config.guidance,
        "latent_tokens": tokens,
        "pixels_per_token": config.pixels_per_token,
        "packing": config.packing,
        "parameters": facts.parameter_count,
        "weights_bytes": {precision: facts.weights_bytes(precision) for precision in BYTES_PER_VALUE},
        "flop_per_image": facts.flop_per_image(config, experiment, count_denoiser_calls(experiment)),
        "components": {name: _describe_component(config, facts, name, tokens) for name in config.networks},
    }


def _describe_component(config: PipelineConfig, facts: PipelineFacts, name: str, latent_tokens: int) -> dict[str, Any]:
    component, text_tokens = config.networks[name], count_text_tokens(config, None)
    return {
        "class": f"{component.library}.{component.class_name}",
        "parameters": facts.parameters[name],
        "tokens": text_tokens.get(name, latent_tokens),
        "flop_per_call": facts.flop_of(name, latent_tokens),
        "config": {key: component.config[key] for key in _KEYS if component.config.get(key) is not None},
    }


def _row(item: dict[str, Any]) -> tuple[str, ...]:
    weights = item["weights_bytes"]
    return (
        item["name"],
        item["title"],
        item["class"],
        f"{item['parameters']:,}",
        str(item["size_px"]),
        str(item["steps"]),
        f"{item['guidance_scale']:g}",
        format_bytes(weights["fp32"]),
        format_bytes(weights["fp16"]),
        _format_tflop(item["flop_per_image"]),
        f"{item['latent_tokens']:,}",
    )


def _print_one(item: dict[str, Any]) -> None:
    weights, size, token = item["weights_bytes"], item["size_px"], item["pixels_per_token"]
    packing = f", {item['packing']} x {item['packing']} latents packed into each" if item["packing"] > 1 else ""
    length = f", prompts padded to {item['max_sequence_length']} tokens" if item["max_sequence_length"] else ""
    in_fp32, in_16_bit = (format_bytes(weights[precision]) for precision in ("fp32", "fp16"))
    lines = {
        "configs": item["source"] or "not published",
        "made for": f"{size}x{size}, {item['steps']} steps, guidance {item['guidance_scale']:g}{length}",
        "scheduler": f"{item['scheduler']}; {_GUIDANCE[item['guidance']]}",
        "an image": f"{item['latent_tokens']:,} tokens of {token} x {token} pixels{packing}; "
        f"{_format_tflop(item['flop_per_image'])} TFLOP",
        "weights": f"{item['parameters']:,} parameters: {in_fp32} in fp32, {in_16_bit} in 16 bit",
    }
    show(f"{item['name']}: {item['title']}, {item['class']}")
    show("".join(f"{name:9}  {text}\n" for name, text in lines.items()))
    rows = [
        (
            name,
            part["class"].partition(".")[2],
            f"{part['parameters']:,}",
            f"{part['tokens']:,}",
            _format_tflop(part["flop_per_call"]),
            ", ".join(f"{key} {value}" for key, value in part["config"].items()),
        )
        for name, part in item["components"].items()
    ]
    _print(_COMPONENT_COLUMNS, rows)


def _print(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    open_console(_LINE_CHARACTERS).print(make_table(columns, rows, right=set(columns) - set(_TEXT_COLUMNS)))


def _format_tflop(flop: float) -> str:
    return round_significant(flop / 1e12, 3)
