"""What torch was built for, read from its files: importing torch takes seconds and hundreds of megabytes."""

import re
from importlib.metadata import PackageNotFoundError, distributions, version
from importlib.util import find_spec
from pathlib import Path

from sdbench.schema.base import Known, Reading, Unknown

NONE = "none"
_CUDA_LINE = re.compile(r"^cuda\b[^=\n]*=\s*(?:None|'(?P<single>[^']*)'|\"(?P<double>[^\"]*)\")", re.MULTILINE)


def find_torch_folder() -> Reading[Path]:
    """Return where torch is installed, or that it is not."""
    spec = find_spec("torch")
    if spec is None or spec.origin is None:
        return Unknown(reason="torch is not installed")
    return Known(value=Path(spec.origin).parent)


def read_torch_cuda(folder: Reading[Path] | None = None) -> Reading[str]:
    """Return the CUDA version torch was built for; ``none`` for a build without CUDA."""
    folder = find_torch_folder() if folder is None else folder
    if isinstance(folder, Unknown):
        return folder
    try:
        text = (folder.value / "version.py").read_text(encoding="utf-8")
    except OSError:
        return Unknown(reason="torch/version.py cannot be read")
    match = _CUDA_LINE.search(text)
    if match is None:
        return Unknown(reason="torch/version.py names no CUDA version")
    return Known(value=match["single"] or match["double"] or NONE)


def read_cudnn(torch_cuda: Reading[str]) -> Reading[str]:
    """Return the version of the cuDNN package beside torch; ``none`` where torch is built without CUDA."""
    if isinstance(torch_cuda, Unknown):
        return torch_cuda
    if torch_cuda.value == NONE:
        return torch_cuda
    name = f"nvidia-cudnn-cu{torch_cuda.value.split('.')[0]}"
    try:
        return Known(value=version(name))
    except PackageNotFoundError:
        return Unknown(reason=f"the package {name} is not installed: torch brings a cuDNN of its own")


def installed_versions() -> dict[str, Reading[str]]:
    """Return the version of every installed distribution by its normalised name."""
    found: dict[str, Reading[str]] = {}
    for distribution in distributions():
        name = distribution.metadata["Name"]
        if name:
            text = distribution.metadata["Version"]
            reading = Known(value=text) if text else Unknown(reason="its metadata names no version")
            found.setdefault(re.sub(r"[-_.]+", "-", name).lower(), reading)
    return found
