"""What torch was built for, read from its files: importing torch takes seconds and hundreds of megabytes."""

import re
from importlib.metadata import PackageNotFoundError, distributions, version
from importlib.util import find_spec
from pathlib import Path

from sdbench.probes.readings import ReadingFailed, as_reading, value_of
from sdbench.schema.base import Known, Reading, Unknown

NONE = "none"
_CUDA_LINE = re.compile(r"^cuda\b[^=\n]*=\s*(?:None|'(?P<single>[^']*)'|\"(?P<double>[^\"]*)\")", re.MULTILINE)


@as_reading
def read_torch_cuda(folder: Path | None = None) -> str:
    """Return the CUDA version torch was built for; ``none`` for a build without CUDA."""
    if folder is None:
        spec = find_spec("torch")
        if spec is None or spec.origin is None:
            raise ReadingFailed("torch is not installed")
        folder = Path(spec.origin).parent
    try:
        match = _CUDA_LINE.search((folder / "version.py").read_text(encoding="utf-8"))
    except OSError:
        raise ReadingFailed("torch/version.py cannot be read") from None
    if match is None:
        raise ReadingFailed("torch/version.py names no CUDA version")
    return match["single"] or match["double"] or NONE


@as_reading
def read_cudnn(torch_cuda: Reading[str]) -> str:
    """Return the version of the cuDNN package next to torch; ``none`` where torch is built without CUDA."""
    cuda = value_of(torch_cuda)
    name = f"nvidia-cudnn-cu{cuda.split('.')[0]}"
    try:
        return NONE if cuda == NONE else version(name)
    except PackageNotFoundError:
        raise ReadingFailed(f"the package {name} is not installed: torch brings a cuDNN of its own") from None


def installed_versions() -> dict[str, Reading[str]]:
    """Return the version of every installed distribution by its normalised name."""
    versions: dict[str, Reading[str]] = {}
    for distribution in distributions():
        if name := distribution.metadata["Name"]:
            text = distribution.metadata["Version"]
            reading = Known(value=text) if text else Unknown(reason="its metadata names no version")
            versions.setdefault(re.sub(r"[-_.]+", "-", name).lower(), reading)
    return versions
