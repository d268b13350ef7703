"""A path or a repository as the pipeline of a command line: remembered, and from then on a name and a hash."""

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sdbench.errors import UserError
from sdbench.models.config_differences import find_same
from sdbench.models.diffusers_layout import (
    INDEX_FILE,
    find_pickles,
    find_weights,
    missing_files,
    networks_of,
    tokenizer_files,
)
from sdbench.models.hub import Pin, check_pin, fetch_snapshot, list_files
from sdbench.models.pipeline_folders import load_shipped, read_folder, read_json, shipped_pipelines
from sdbench.models.safetensors_file import DamagedFileError, read_header
from sdbench.models.single_file import read_checkpoint
from sdbench.models.user_pipelines import hash_file, register
from sdbench.schema.manifest import Manifest
from sdbench.schema.pipeline import PipelineConfig

FROM_HUB = "from-hub"
_REPOSITORY = re.compile(r"[\w-][\w.-]*/[\w.-]+")
_PATH_SHOWN = 80
_CHECKPOINT_SUFFIX = ".safetensors"
_HUB_KEYS = ("hub_id", "revision")


@dataclass(frozen=True)
class OwnFiles:
    """The configs at a path, and its weights files and those of its tokenizers by their paths within."""

    config: PipelineConfig
    root: Path
    weights: Mapping[str, Path]
    tokenizers: Mapping[str, Path] = field(default_factory=dict)


def name_pipeline(
    assignments: Sequence[str], weights: str | None, manifest: Manifest, cache: Path, *, ask_hub: bool = True
) -> list[str]:
    """Return settings without a path: a pipeline that is not shipped is remembered in ``cache`` and gets its name.

    Args:
        assignments: the settings, ``KEY=VALUE``.
        weights: what ``--weights`` says, if it was given.
        manifest: what is to be measured.
        cache: the folder that remembers pipelines and keeps what is downloaded.
        ask_hub: whether the configs of a repository are read; else the manifest's pipeline stands for it.

    Raises:
        UserError: the path or the repository has no pipeline that can be measured.
        WeightsUnavailable: the configs of the repository are not available.
        EnvironmentProblem: the cache cannot be written.
    """
    values = {key: value for key, _, value in (item.partition("=") for item in assignments)}
    if weights is not None:
        values["weights"] = weights
    pipeline = values.get("pipeline")
    if pipeline == FROM_HUB or (pipeline is None and values.get("hub_id", "null") not in ("null", "")):
        if not ask_hub:
            return [item for item in assignments if item != f"pipeline={FROM_HUB}"]
        return _replace(assignments, {"pipeline": _name_of_hub(values, manifest, cache)})
    if not pipeline or not is_path(pipeline):
        return list(assignments)
    files = read_own(Path(pipeline).expanduser(), with_weights=values.get("weights") != "synthetic")
    kind = values.get("weights") or ("pretrained" if files.weights else "synthetic")
    hub_id = values.get("hub_id")
    if files.weights and hub_id is not None:
        raise UserError(f"hub_id={hub_id} and pipeline={files.root.name} both bring weights; remove one")
    if kind == "pretrained" and not files.weights and hub_id is None:
        raise UserError(f"{files.root.name} has no weights; set weights=synthetic, or hub_id and revision")
    hashes = {name: _hash_weights(name, path, cache) for name, path in files.weights.items()}
    hashes |= {name: hash_file(path, cache) for name, path in files.tokenizers.items()}
    named = register(files.config, files.root, hashes, cache).config.name
    changes = {"pipeline": named} | ({} if weights else {"weights": kind})
    # Those of the manifest are for its own pipeline.
    return _replace(assignments, changes | (dict.fromkeys(_HUB_KEYS, "null") if hashes else {}))


def is_path(pipeline: str) -> bool:
    """Return whether the value of ``pipeline`` is a path, and not a name."""
    if pipeline in shipped_pipelines() or ("@" in Path(pipeline).name and "/" not in pipeline):
        return False
    if "/" in pipeline or pipeline.startswith(("~", ".")):
        return True
    with suppress(OSError):  # no file has so long a name
        return Path(pipeline).exists()
    return False


def refuse_own_pipeline(assignments: Sequence[str], where: str) -> None:
    """Do nothing unless a setting names a pipeline that only this machine has.

    Raises:
        UserError: one does.
    """
    for key, _, value in (item.partition("=") for item in assignments):
        if key == "pipeline" and (is_path(value) or "@" in value):
            raise UserError(
                f"pipeline={Path(value).name} is of this machine, and {where} does not have its files; "
                "set hub_id and revision instead"
            )


def _replace(assignments: Sequence[str], changes: Mapping[str, str]) -> list[str]:
    kept = [item for item in assignments if item.partition("=")[0] not in changes]
    return [*kept, *(f"{key}={value}" for key, value in changes.items())]


def read_own(path: Path, *, with_weights: bool) -> OwnFiles:
    """Return the pipeline in a folder or checkpoint file, and its weights files, none without ``with_weights``.

    Raises:
        UserError: it has no pipeline that can be measured, or its weights are pickled or incomplete.
    """
    try:
        path.stat()
        is_folder = path.is_dir()
        if is_folder:
            next(path.iterdir(), None)
    except FileNotFoundError:
        hint = "check the path"
        if _REPOSITORY.fullmatch(str(path)):
            hint += f", or measure a repository with hub_id={path}, revision=COMMIT and weights=pretrained"
        raise UserError(f"there is no folder or file {path}; {hint}") from None
    except OSError as error:
        raise UserError(
            f"pipeline={str(path)[:_PATH_SHOWN]} cannot be read: {error.strerror}; check the path"
        ) from None
    if is_folder:
        return _read_folder(path, with_weights=with_weights)
    if path.suffix != _CHECKPOINT_SUFFIX or not path.is_file():
        raise UserError(
            f"pipeline={path.name} is not a file of safetensors; name a folder in diffusers' layout, or a file whose "
            f"name ends with {_CHECKPOINT_SUFFIX}: pickled weights can run code when loaded"
        )
    config = read_checkpoint(path)
    return OwnFiles(config, path, {path.name: path} if with_weights else {})


def _read_folder(path: Path, *, with_weights: bool) -> OwnFiles:
    name = path.absolute().name or str(path)
    index = read_json(path, INDEX_FILE, name)
    config, paths, libraries = read_folder(path, name), list_files(path), networks_of(index)
    weights = [item for part, library in libraries.items() for item in find_weights(paths, part, library)]
    missing = missing_files(paths, index)
    if not with_weights:
        return OwnFiles(config, path, {})
    if pickles := find_pickles(paths, missing):
        problem = f"{name} has only pickled weights ({', '.join(pickles)}), which can run code when loaded"
        raise UserError(f"{problem}; save them as safetensors, or set weights=synthetic")
    if weights and missing:
        raise UserError(f"{name} has no {', '.join(missing)}; copy what is missing, or set weights=synthetic")
    tokenizers = [item for item in tokenizer_files(index) if item in paths] if weights else []
    return OwnFiles(config, path, {item: path / item for item in weights}, {item: path / item for item in tokenizers})


def _hash_weights(name: str, path: Path, cache: Path) -> str:
    try:
        read_header(path)
        return hash_file(path, cache)
    except DamagedFileError as error:
        raise UserError(f"{name} cannot be loaded: {error}; copy it again, or set weights=synthetic") from None
    except OSError as error:
        raise UserError(f"{name} cannot be read: {error.strerror}; check its permissions") from None


def _name_of_hub(values: Mapping[str, str], manifest: Manifest, cache: Path) -> str:
    written = {key: values.get(key) or manifest.model.values.get(key) for key in _HUB_KEYS}
    if None in written.values():
        raise UserError(f"pipeline={FROM_HUB} needs hub_id and revision (a commit hash); set both")
    pin = Pin(*check_pin(written["hub_id"], written["revision"]), cache)
    config = read_folder(fetch_snapshot(pin, configs_only=True), pin.hub_id)
    # Fine-tuned models have the networks of a shipped pipeline too, and keep their own name.
    released = (name for name, line in shipped_pipelines().items() if line.source == pin.hub_id)
    names = dict.fromkeys((*_pipelines_of(manifest), *released))
    if (same := find_same(config, {name: load_shipped(name) for name in names})) is not None:
        return same
    named = config.model_copy(update={"name": pin.hub_id.rpartition("/")[2]})
    return register(named, None, {}, cache).config.name


def _pipelines_of(manifest: Manifest) -> Iterator[str]:
    blocks: list[Mapping[str, Any]] = [manifest.model.values, manifest.defaults.values]
    blocks += [group.options.values for group in manifest.experiments]
    yield from (block["pipeline"] for block in blocks if block.get("pipeline") in shipped_pipelines())
