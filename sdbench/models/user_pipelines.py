"""Pipelines that do not ship with sdbench: their configs, and where their weights are on this machine."""

import hashlib
import re
from collections.abc import Mapping
from pathlib import Path

from pydantic import ValidationError

from sdbench.errors import UserError
from sdbench.schema.base import Model, Sha256, sha256_of
from sdbench.schema.pipeline import OwnPipeline, PipelineConfig
from sdbench.store.cache_folder import write_cached

_FOLDER = "pipelines"
_HASHES_FOLDER = "hashes"
_NOT_IN_NAMES = re.compile(r"[^\w.+-]+", re.ASCII)
_NAME_CHARACTERS = 50
_KEY_DIGITS = 16


class UserPipeline(OwnPipeline):
    """A pipeline of a user, as this machine remembers it; records get what ``OwnPipeline`` has, never the path.

    ``path`` is the folder in diffusers' layout or the checkpoint that it came from, and empty for one of the hub;
    ``hashes`` are the SHA-256 of its weights files by their paths in the folder.
    """

    path: str
    hashes: dict[str, Sha256]


class KnownHash(Model):
    """The SHA-256 of a file when it had this size and this time of its last change."""

    size_bytes: int
    changed_ns: int
    sha256: Sha256


def register(config: PipelineConfig, path: Path | None, hashes: Mapping[str, str], cache_folder: Path) -> UserPipeline:
    """Remember a pipeline for the workers, and return it with its final name: NAME@HASH of its configs and weights.

    Raises:
        EnvironmentProblem: the cache cannot be written.
    """
    name = _NOT_IN_NAMES.sub("-", config.name)[:_NAME_CHARACTERS].strip("-.") or "pipeline"
    weights_sha256 = combine_hashes(hashes) if hashes else None
    own = OwnPipeline(config=config, weights_sha256=weights_sha256)
    named = UserPipeline(
        config=config.model_copy(update={"name": f"{name}@{own.digest}"}),
        weights_sha256=weights_sha256,
        path="" if path is None else str(path.absolute()),
        hashes=dict(hashes),
    )
    target = _path_of(named.config.name, cache_folder)
    write_cached(target, named.model_dump_json().encode())
    return named


def load_registered(name: str, cache_folder: Path) -> UserPipeline:
    """Return the pipeline that was remembered under ``name``.

    Raises:
        UserError: there is none.
    """
    try:
        return UserPipeline.model_validate_json(_path_of(name, cache_folder).read_bytes())
    except (OSError, ValidationError):
        raise UserError(
            f"the pipeline {name!r} is not known on this machine; set pipeline to its folder again"
        ) from None


def load_own(name: str, cache_folder: Path) -> OwnPipeline:
    """Return what a record has of the pipeline that was remembered under ``name``.

    Raises:
        UserError: there is none.
    """
    known = load_registered(name, cache_folder)
    return OwnPipeline(config=known.config, weights_sha256=known.weights_sha256)


def combine_hashes(hashes: Mapping[str, str]) -> str:
    """Return the SHA-256 (hex) that stands for weights files: that of the file where there is one."""
    return next(iter(hashes.values())) if len(hashes) == 1 else sha256_of(dict(hashes))


def hash_file(path: Path, cache_folder: Path) -> str:
    """Return the SHA-256 (hex) of a file, which is read only if its size or its time have changed since the last time.

    Raises:
        OSError: it cannot be read.
        EnvironmentProblem: the cache cannot be written.
    """
    status = path.stat()
    remembered = cache_folder / _FOLDER / _HASHES_FOLDER / f"{sha256_of(str(path.resolve()))[:_KEY_DIGITS]}.json"
    try:
        known = KnownHash.model_validate_json(remembered.read_bytes())
        if (known.size_bytes, known.changed_ns) == (status.st_size, status.st_mtime_ns):
            return known.sha256
    except (OSError, ValidationError):
        pass
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    known = KnownHash(size_bytes=status.st_size, changed_ns=status.st_mtime_ns, sha256=digest)
    write_cached(remembered, known.model_dump_json().encode())
    return digest


def _path_of(name: str, cache_folder: Path) -> Path:
    return cache_folder / _FOLDER / f"{name}.json"
