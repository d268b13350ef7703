"""Pretrained weights of a pinned revision, loaded whole or not at all."""

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sdbench.errors import WeightsUnavailable
from sdbench.models.architectures import COMPONENTS, Architecture
from sdbench.models.hub import CONFIG_FILES, WEIGHT_FILES, Pin, check_pin, fetch_snapshot
from sdbench.models.libraries import LibraryClasses
from sdbench.models.tokenizer import TOKENS_PER_PROMPT
from sdbench.schema.base import sha256_of
from sdbench.schema.experiment import Experiment

_SHA256 = re.compile(r"[0-9a-f]{64}")
_NAMES_SHOWN = 5
# A buffer that older transformers saved among the weights; it is computed now.
_HARMLESS_BUFFER = "position_ids"


@dataclass(frozen=True)
class PretrainedParts:
    """The loaded networks by component in fp32 on the CPU, their tokenizer, and the digest of their files."""

    networks: dict[str, Any]
    tokenizer: Any
    digest: str


def fetch_weights(experiment: Experiment, cache_folder: Path) -> Path:
    """Return the folder with the pinned files, downloading what ``cache_folder`` lacks.

    Raises:
        UserError: hub id or revision name no exact set of weights.
        WeightsUnavailable: the files cannot be had.
    """
    hub_id, revision = check_pin(experiment.hub_id, experiment.revision)
    return fetch_snapshot(Pin(hub_id, revision, cache_folder))


def load_pretrained(
    experiment: Experiment, architecture: Architecture, classes: LibraryClasses, cache_folder: Path
) -> PretrainedParts:
    """Return the networks with every weight from the pinned files, and none from elsewhere.

    Raises:
        UserError: hub id or revision name no exact set of weights.
        WeightsUnavailable: the files cannot be had, are damaged, belong to another architecture, or leave a weight
            missing, unexpected or of another shape.
    """
    folder = fetch_weights(experiment, cache_folder)
    name = f"{experiment.hub_id} at {experiment.revision}"
    for part in CONFIG_FILES:
        _check_config(folder, part, getattr(architecture, part), name)
    # Before loading: a file that is not what the hub announced must not be parsed.
    hashes = {component: hash_weights(folder / WEIGHT_FILES[component], name) for component in COMPONENTS}
    networks = {component: load_network(folder, component, classes, name) for component in COMPONENTS}
    for component, network in networks.items():
        _check_count(network, folder / WEIGHT_FILES[component], component, name)
    return PretrainedParts(networks, _load_tokenizer(folder, classes, name), f"sha256:{sha256_of(hashes)}")


def fetch_tokenizer(experiment: Experiment, classes: LibraryClasses, cache_folder: Path) -> Any:
    """Return the tokenizer that belongs to pretrained weights.

    Raises:
        UserError: hub id or revision name no exact set of weights.
        WeightsUnavailable: the files cannot be had, or hold no tokenizer of CLIP's.
    """
    folder = fetch_weights(experiment, cache_folder)
    return _load_tokenizer(folder, classes, f"{experiment.hub_id} at {experiment.revision}")


def load_network(folder: Path, component: str, classes: LibraryClasses, name: str) -> Any:
    """Return one network in fp32 on the CPU.

    Raises:
        WeightsUnavailable: a weight is missing, unexpected or of another shape, or the file is damaged.
    """
    import torch
    from safetensors import SafetensorError

    dtype_key = "dtype" if component == "text_encoder" else "torch_dtype"
    # Both libraries re-initialise what is missing and only warn; mismatches are collected here so that all are named.
    options: dict[str, Any] = {
        "use_safetensors": True,
        "local_files_only": True,
        "output_loading_info": True,
        "ignore_mismatched_sizes": True,
        dtype_key: torch.float32,
    }
    if component != "text_encoder":
        # The sparing way needs accelerate, which is not installed.
        options["low_cpu_mem_usage"] = False
    try:
        network, info = classes.class_of(component).from_pretrained(str(folder / component), **options)
    except (OSError, ValueError, RuntimeError, ImportError, KeyError, SafetensorError) as error:
        raise WeightsUnavailable(
            f"{name}: {WEIGHT_FILES[component]} cannot be loaded ({type(error).__name__}); "
            f"remove {folder} to download it again, or pin another revision"
        ) from error
    _check_loading(info, component, name)
    return network


def hash_weights(path: Path, name: str) -> str:
    """Return the SHA-256 (hex) of a weights file.

    Raises:
        WeightsUnavailable: the cache stored the file under another SHA-256: it is damaged.
    """
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    # The cache keeps a large file under the SHA-256 the hub announced, and links to it.
    announced = path.readlink().name if path.is_symlink() else ""
    if _SHA256.fullmatch(announced) and announced != found:
        raise WeightsUnavailable(f"{name}: {path.name} is damaged in the cache; remove {path.resolve()} and run again")
    return found


def _check_loading(info: Mapping[str, Any], component: str, name: str) -> None:
    problems = []
    for title, key in (
        ("missing", "missing_keys"),
        ("unexpected", "unexpected_keys"),
        ("of another shape", "mismatched_keys"),
    ):
        keys = sorted(_key_of(entry) for entry in info.get(key) or ())
        keys = [entry for entry in keys if entry.rpartition(".")[2] != _HARMLESS_BUFFER]
        if keys:
            more = f" and {len(keys) - _NAMES_SHOWN} more" if len(keys) > _NAMES_SHOWN else ""
            problems.append(f"{len(keys)} {title} ({', '.join(keys[:_NAMES_SHOWN])}{more})")
    if info.get("error_msgs"):
        problems.append(f"{len(info['error_msgs'])} that could not be copied")
    if problems:
        raise WeightsUnavailable(
            f"{name}: {WEIGHT_FILES[component]} has weights {', '.join(problems)}; "
            "the library would fill them at random, so pin a revision that fits the architecture"
        )


def _key_of(entry: Any) -> str:
    return entry if isinstance(entry, str) else str(entry[0])


def _check_count(network: Any, path: Path, component: str, name: str) -> None:
    """Compare the number of values, because the libraries leave some names out of their reports."""
    from safetensors import safe_open

    with safe_open(str(path), framework="pt") as file:
        names = [key for key in file.keys() if key.rpartition(".")[2] != _HARMLESS_BUFFER]  # noqa: SIM118 - no mapping
        stored = sum(_size_of(file.get_slice(key).get_shape()) for key in names)
    held = sum(tensor.numel() for tensor in network.parameters())
    if stored != held:
        raise WeightsUnavailable(
            f"{name}: {WEIGHT_FILES[component]} holds {stored:,} values where the network has {held:,}; "
            "pin a revision that fits the architecture"
        )


def _size_of(shape: list[int]) -> int:
    size = 1
    for length in shape:
        size *= length
    return size


def _check_config(folder: Path, part: str, expected: Mapping[str, Any], name: str) -> None:
    path = folder / CONFIG_FILES[part]
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        items = dict(found)
    except (ValueError, TypeError):
        raise WeightsUnavailable(f"{name}: {CONFIG_FILES[part]} is no JSON object; pin another revision") from None
    # A key the file leaves out has the library's default; if that changed a shape, loading the weights shows it.
    different = [key for key, value in expected.items() if key in items and items[key] != value]
    if different:
        shown = ", ".join(f"{key} {items[key]!r} instead of {expected[key]!r}" for key in different[:_NAMES_SHOWN])
        raise WeightsUnavailable(
            f"{name}: {CONFIG_FILES[part]} describes another architecture ({shown}); "
            "choose the architecture that fits, or pin another revision"
        )


def _load_tokenizer(folder: Path, classes: LibraryClasses, name: str) -> Any:
    try:
        tokenizer = classes.tokenizer.from_pretrained(
            str(folder / "tokenizer"), local_files_only=True, model_max_length=TOKENS_PER_PROMPT
        )
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise WeightsUnavailable(
            f"{name}: the tokenizer cannot be loaded ({type(error).__name__}); pin another revision"
        ) from error
    return tokenizer
