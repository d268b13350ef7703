"""Which files of a pipeline in diffusers' layout are loaded: configs, tokenizers, and one variant of the weights."""

import re
from collections.abc import Collection, Mapping
from typing import Any

from sdbench.schema.pipeline import DECODER, DENOISERS

INDEX_FILE = "model_index.json"
CONFIG_FILE = "config.json"
SCHEDULER_FILE = "scheduler/scheduler_config.json"
TOKENIZER_FILE = "tokenizer_config.json"
_STEMS = {"diffusers": "diffusion_pytorch_model", "transformers": "model"}
# In the order of choice: what has no variant in its name is what the others were made from.
_VARIANTS = ("", ".fp16", ".bf16", ".fp32")
_SHARD = re.compile(r"-(\d{5})-of-(\d{5})\.safetensors")
# One of these makes a tokenizer; repositories have several, and settings next to them.
_VOCABULARIES = (("tokenizer.json",), ("vocab.json", "merges.txt"), ("spiece.model",))
_TOKENIZER_SETTINGS = (TOKENIZER_FILE, "special_tokens_map.json", "added_tokens.json", "chat_template.jinja")
_PICKLE_SUFFIXES = (".bin", ".ckpt", ".pt", ".pth", ".pkl")
_PART = re.compile(r"(text_encoder|tokenizer)(_\d)?|" + "|".join((*DENOISERS, DECODER, "scheduler")))


def parts_of(index: Mapping[str, Any]) -> dict[str, tuple[str, str]]:
    """Return library and class of each part of a ``model_index.json`` that is measured, by its name."""
    return {
        part: (str(value[0]), str(value[1]))
        for part, value in index.items()
        if _PART.fullmatch(part) and isinstance(value, list) and len(value) == 2 and all(value)  # noqa: PLR2004
    }


def networks_of(index: Mapping[str, Any]) -> dict[str, str]:
    """Return the library of each network of a ``model_index.json``, by its name."""
    parts = parts_of(index).items()
    return {part: item[0] for part, item in parts if item[0] in _STEMS and not part.startswith(("sched", "token"))}


def config_files(index: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the configs that a pipeline needs, by their paths in its folder."""
    return (INDEX_FILE, SCHEDULER_FILE, *(f"{part}/{CONFIG_FILE}" for part in networks_of(index)))


def find_weights(paths: Collection[str], part: str, library: str) -> tuple[str, ...]:
    """Return the safetensors files with the weights of one network; none if they are not all there."""
    present = set(paths)
    for variant in _VARIANTS:
        stem = f"{part}/{_STEMS[library]}{variant}"
        if f"{stem}.safetensors" in present:
            return (f"{stem}.safetensors",)
        for count in _shard_counts(present, stem):
            names = _name_shards(stem, count)
            if present.issuperset(names):
                return names
    return ()


def wanted_files(paths: Collection[str], index: Mapping[str, Any]) -> list[str]:
    """Return those of ``paths`` that loading a pipeline reads."""
    weights = (name for part, library in networks_of(index).items() for name in find_weights(paths, part, library))
    return [*(name for name in (*config_files(index), *tokenizer_files(index)) if name in paths), *weights]


def tokenizer_files(index: Mapping[str, Any], *, settings_only: bool = False) -> list[str]:
    """Return the files that the tokenizers of a pipeline may have."""
    vocabularies = [] if settings_only else [name for choice in _VOCABULARIES for name in choice]
    names = [*vocabularies, *_TOKENIZER_SETTINGS]
    return [f"{part}/{name}" for part in _tokenizers_of(index) for name in names]


def missing_files(paths: Collection[str], index: Mapping[str, Any]) -> list[str]:
    """Return the files that loading a pipeline needs and ``paths`` does not have."""
    missing = [name for name in config_files(index) if name not in paths] + missing_weights(paths, index)
    for part in _tokenizers_of(index):
        absent = [sorted({f"{part}/{name}" for name in choice}.difference(paths)) for choice in _VOCABULARIES]
        fewest: list[str] = min(absent, key=len)
        missing += fewest
    return missing


def missing_weights(paths: Collection[str], index: Mapping[str, Any]) -> list[str]:
    """Return the weight files that are missing: all, or the parts of a file that is there in parts."""
    missing: list[str] = []
    for part, library in networks_of(index).items():
        if find_weights(paths, part, library):
            continue
        stem = f"{part}/{_STEMS[library]}"
        sharded = [
            name
            for variant in _VARIANTS
            for count in _shard_counts(paths, stem + variant)
            for name in _name_shards(stem + variant, count)
        ]
        missing += [name for name in sharded if name not in paths] or [f"{stem}.safetensors"]
    return missing


def find_pickles(paths: Collection[str], missing: Collection[str]) -> list[str]:
    """Return the pickled weights in the folders of the files that are missing, and that have nothing else."""
    folders = {name.partition("/")[0] for name in missing if name.endswith(".safetensors")}
    folders -= {path.partition("/")[0] for path in paths if path.endswith(".safetensors")}
    return sorted(path for path in paths if path.endswith(_PICKLE_SUFFIXES) and path.partition("/")[0] in folders)


def _tokenizers_of(index: Mapping[str, Any]) -> list[str]:
    return [part for part in parts_of(index) if part.startswith("tokenizer")]


def _shard_counts(paths: Collection[str], stem: str) -> list[int]:
    matches = (_SHARD.fullmatch(path.removeprefix(stem)) for path in paths if path.startswith(f"{stem}-"))
    return sorted({int(match[2]) for match in matches if match})


def _name_shards(stem: str, count: int) -> tuple[str, ...]:
    return tuple(f"{stem}-{number:05}-of-{count:05}.safetensors" for number in range(1, count + 1))
