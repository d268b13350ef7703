"""Pipelines that do not ship with sdbench: their configs, and where their weights are on this machine."""

import re
from pathlib import Path

from pydantic import ValidationError

from sdbench.errors import UserError
from sdbench.schema.base import Model
from sdbench.schema.pipeline import PipelineConfig
from sdbench.store.files import make_folder, write_whole

_FOLDER = "pipelines"
_NOT_IN_NAMES = re.compile(r"[^\w.+-]+")
_NAME_CHARACTERS = 50


class UserPipeline(Model):
    """A pipeline of a user, as this machine remembers it; records get the configs only, never the path.

    ``weights_path`` is the folder in diffusers' layout or the checkpoint file that it came from, ``has_weights`` whether it
    holds weights.
    """

    config: PipelineConfig
    weights_path: str
    has_weights: bool


def register(pipeline: UserPipeline, cache_folder: Path) -> UserPipeline:
    """Remember a pipeline for the workers, and return it with its final name: NAME@HASH of its configs.

    Raises:
        EnvironmentProblem: the cache cannot be written.
    """
    name = _NOT_IN_NAMES.sub("-", pipeline.config.name)[:_NAME_CHARACTERS].strip("-") or "pipeline"
    config = pipeline.config.model_copy(update={"name": f"{name}@{pipeline.config.digest}"})
    named = pipeline.model_copy(update={"config": config})
    path = _path_of(config.name, cache_folder)
    make_folder(path.parent)
    write_whole(path, named.model_dump_json().encode())
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


def _path_of(name: str, cache_folder: Path) -> Path:
    return cache_folder / _FOLDER / f"{name}.json"
