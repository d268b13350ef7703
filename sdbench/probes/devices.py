"""Choose the device of a run without importing torch."""

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from sdbench.errors import EnvironmentProblem, UserError
from sdbench.probes.gpu import NO_DRIVER_HINT, count_multiprocessors, has_nvidia_hardware
from sdbench.probes.hardware import read_cpu_name
from sdbench.probes.nvml import Nvml, open_nvml
from sdbench.probes.readings import value_or
from sdbench.probes.sysfs import ROOT, read_kib
from sdbench.probes.torch_build import NONE, read_torch_cuda
from sdbench.schema.base import Model, Reading, Unknown

_REQUEST = re.compile(r"auto|cpu|cuda(?::(?P<index>\d{1,4}))?")
_NOT_CUDA = Unknown(reason="the device is the CPU")


class Device(Model):
    """The device of a run.

    ``index`` is NVML's (order of the PCI bus), ``torch_name`` counts among the visible GPUs. The two agree only in a
    process that has the variables of ``worker_environment``.
    """

    kind: Literal["cpu", "cuda"]
    index: int | None
    name: str
    memory_total_bytes: Reading[int]
    compute_capability: Reading[str]
    multiprocessor_count: Reading[int]
    clock_max_sm_mhz: Reading[int]
    lock_key: str
    torch_name: str


def worker_environment(device: Device) -> dict[str, str]:
    """Return the variables a worker needs so that torch counts the GPUs as NVML does."""
    return {"CUDA_DEVICE_ORDER": "PCI_BUS_ID"} if device.kind == "cuda" else {}


def choose_device(
    request: str,
    *,
    nvml: Nvml | None = None,
    torch_cuda: Reading[str] | None = None,
    root: Path = ROOT,
    environ: Mapping[str, str] | None = None,
) -> Device:
    """Return the device for ``auto``, ``cpu``, ``cuda`` or ``cuda:N``; the keywords are for tests.

    ``auto`` is the first visible GPU where there is one and torch is built for CUDA, else the CPU.

    Raises:
        UserError: ``request`` is none of these.
        EnvironmentProblem: CUDA is requested but not available.
    """
    match = _REQUEST.fullmatch(request.strip().lower())
    if match is None:
        raise UserError(
            f"unknown device {request!r}; write auto, cpu, cuda or cuda:N, for example cuda:0; run takes cuda:all too"
        )
    if match.group() == "cpu":
        return _cpu(root)
    environ = os.environ if environ is None else environ
    nvml = open_nvml() if nvml is None else nvml
    torch_cuda = read_torch_cuda() if torch_cuda is None else torch_cuda
    try:
        return _cuda(nvml, torch_cuda, int(match["index"] or 0), root, environ)
    except EnvironmentProblem as problem:
        if match.group() == "auto":
            return _cpu(root)
        raise EnvironmentProblem(f"device {request!r} is not available: {problem}") from None


def list_cuda_devices() -> tuple[str, ...]:
    """Return what torch calls each visible GPU: ``cuda:0``, ``cuda:1``, ...

    Raises:
        EnvironmentProblem: CUDA is not available on this machine.
    """
    choose_device("cuda:0")
    nvml = open_nvml()
    visible = _visible_indices(nvml, value_or(nvml.device_count(), 1), os.environ.get("CUDA_VISIBLE_DEVICES"))
    return tuple(f"cuda:{index}" for index in range(len(visible)))


def _cpu(root: Path) -> Device:
    return Device(
        kind="cpu",
        index=None,
        name=read_cpu_name(root),
        memory_total_bytes=read_kib(root, "proc/meminfo", "MemTotal"),
        compute_capability=_NOT_CUDA,
        multiprocessor_count=_NOT_CUDA,
        clock_max_sm_mhz=_NOT_CUDA,
        lock_key="cpu",
        torch_name="cpu",
    )


def _cuda(nvml: Nvml, torch_cuda: Reading[str], torch_index: int, root: Path, environ: Mapping[str, str]) -> Device:
    """Return the GPU that torch calls ``torch_index``; the errors name only what was requested."""
    if nvml.missing:
        no_gpu = "this machine shows no NVIDIA GPU: use --device cpu"
        raise EnvironmentProblem(f"{nvml.missing}; {NO_DRIVER_HINT if has_nvidia_hardware(root) else no_gpu}")
    count = nvml.device_count()
    if isinstance(count, Unknown):
        raise EnvironmentProblem(f"{count.reason}; see 'nvidia-smi'")
    if isinstance(torch_cuda, Unknown) or torch_cuda.value == NONE:
        why = torch_cuda.reason if isinstance(torch_cuda, Unknown) else "the installed torch is built without CUDA"
        raise EnvironmentProblem(f"{why}; install the CUDA lock file, or use --device cpu")
    driver_cuda = value_or(nvml.cuda_version(), torch_cuda.value)
    if int(driver_cuda.partition(".")[0]) < int(torch_cuda.value.partition(".")[0]):
        # torch would find no device.
        raise EnvironmentProblem(
            f"torch is built for CUDA {torch_cuda.value}, "
            f"the driver is made for CUDA {driver_cuda}; update the driver, or use --device cpu"
        )
    visible = _visible_indices(nvml, count.value, environ.get("CUDA_VISIBLE_DEVICES"))
    if torch_index >= len(visible):
        raise EnvironmentProblem(_out_of_range(len(visible), count.value, environ))
    index = visible[torch_index]
    return Device(
        kind="cuda",
        index=index,
        name=value_or(nvml.name(index), f"NVIDIA GPU {index}"),
        memory_total_bytes=nvml.memory_total_bytes(index),
        compute_capability=nvml.compute_capability(index),
        multiprocessor_count=count_multiprocessors(nvml, index),
        clock_max_sm_mhz=nvml.clock_max_sm_mhz(index),
        # Never stored: the lock's file name is its hash. Not salted, so that all users of the machine share the lock.
        lock_key=value_or(nvml.uuid(index), f"cuda-{index}"),
        torch_name=f"cuda:{torch_index}",
    )


def _out_of_range(visible_count: int, count: int, environ: Mapping[str, str]) -> str:
    if visible_count == count:
        if count == 0:
            return "the driver shows no GPU; see 'nvidia-smi', or use --device cpu"
        return f"there are {count} GPUs, so use cuda:0 to cuda:{count - 1}"
    variable = f"CUDA_VISIBLE_DEVICES={environ.get('CUDA_VISIBLE_DEVICES', '')!r}"
    return f"{variable} shows {visible_count} of {count} GPUs; change or unset it"


def _visible_indices(nvml: Nvml, count: int, variable: str | None) -> list[int]:
    """Return NVML's indices in the order CUDA shows them; an entry CUDA cannot resolve ends the list."""
    if variable is None:
        return list(range(count))
    uuids = [value_or(nvml.uuid(index), "") for index in range(count)]
    visible: list[int] = []
    for entry in (part.strip() for part in variable.split(",")):
        if entry.isdecimal():
            matches = [int(entry)] if int(entry) < count else []
        else:
            matches = [index for index in range(count) if entry.startswith("GPU-") and uuids[index].startswith(entry)]
        if len(matches) != 1 or matches[0] in visible:
            break
        visible += matches
    return visible
