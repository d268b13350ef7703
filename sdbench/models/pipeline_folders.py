"""Pipelines from folders of configs in diffusers' layout: the shipped ones, and those of users."""

import json
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any

from sdbench.errors import UserError
from sdbench.models.diffusers_layout import CONFIG_FILE, INDEX_FILE, SCHEDULER_FILE, TOKENIZER_FILE, parts_of
from sdbench.models.families import FAMILIES, KNOWN_NETWORKS, MODEL_TYPES, Family
from sdbench.models.user_pipelines import load_registered
from sdbench.schema.base import Model, PositiveInt
from sdbench.schema.document import parse_yaml
from sdbench.schema.experiment import Experiment
from sdbench.schema.pipeline import DECODER, DENOISERS, Component, NativeOptions, PipelineConfig

_ROOT = files("sdbench.models").joinpath("pipelines")
_TABLE = "pipelines.yaml"
# Keys that name the files a config came from, or the version that wrote it: they decide nothing.
_NOTES = frozenset({"torch_dtype", "dtype", "transformers_version"})
_NAMES_SHOWN = 4


class Shipped(Model):
    """A line of the table of shipped pipelines."""

    title: str
    source: str | None
    size: PositiveInt
    steps: PositiveInt
    guidance: float
    max_sequence_length: PositiveInt | None = None


@cache
def shipped_pipelines() -> dict[str, Shipped]:
    """Return the table of the pipelines that ship with sdbench, by name."""
    table = parse_yaml(_ROOT.joinpath(_TABLE).read_text(encoding="utf-8"), _TABLE).value
    return {name: Shipped.model_validate(line) for name, line in table.items()}


@cache
def load_shipped(name: str) -> PipelineConfig:
    """Return the shipped pipeline called ``name``.

    Raises:
        UserError: there is none of that name.
    """
    table = shipped_pipelines()
    if name not in table:
        raise UserError(f"unknown pipeline {name!r}; choose one of: {', '.join(table)}")
    line = table[name]
    native = NativeOptions(
        size_px=line.size,
        steps=line.steps,
        guidance_scale=line.guidance,
        max_sequence_length=line.max_sequence_length,
    )
    return read_folder(_ROOT.joinpath(name), name).model_copy(update={"native": native})


def read_folder(folder: Traversable | Path, name: str) -> PipelineConfig:
    """Return the pipeline whose configs are in ``folder``; ``name`` stands for the folder in messages.

    Its native options are those of its class.

    Raises:
        UserError: a config is missing or damaged, or its class is not one that sdbench can measure.
    """
    index = read_json(folder, INDEX_FILE, name)
    family = _find_family(index.get("_class_name"), name)
    parts = parts_of(index)
    encoders = sorted(part for part in parts if part.startswith("text_encoder"))
    denoiser = next((part for part in DENOISERS if part in parts), None)
    if denoiser is None or DECODER not in parts or not encoders or "scheduler" not in parts:
        raise UserError(f"{name}: {INDEX_FILE} must name a scheduler, a text_encoder, a unet or transformer, and a vae")
    needed = {"text_encoder", "text_encoder_2"} if family.text_encoders > 1 else {"text_encoder"}
    needed |= {part.replace("text_encoder", "tokenizer") for part in needed.union(encoders)}
    if missing := sorted(needed.difference(parts)):
        raise UserError(f"{name}: {INDEX_FILE} names no {', '.join(missing)}; {index['_class_name']} needs them")
    networks = {part: _read_component(folder, part, parts[part], name) for part in (*encoders, denoiser, DECODER)}
    scheduler = read_json(folder, SCHEDULER_FILE, name)
    class_name = parts["scheduler"][1]
    tokenizers = {part: _read_tokenizer(folder, part) for part in sorted(parts) if part.startswith("tokenizer")}
    config = PipelineConfig(
        name=name,
        class_name=str(index["_class_name"]),
        networks=networks,
        scheduler=Component(library="diffusers", class_name=class_name, config=_without_notes(scheduler)),
        tokenizers=tokenizers,
        flags={**family.flags} | {key: value for key, value in index.items() if isinstance(value, bool)},
        native=family.native(0),
    )
    try:
        latents = int(networks[denoiser].config.get("sample_size") or family.latents_in_a_row)
        native = family.native(latents * config.pixels_per_latent)
        # A key that is missing shows here, and not in the plan.
        config.latent_tokens(native.size_px, native.size_px)
        return config.model_copy(update={"native": native})
    except (KeyError, TypeError, ValueError, ArithmeticError) as error:
        reason = f"no {error}" if isinstance(error, KeyError) else type(error).__name__
        problem = f"the configs of {denoiser} and {DECODER} do not describe a pipeline ({reason})"
        raise UserError(f"{name}: {problem}; take the folder from a release of the model") from None


def override(config: PipelineConfig, changes: Mapping[str, Any]) -> PipelineConfig:
    """Return a pipeline with keys of its configs changed, each written ``COMPONENT.KEY``.

    Raises:
        UserError: there is no such component or key, or the value is of another kind.
    """
    networks = dict(config.networks)
    for path, value in changes.items():
        part, _, key = path.partition(".")
        if part not in networks or not key:
            known = ", ".join(networks)
            raise UserError(f"config {path!r} names no component of {config.name}; write COMPONENT.KEY, with {known}")
        values = networks[part].config
        if key not in values:
            known = ", ".join(sorted(name for name in values if not name.startswith("_")))
            raise UserError(f"config {path!r}: the {part} of {config.name} has no key {key!r}; it has {known}")
        old = values[key]
        if old is not None and value is not None and _kind(value) != _kind(old):
            raise UserError(f"config {path!r} is {value!r}: expected a value like {old!r}")
        networks[part] = networks[part].model_copy(update={"config": values | {key: value}})
    return config.model_copy(update={"networks": networks})


def _kind(value: Any) -> str:
    return "number" if isinstance(value, int | float) and not isinstance(value, bool) else type(value).__name__


def _find_family(class_name: Any, name: str) -> Family:
    if isinstance(class_name, str) and class_name in FAMILIES:
        return FAMILIES[class_name]
    raise UserError(
        f"{name}: the class {class_name!r} is not a text-to-image pipeline that sdbench can measure; "
        f"it measures {', '.join(FAMILIES)}"
    )


def _read_component(folder: Traversable | Path, part: str, written: tuple[str, str], name: str) -> Component:
    library, class_name = written
    if KNOWN_NETWORKS.get(class_name) != library:
        known = ", ".join(sorted(KNOWN_NETWORKS))
        raise UserError(
            f"{name}: the {part} has the class {library}.{class_name}, which sdbench does not know: {known}"
        )
    config = read_json(folder, f"{part}/{CONFIG_FILE}", name)
    if (own := _other_class(config, class_name)) is not None:
        raise UserError(f"{name}: {part}/{CONFIG_FILE} is of {own}, and {INDEX_FILE} says {class_name}; correct one")
    needed = ("vocab_size", "max_position_embeddings")[: 2 if class_name.startswith("CLIP") else 1]
    if class_name in MODEL_TYPES and (missing := [key for key in needed if not isinstance(config.get(key), int)]):
        problem = f"{part}/{CONFIG_FILE} has no {' and no '.join(missing)}"
        raise UserError(f"{name}: {problem}; take the folder from a release of the model")
    return Component(library=library, class_name=class_name, config=_without_notes(config))


def _other_class(config: Mapping[str, Any], class_name: str) -> Any:
    """Return the class or the kind of model that a config says it is of; None if that is ``class_name``, or nothing."""
    if class_name not in MODEL_TYPES:
        own = config.get("_class_name")
        return None if own in (None, class_name) else own
    model_type, prefix = MODEL_TYPES[class_name]
    written = config.get("architectures")
    others = [item for item in written if not str(item).startswith(prefix)] if isinstance(written, list) else []
    return next(iter(others), None) or (None if (own := config.get("model_type", model_type)) == model_type else own)


def _without_notes(config: Mapping[str, Any]) -> dict[str, Any]:
    named = (key for key in config if not key.startswith("_") or key == "_class_name")
    return {key: config[key] for key in named if key not in _NOTES}


def _read_tokenizer(folder: Traversable | Path, part: str) -> dict[str, Any]:
    """Return what decides the ids that a tokenizer gives; older repositories have no such file."""
    path = folder.joinpath(part, TOKENIZER_FILE)
    config = read_json(folder, f"{part}/{TOKENIZER_FILE}", part) if path.is_file() else {}
    pad_token = config.get("pad_token")
    # Some write the token with how it is stripped of spaces.
    pad_token = pad_token.get("content") if isinstance(pad_token, Mapping) else pad_token
    return {"model_max_length": config.get("model_max_length"), "pad_token": pad_token}


def read_json(folder: Traversable | Path, path: str, name: str) -> dict[str, Any]:
    """Return the JSON object in a file of a pipeline's folder.

    Raises:
        UserError: there is none.
    """
    try:
        value = json.loads(folder.joinpath(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{name} has no {path}; a pipeline is a folder in diffusers' layout") from None
    except (OSError, ValueError) as error:
        raise UserError(f"{name}: {path} cannot be read ({type(error).__name__}); copy it again") from None
    if not isinstance(value, dict):
        raise UserError(f"{name}: {path} is not a JSON object; copy it again")
    return value


def load_pipeline(name: str, cache_folder: Path) -> PipelineConfig:
    """Return the pipeline called ``name``, shipped or remembered on this machine.

    Raises:
        UserError: there is none of that name.
    """
    return load_registered(name, cache_folder).config if "@" in name else load_shipped(name)


def find_pipeline(experiment: Experiment, cache_folder: Path) -> PipelineConfig:
    """Return the pipeline of an experiment, with its changes of the configs.

    Raises:
        UserError: there is none of that name, or a change does not fit.
    """
    return override(load_pipeline(experiment.pipeline, cache_folder), experiment.config)
