"""Pretrained weights, of a pinned revision or of a user's files: loaded completely or not at all."""

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sdbench.errors import UserError, WeightsUnavailable
from sdbench.models.config_differences import describe_differences
from sdbench.models.diffusers_layout import CONFIG_FILE, INDEX_FILE, SCHEDULER_FILE, find_weights, parts_of
from sdbench.models.fill_network import UnfitWeightsError, fill_network, match_names
from sdbench.models.hub import Pin, check_pin, fetch_snapshot, list_files
from sdbench.models.hub_errors import chain_of
from sdbench.models.libraries import class_of
from sdbench.models.networks import Networks, build_on_meta
from sdbench.models.pipeline_folders import load_pipeline
from sdbench.models.safetensors_file import DamagedFileError, read_header, read_tensors
from sdbench.models.single_file import read_component
from sdbench.models.tokenizer import TOKENS_PER_PROMPT
from sdbench.models.user_pipelines import combine_hashes, load_registered
from sdbench.probes.out_of_memory import where_memory_ran_out
from sdbench.schema.experiment import Experiment
from sdbench.schema.pipeline import Component, PipelineConfig
from sdbench.schema.worker_environment import WeightsSource

if TYPE_CHECKING:
    import torch

_SHA256 = re.compile(r"[0-9a-f]{64}")
_TOKENIZERS = ("CLIPTokenizer", "T5Tokenizer", "Qwen2Tokenizer")


@dataclass(frozen=True)
class WeightFiles:
    """A folder in diffusers' layout or one checkpoint, what messages call it, and what to do about its files.

    ``hashes`` are those that its weights had when they were registered.
    """

    path: Path
    name: str
    hint: str
    source: WeightsSource
    hashes: Mapping[str, str] = field(default_factory=dict)

    @property
    def is_checkpoint(self) -> bool:
        """Whether it is one file with all networks."""
        return self.source == "file" and self.path.suffix == ".safetensors" and not self.path.is_dir()


def fetch_weights(experiment: Experiment, cache_folder: Path) -> WeightFiles:
    """Return where the weights of an experiment are, downloading what is missing of a pinned revision.

    Raises:
        UserError: hub id or revision name no exact set of weights, or the pipeline is not known here.
        WeightsUnavailable: the files are not available.
    """
    if not experiment.needs_hub:
        own = load_registered(experiment.pipeline, cache_folder)
        if own.weights_sha256 is None:
            raise UserError(
                f"{experiment.pipeline} has no weights of its own; set weights=synthetic, or hub_id and revision"
            )
        return WeightFiles(Path(own.path), experiment.pipeline, "copy it again", "file", own.hashes)
    pin = Pin(*check_pin(experiment.hub_id, experiment.revision), cache_folder)
    return WeightFiles(fetch_snapshot(pin), f"{pin.hub_id} at {pin.revision}", "pin another revision", "downloaded")


def check_weights(experiment: Experiment, config: PipelineConfig, cache_folder: Path) -> str:
    """Return the digest of an experiment's weights, downloading what is missing; loading does not hash them again.

    Raises:
        UserError: hub id or revision name no exact set of weights, or the pipeline is not known here.
        WeightsUnavailable: the files are not available, or not those that were announced.
    """
    files = fetch_weights(experiment, cache_folder)
    names = [name for item in _name_weights(files, config).values() for name in item]
    if files.is_checkpoint:
        return f"sha256:{_hash_weights(files, files.path.name)}"
    return f"sha256:{combine_hashes({name: _hash_weights(files, name) for name in names})}"


def _name_weights(files: WeightFiles, config: PipelineConfig) -> dict[str, tuple[str, ...]]:
    """Return the weights files of each network in a folder; none for a checkpoint, which is one file."""
    if files.is_checkpoint:
        return {}
    paths = list_files(files.path)
    weights = {part: find_weights(paths, part, item.library) for part, item in config.networks.items()}
    if missing := [part for part, names in weights.items() if not names]:
        raise WeightsUnavailable(f"{files.name} has no safetensors for {', '.join(missing)}; {files.hint}")
    return weights


def load_pretrained(
    experiment: Experiment, config: PipelineConfig, cache_folder: Path, device: str, dtype: "torch.dtype"
) -> Networks:
    """Return the networks on ``device`` in ``dtype``, with every weight from the pinned files and none from elsewhere.

    Each is loaded in its precision, one after the other, so that no more than the pipeline takes memory.

    Raises:
        UserError: hub id or revision name no exact set of weights.
        WeightsUnavailable: the files are not available, are damaged, belong to another pipeline, or have a weight
            that is missing, unexpected or of another shape.
    """
    files = fetch_weights(experiment, cache_folder)
    if not files.is_checkpoint:
        _check_configs(files, load_pipeline(experiment.pipeline, cache_folder))
    # Before loading: a file that is not the one of the plan must not be parsed.
    digest = check_weights(experiment, config, cache_folder)
    if files.is_checkpoint:
        networks = {part: _load_of_checkpoint(files, part, config, device, dtype) for part in config.networks}
    else:
        networks = {
            part: load_network(files, names, config.networks[part], device, dtype)
            for part, names in _name_weights(files, config).items()
        }
    return Networks(networks, digest, files.source)


def load_network(
    files: WeightFiles, names: tuple[str, ...], component: Component, device: str, dtype: "torch.dtype"
) -> Any:
    """Return one network with the weights of the named files.

    Raises:
        WeightsUnavailable: a weight is missing, unexpected or of another shape, or a file is damaged.
    """
    network = build_on_meta(component, dtype)
    label = names[0] + (f" and {len(names) - 1} more" if len(names) > 1 else "")
    with _explained(files, label):
        headers = {name: read_header(files.path / name) for name in names}
        shapes = {key: item.shape for header in headers.values() for key, item in header.items()}
        if len(shapes) != sum(map(len, headers.values())):
            raise UnfitWeightsError("that several of its files have")
        own = match_names(network, shapes)
        stored = {name: [(key, item) for key, item in header.items() if key in own] for name, header in headers.items()}
        tensors = (pair for name, items in stored.items() for pair in read_tensors(files.path / name, items))
        fill_network(network, own, tensors, device)
    return network.eval().requires_grad_(requires_grad=False)


def fetch_tokenizers(experiment: Experiment, config: PipelineConfig, cache_folder: Path) -> dict[str, Any] | None:
    """Return the tokenizers that belong to pretrained weights; None for a checkpoint, which has none.

    Raises:
        UserError: hub id or revision name no exact set of weights.
        WeightsUnavailable: the files are not available, or a tokenizer cannot be loaded.
    """
    files = fetch_weights(experiment, cache_folder)
    if files.is_checkpoint:
        return None
    classes = {part: item[1].removesuffix("Fast") for part, item in parts_of(_read_json(files, INDEX_FILE)).items()}
    encoders = {part: config.networks[part.replace("tokenizer", "text_encoder")] for part in config.tokenizers}
    return {part: _load_tokenizer(files, part, classes.get(part), item.config) for part, item in encoders.items()}


def _load_tokenizer(files: WeightFiles, part: str, class_name: str | None, encoder: Mapping[str, Any]) -> Any:
    if class_name not in _TOKENIZERS:
        known = ", ".join(_TOKENIZERS)
        raise WeightsUnavailable(f"{files.name}: the {part} has the class {class_name}: expected {known}; {files.hint}")
    # CLIP has no more positions; the others are cut by the pipeline.
    options = {"model_max_length": TOKENS_PER_PROMPT} if class_name == "CLIPTokenizer" else {}
    try:
        tokenizer = class_of("transformers", class_name).from_pretrained(
            str(files.path / part), local_files_only=True, trust_remote_code=False, **options
        )
    except (OSError, ValueError, TypeError, KeyError, ImportError, AttributeError) as error:
        if cause := next(filter(where_memory_ran_out, chain_of(error)), None):
            raise MemoryError(f"the {part} does not fit into the host's memory: {cause}") from error
        problem = f"{files.name}: the {part} cannot be loaded ({type(error).__name__})"
        raise WeightsUnavailable(f"{problem}; {files.hint}") from error
    # transformers makes a tokenizer of a few special tokens where the vocabulary is missing.
    count, expected = len(tokenizer), int(encoder["vocab_size"])
    if count != expected if class_name == "CLIPTokenizer" else count < expected / 2:
        problem = f"{files.name}: the {part} has {count:,} tokens, and its text encoder {expected:,}"
        raise WeightsUnavailable(f"{problem}; {files.hint}")
    return tokenizer


def _load_of_checkpoint(
    files: WeightFiles, part: str, config: PipelineConfig, device: str, dtype: "torch.dtype"
) -> Any:
    network = build_on_meta(config.networks[part], dtype)
    with _explained(files, f"the {part} in {files.path.name}"):
        tensors = read_component(files.path, part, config, network)
        names = match_names(network, {name: tuple(tensor.shape) for name, tensor in tensors.items()})
        fill_network(network, names, ((name, tensors.pop(name)) for name in names), device)
    return network.eval().requires_grad_(requires_grad=False)


@contextmanager
def _explained(files: WeightFiles, subject: str) -> Iterator[None]:
    """Put what is wrong with weights into words."""
    try:
        yield
    except UnfitWeightsError as error:
        hint = f"the weights must be those of the pipeline: {files.hint}"
        raise WeightsUnavailable(f"{files.name}: {subject} has weights {error}; {hint}") from error
    except DamagedFileError as error:
        raise WeightsUnavailable(f"{files.name}: {subject} cannot be loaded: {error}; {files.hint}") from error
    except OSError as error:
        if where_memory_ran_out(error):
            raise
        raise WeightsUnavailable(f"{files.name}: {subject} cannot be read: {error.strerror}; {files.hint}") from error


def _hash_weights(files: WeightFiles, name: str) -> str:
    """Return the SHA-256 (hex) of a weights file, unless it was another when it was downloaded or registered."""
    path = files.path if files.is_checkpoint else files.path / name
    with _explained(files, name):
        status = path.stat()
        digest = _hash_file(path, status.st_size, status.st_mtime_ns)
    if files.source == "file":
        if files.hashes.get(name) != digest:
            raise WeightsUnavailable(f"{files.name}: {name} has changed since the run was planned; run it again")
        return digest
    # The cache keeps a large file under the SHA-256 the hub announced, and links to it.
    announced = path.readlink().name if path.is_symlink() else ""
    if _SHA256.fullmatch(announced) and announced != digest:
        raise WeightsUnavailable(
            f"{files.name}: {path.name} is damaged in the cache; remove {path.resolve()} and run again"
        )
    return digest


@cache
def _hash_file(path: Path, _size_bytes: int, _changed_ns: int) -> str:
    """Return the SHA-256 (hex) of a file, which a process reads once unless it changes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _check_configs(files: WeightFiles, config: PipelineConfig) -> None:
    for part, component in config.networks.items():
        path = f"{part}/{CONFIG_FILE}"
        _refuse_differences(files, path, component, _read_json(files, path))
    # The experiment names the scheduler; of its settings those count that a repository writes down.
    written = _read_json(files, SCHEDULER_FILE)
    common = {key: value for key, value in config.scheduler.config.items() if key in written}
    expected = config.scheduler.model_copy(update={"config": common})
    _refuse_differences(files, SCHEDULER_FILE, expected, {key: written[key] for key in common})


def _refuse_differences(files: WeightFiles, path: str, expected: Component, config: Mapping[str, Any]) -> None:
    try:
        differences = describe_differences(expected, config)
    except (TypeError, ValueError, KeyError, AttributeError) as error:
        raise WeightsUnavailable(f"{files.name}: {path} is damaged ({type(error).__name__}); {files.hint}") from error
    if differences:
        hint = "set pipeline=from-hub to take the repository's configs" if files.source == "downloaded" else files.hint
        raise WeightsUnavailable(f"{files.name}: {path} describes another pipeline ({differences}); {hint}")


def _read_json(files: WeightFiles, path: str) -> dict[str, Any]:
    try:
        return dict(json.loads((files.path / path).read_text(encoding="utf-8")))
    except OSError:
        raise WeightsUnavailable(f"{files.name}: {path} cannot be read; {files.hint}") from None
    except (ValueError, TypeError):
        raise WeightsUnavailable(f"{files.name}: {path} is not a JSON object; {files.hint}") from None
