"""The folder for downloaded, exported and drawn weights, and how much of it the drawn ones may take."""

import os
import re
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from sdbench.errors import EnvironmentProblem, SdbenchError, UserError
from sdbench.store.files import write_whole

# The synthetic weights of the pipelines in models.yaml take 55 GiB, in the precisions that it asks for.
_WEIGHTS_GIB = "64"
_LIMIT_VARIABLE = "SDBENCH_CACHE_GIB"
_GIB = 2**30
# What is in the cache folder.
WEIGHTS_FOLDER = "weights"
EXPORTS_FOLDER = "onnx"
WEIGHTS_SUFFIX = ".safetensors"


def cache_folder(environ: Mapping[str, str] = os.environ) -> Path:
    """Return where weights are kept: $SDBENCH_CACHE, else the user's cache folder."""
    if folder := environ.get("SDBENCH_CACHE"):
        return Path(folder)
    return Path(environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "sdbench"


def write_cached(path: Path, content: bytes) -> None:
    """Write a file of the cache, whole.

    Raises:
        EnvironmentProblem: it cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, content)
    except (OSError, SdbenchError):
        raise EnvironmentProblem(
            f"cannot write {path}; set SDBENCH_CACHE to a folder that can be written, or free some space"
        ) from None


def weights_limit_bytes(environ: Mapping[str, str] = os.environ) -> int:
    """Return how much (bytes) the drawn weights may take together: $SDBENCH_CACHE_GIB, else 64 GiB; 0 keeps none.

    Raises:
        UserError: the variable is not a number of GiB.
    """
    text = environ.get(_LIMIT_VARIABLE) or _WEIGHTS_GIB
    if not re.fullmatch(r"\d{1,6}(\.\d+)?", text):
        raise UserError(f"invalid {_LIMIT_VARIABLE} {text!r}: expected a number of GiB, such as {_WEIGHTS_GIB} or 0")
    return int(float(text) * _GIB)


def list_weights(folder: Path) -> list[tuple[Path, os.stat_result]]:
    """Return the files of kept weights in a cache folder, the least recently used first."""
    files = []
    for path in (folder / WEIGHTS_FOLDER).glob(f"[!.]*{WEIGHTS_SUFFIX}"):
        with suppress(FileNotFoundError):  # another process has dropped it
            files.append((path, path.stat()))
    return sorted(files, key=lambda file: file[1].st_mtime_ns)


def measure_weights(folder: Path) -> int:
    """Return the size (bytes) of all weights that a cache folder keeps."""
    return sum(status.st_size for _, status in list_weights(folder))


def nearest_folder(folder: Path) -> Path:
    """Return the folder itself, or the nearest one above it that exists."""
    return next(path for path in (folder, *folder.absolute().parents) if path.exists())
