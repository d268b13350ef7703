"""What runs: system, driver, libraries and the sdbench that measured."""

import ctypes
import os
import platform
import re
import subprocess
from collections.abc import Callable, Collection, Mapping
from pathlib import Path

import sdbench
from sdbench.privacy import Redactor, is_secret_name
from sdbench.probes.configuration import read_container
from sdbench.probes.container_host import read_container_engine, read_image_digest, read_image_id
from sdbench.probes.gpu import has_nvidia_gpu
from sdbench.probes.nvml import Nvml
from sdbench.probes.readings import ReadingFailed, as_reading, value_of
from sdbench.probes.sysfs import ROOT, read_text
from sdbench.probes.torch_build import NONE, installed_versions, read_cudnn, read_torch_cuda
from sdbench.schema.base import Known, Reading, Unknown
from sdbench.schema.fingerprint import EnvironmentVariable, Package, Software

_PACKAGES = re.compile(
    r"torch|torchvision|triton|diffusers|transformers|tokenizers|huggingface-hub|safetensors|accelerate|xformers"
    r"|onnx|onnxruntime(-gpu|-openvino)?|openvino|tensorrt.*|numpy|scipy|pillow|pydantic|open-clip-torch|nvidia-.*"
    r"|intel-openmp|mkl|tbb|flash-attn|torchao|bitsandbytes"
)

_VARIABLES = re.compile(
    r"(OMP|MKL|KMP|GOMP|OPENBLAS|BLIS|VECLIB|NUMEXPR|CUDA|NVIDIA|CUBLAS|CUBLASLT|CUDNN|CUSPARSE|NCCL|PYTORCH|TORCH"
    r"|TORCHINDUCTOR|TORCHDYNAMO|TRITON|ATEN|MALLOC|TCMALLOC|JEMALLOC|ONEDNN|DNNL|ORT|OV|XFORMERS|TF32|LIBOMP|GLIBC)_.*"
    r"|LD_PRELOAD|LD_LIBRARY_PATH|LD_BIND_NOW|PYTHONMALLOC|PYTHONOPTIMIZE|PYTHONDEVMODE|PYTHON_JIT"
)
# These choose the GPU, which is in the hardware: a worker sees only that one, whatever they say.
_CHOICE_OF_GPU = ("CUDA_VISIBLE_DEVICES", "CUDA_DEVICE_ORDER", "NVIDIA_VISIBLE_DEVICES")

_COMMIT = re.compile(r"(?P<commit>[0-9a-f]{7,64})(?P<dirty>-dirty)?")
_LIBCUDA_PLACES = (
    "usr/lib/x86_64-linux-gnu/libcuda.so.*",
    "usr/lib64/libcuda.so.*",
    "usr/lib/wsl/lib/libcuda.so.*",
    "usr/local/cuda*/compat/libcuda.so.*",
    "usr/local/nvidia/lib64/libcuda.so.*",
)
_DRIVER_VERSION = r"\d+\.\d+(?:\.\d+)?"
_GIT_TIMEOUT_S = 10


def read_software(
    nvml: Nvml, redactor: Redactor, environ: Mapping[str, str], root: Path = ROOT, named: Collection[str] = ()
) -> Software:
    """Return what runs; paths and names of the user are taken out of the variables.

    Packages that are ``named`` are listed in addition to those that are known to affect speed.
    """
    torch_cuda = read_torch_cuda()
    commit, dirty = read_own_commit(environ)
    container = read_container(environ, root)
    return Software(
        os_name=_search(
            r'^PRETTY_NAME="?([^"\n]+)"?$', read_text(root, "etc/os-release"), "/etc/os-release: no PRETTY_NAME"
        ),
        kernel=_redacted(read_text(root, "proc/sys/kernel/osrelease"), redactor),
        libc=_libc(),
        python=Known(value=f"{platform.python_implementation()} {platform.python_version()}"),
        packages=Known(
            value=tuple(
                Package(name=name, version=_redacted(version, redactor))
                for name, version in sorted(installed_versions().items())
                if _PACKAGES.fullmatch(name) or name in named
            )
        ),
        gpu_kernel_driver=_kernel_driver(nvml, root),
        gpu_kernel_module=_kernel_module(nvml, root),
        gpu_libcuda=read_libcuda(root),
        gpu_libcuda_found=find_libcudas(root),
        gpu_driver_cuda=_driver_cuda(nvml, root),
        torch_cuda=torch_cuda,
        cudnn=read_cudnn(torch_cuda),
        image_digest=read_image_digest(environ, container),
        image_id=read_image_id(environ, container),
        container_engine=read_container_engine(environ, container),
        environment=Known(value=read_environment(environ, redactor)),
        sdbench_version=Known(value=sdbench.__version__),
        sdbench_commit=commit,
        sdbench_dirty=dirty,
    )


@as_reading
def _redacted(reading: Reading[str], redactor: Redactor) -> str:
    """Return a text that whoever built a kernel or a package chose, without the names of this machine."""
    return redactor.redact(value_of(reading))


@as_reading
def _search(pattern: str, text: Reading[str], missing: str) -> str:
    """Return the first group of a pattern in a text that was read; unknown as ``missing`` where it is not there."""
    match = re.search(pattern, value_of(text), re.MULTILINE)
    if match is None:
        raise ReadingFailed(missing)
    return match[1]


@as_reading
def _libc() -> str:
    name = " ".join(platform.libc_ver()).strip()
    if not name:
        raise ReadingFailed("the C library is not glibc and reports no version")
    return name


@as_reading
def _kernel_driver(nvml: Nvml, root: Path) -> str:
    """Return the version of the loaded kernel module; ``none`` where the machine has no NVIDIA GPU either."""
    text = read_text(root, "proc/driver/nvidia/version")
    if isinstance(text, Known):
        pattern = rf"Kernel Module.*?\s({_DRIVER_VERSION})\s"
        return value_of(_search(pattern, text, "/proc/driver/nvidia/version names no version"))
    if not nvml.missing:
        return value_of(nvml.driver_version())
    return value_of(text) if has_nvidia_gpu(nvml, root) else NONE


@as_reading
def _kernel_module(nvml: Nvml, root: Path) -> str:
    """Return ``open`` or ``proprietary``; ``none`` where the machine has no NVIDIA GPU."""
    if not has_nvidia_gpu(nvml, root):
        return NONE
    return "open" if "Open Kernel Module" in value_of(read_text(root, "proc/driver/nvidia/version")) else "proprietary"


@as_reading
def _driver_cuda(nvml: Nvml, root: Path) -> str:
    return value_of(nvml.cuda_version()) if has_nvidia_gpu(nvml, root) else NONE


@as_reading
def read_libcuda(root: Path = ROOT, load: Callable[[str], object] = ctypes.CDLL) -> str:
    """Return the version of the user-mode driver, from the name of the file the loader really takes.

    It can differ from the kernel driver: a compatibility package, or a container that brings its own.
    """
    try:
        # Mapped, not initialised: this makes no context.
        load("libcuda.so.1")
    except OSError:
        return NONE
    pattern = rf"/libcuda\.so\.({_DRIVER_VERSION})$"
    return value_of(_search(pattern, read_text(root, "proc/self/maps"), "the file name of libcuda has no version"))


def find_libcudas(root: Path = ROOT) -> Reading[tuple[str, ...]]:
    """Return the versions of all libcuda files where loaders and compatibility packages look, each once, sorted."""
    files = (file for pattern in _LIBCUDA_PLACES for file in root.glob(pattern))
    versions = {match[1] for file in files if (match := re.fullmatch(rf"libcuda\.so\.({_DRIVER_VERSION})", file.name))}
    return Known(value=tuple(sorted(versions, key=lambda text: [int(part) for part in text.split(".")])))


def read_environment(environ: Mapping[str, str], redactor: Redactor) -> tuple[EnvironmentVariable, ...]:
    """Return the set variables that affect speed, redacted and sorted by name; never one that holds a secret."""
    names = sorted(
        name
        for name in environ
        if _VARIABLES.fullmatch(name) and not is_secret_name(name) and name not in _CHOICE_OF_GPU
    )
    return tuple(EnvironmentVariable(name=name, value=redactor.redact(environ[name])) for name in names)


def read_own_commit(
    environ: Mapping[str, str], folder: Path = Path(sdbench.__file__).parent
) -> tuple[Reading[str], Reading[bool]]:
    """Return the commit of sdbench and whether its code differs from it.

    From git where sdbench runs from a checkout, else from SDBENCH_COMMIT (``-dirty`` at its end marks a changed one).
    """
    # A virtual environment inside somebody's repository is not a checkout of sdbench: git must know the file itself.
    if _git(folder, "ls-files", "--error-unmatch", "--", "__init__.py") is not None:
        commit, status = _git(folder, "rev-parse", "HEAD"), _git(folder, "status", "--porcelain", "--", ".")
        if commit is not None and status is not None:
            return Known(value=commit.strip()), Known(value=bool(status.strip()))
    if match := _COMMIT.fullmatch(environ.get("SDBENCH_COMMIT", "")):
        return Known(value=match["commit"]), Known(value=match["dirty"] is not None)
    unknown = Unknown(reason="sdbench does not run from a git checkout, and SDBENCH_COMMIT names no commit")
    return unknown, unknown


def _git(folder: Path, *arguments: str) -> str | None:
    """Return git's output, or None where git is missing or refuses."""
    # Reading must not take the index lock: somebody may be committing.
    environ = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    environ["GIT_OPTIONAL_LOCKS"] = "0"
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), *arguments], capture_output=True, text=True, timeout=_GIT_TIMEOUT_S, env=environ
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.returncode == 0 else None
