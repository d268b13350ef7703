"""Pretrained weights of a pinned revision, loaded completely or not at all."""

import hashlib
import json
import re
from collections.abc import Mapping
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sdbench.errors import WeightsUnavailable
from sdbench.models.hub import CONFIG_FILES, WEIGHT_FILES, Pin, check_pin, fetch_snapshot
from sdbench.models.hub_errors import chain_of
from sdbench.models.libraries import class_of
from sdbench.models.networks import Networks
from sdbench.models.tokenizer import TOKENS_PER_PROMPT
from sdbench.probes.out_of_memory import where_memory_ran_out
from sdbench.schema.base import sha256_of
from sdbench.schema.experiment import Experiment
from sdbench.schema.pipeline import Component, PipelineConfig

if TYPE_CHECKING:
    import torch

_SHA256 = re.compile(r"[0-9a-f]{64}")
_NAMES_SHOWN = 5
# Says what size a network was trained for; weights and work do not depend on it.
_FREE = frozenset({"sample_size", "_class_name", "architectures", "model_type"})
# What both libraries report of loading, and what to call it.
_KEYS_REPORTED = {"missing_keys": "missing", "unexpected_keys": "unexpected", "mismatched_keys": "of another shape"}


def fetch_weights(experiment: Experiment, cache_folder: Path) -> Path:
    """Return the folder with the pinned files, downloading what is missing in ``cache_folder``.

    Raises:
        UserError: hub id or revision name no exact set of weights.
        WeightsUnavailable: the files are not available.
    """
    hub_id, revision = check_pin(experiment.hub_id, experiment.revision)
    return fetch_snapshot(Pin(hub_id, revision, cache_folder))


def load_pretrained(
    experiment: Experiment, config: PipelineConfig, cache_folder: Path, device: str, dtype: "torch.dtype"
) -> Networks:
    """Return the networks on ``device`` in ``dtype``, with every weight from the pinned files and none from elsewhere.

    Raises:
        UserError: hub id or revision name no exact set of weights.
        WeightsUnavailable: the files are not available, are damaged, belong to another pipeline, or have a weight
            that is missing, unexpected or of another shape.
    """
    from torch import nn

    folder = fetch_weights(experiment, cache_folder)
    name = _name_of(experiment)
    for part, component in (*config.networks.items(), ("scheduler", config.scheduler)):
        _check_config(folder, part, component.config, name)
    # Before loading: a file that is not what the hub announced must not be parsed.
    hashes = {part: _hash_weights(folder / WEIGHT_FILES[part], name) for part in config.networks}
    networks = {part: load_network(folder, part, component, name) for part, component in config.networks.items()}
    for part, network in networks.items():
        _check_count(network, folder / WEIGHT_FILES[part], part, name)
        nn.Module.to(network, device=device, dtype=dtype).eval().requires_grad_(requires_grad=False)
    return Networks(networks, f"sha256:{sha256_of(hashes)}", "downloaded")


def fetch_tokenizers(experiment: Experiment, config: PipelineConfig, cache_folder: Path) -> dict[str, Any]:
    """Return the tokenizers that belong to pretrained weights.

    Raises:
        UserError: hub id or revision name no exact set of weights.
        WeightsUnavailable: the files are not available, or contain no CLIP tokenizer.
    """
    folder = fetch_weights(experiment, cache_folder) / "tokenizer"
    try:
        tokenizer = class_of("transformers", "CLIPTokenizer").from_pretrained(
            str(folder), local_files_only=True, model_max_length=TOKENS_PER_PROMPT
        )
        return {"tokenizer": tokenizer}
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise _explain(error, f"{_name_of(experiment)}: the tokenizer", "pin another revision") from error


def load_network(folder: Path, part: str, component: Component, name: str) -> Any:
    """Return one network in fp32 on the CPU.

    Raises:
        WeightsUnavailable: a weight is missing, unexpected or of another shape, or the file is damaged.
        MemoryError: the host's memory does not suffice.
    """
    import torch
    from safetensors import SafetensorError

    # Both libraries re-initialise what is missing and only warn; mismatches are collected here so that all are named.
    options: dict[str, Any] = {
        "use_safetensors": True,
        "local_files_only": True,
        "output_loading_info": True,
        "ignore_mismatched_sizes": True,
    }
    if component.library == "transformers":
        options["dtype"] = torch.float32
    else:
        # low_cpu_mem_usage needs accelerate, which is not installed.
        options |= {"torch_dtype": torch.float32, "low_cpu_mem_usage": False}
    try:
        network, info = class_of(component.library, component.class_name).from_pretrained(str(folder / part), **options)
    except (OSError, ValueError, RuntimeError, ImportError, KeyError, SafetensorError) as error:
        path = folder / WEIGHT_FILES[part]
        hint = f"remove {path.resolve()} to download it again, or pin another revision"
        raise _explain(error, f"{name}: {WEIGHT_FILES[part]}", hint) from error
    _check_loading(info, part, name)
    return network


def _explain(error: Exception, subject: str, hint: str) -> Exception:
    """Return the exception to raise: of memory, even where a library took that for a damaged file."""
    if cause := next(filter(where_memory_ran_out, chain_of(error)), None):
        return MemoryError(f"{subject} does not fit into the host's memory: {cause}")
    return WeightsUnavailable(f"{subject} cannot be loaded ({type(error).__name__}); {hint}")


def _hash_weights(path: Path, name: str) -> str:
    """Return the SHA-256 (hex) of a weights file, unless the cache stored it under another: then it is damaged."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    # The cache keeps a large file under the SHA-256 the hub announced, and links to it.
    announced = path.readlink().name if path.is_symlink() else ""
    if _SHA256.fullmatch(announced) and announced != digest:
        raise WeightsUnavailable(f"{name}: {path.name} is damaged in the cache; remove {path.resolve()} and run again")
    return digest


def _name_of(experiment: Experiment) -> str:
    return f"{experiment.hub_id} at {experiment.revision}"


def _check_loading(info: Mapping[str, Any], component: str, name: str) -> None:
    problems = []
    for key, title in _KEYS_REPORTED.items():
        names = [entry if isinstance(entry, str) else str(entry[0]) for entry in info.get(key) or ()]
        names = sorted(weight for weight in names if not _is_harmless(weight))
        if names:
            more = f" and {len(names) - _NAMES_SHOWN} more" if len(names) > _NAMES_SHOWN else ""
            problems.append(f"{len(names)} {title} ({', '.join(names[:_NAMES_SHOWN])}{more})")
    if info.get("error_msgs"):
        problems.append(f"{len(info['error_msgs'])} that could not be copied")
    if problems:
        raise WeightsUnavailable(
            f"{name}: {WEIGHT_FILES[component]} has weights {', '.join(problems)}; "
            "the library would fill them at random, so pin a revision that fits the pipeline"
        )


def _is_harmless(weight: str) -> bool:
    """Whether it is a buffer that older transformers saved among the weights; it is computed now."""
    return weight.rpartition(".")[2] == "position_ids"


def _check_count(network: Any, path: Path, component: str, name: str) -> None:
    """Compare the number of values, because the libraries omit some names from their reports."""
    from safetensors import safe_open

    with safe_open(str(path), framework="pt") as file:
        weights = [key for key in file.keys() if not _is_harmless(key)]  # noqa: SIM118 - not a mapping
        stored = sum(prod(file.get_slice(key).get_shape()) for key in weights)
    expected = sum(tensor.numel() for tensor in network.parameters())
    if stored != expected:
        raise WeightsUnavailable(
            f"{name}: {WEIGHT_FILES[component]} holds {stored:,} values where the network has {expected:,}; "
            "pin a revision that fits the pipeline"
        )


def _check_config(folder: Path, part: str, expected: Mapping[str, Any], name: str) -> None:
    try:
        config = dict(json.loads((folder / CONFIG_FILES[part]).read_text(encoding="utf-8")))
    except (ValueError, TypeError):
        raise WeightsUnavailable(f"{name}: {CONFIG_FILES[part]} is not a JSON object; pin another revision") from None
    # A key the file omits has the library's default; if that changed a shape, loading the weights shows it.
    different = [key for key, value in expected.items() if key in config and config[key] != value and key not in _FREE]
    if different:
        shown = ", ".join(f"{key} {config[key]!r} instead of {expected[key]!r}" for key in different[:_NAMES_SHOWN])
        raise WeightsUnavailable(
            f"{name}: {CONFIG_FILES[part]} describes another pipeline ({shown}); "
            "choose the pipeline that fits, or pin another revision"
        )
