"""Which device a run is for, found without importing torch."""

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from sdbench.errors import EnvironmentProblem, UserError
from sdbench.probes.files import ROOT, read_kib, read_text
from sdbench.probes.gpu import has_nvidia_hardware
from sdbench.probes.hardware import read_cpu_name
from sdbench.probes.nvml import Nvml, open_nvml
from sdbench.probes.torch_build import NONE, read_torch_cuda
from sdbench.schema.base import Known, Model, Reading, Unknown

_REQUEST = re.compile(r"auto|cpu|cuda(?::(?P<index>\d{1,4}))?")


class Device(Model):
    """The device of a run.

    ``index`` is NVML's (order of the PCI bus), ``torch_name`` counts among the visible GPUs. The two agree only in a
    process that has the variables of ``worker_environment``.
    """

    kind: Literal["cpu", "cuda"]
    index: int | None
    name: str
    memory_total_bytes: Reading[int]
    lock_key: str
    torch_name: str


def worker_environment(device: Device) -> dict[str, str]:
    """Return the variables a worker needs so that torch counts the GPUs as NVML does."""
    return {"CUDA_DEVICE_ORDER": "PCI_BUS_ID"} if device.kind == "cuda" else {}


def choose_device(
    request: str,
    *,
    nvml: Nvml | Unknown | None = None,
    torch_cuda: Reading[str] | None = None,
    root: Path = ROOT,
    environ: Mapping[str, str] | None = None,
) -> Device:
    """Return the device for ``auto``, ``cpu``, ``cuda`` or ``cuda:N``; the keywords are for tests.

    ``auto`` is the first visible GPU where there is one and torch is built for CUDA, else the CPU.

    Raises:
        UserError: ``request`` is none of these.
        EnvironmentProblem: CUDA is asked for and this machine cannot give it.
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
        raise EnvironmentProblem(f"device {request!r} is not to be had: {problem}") from None


def list_cuda_devices() -> tuple[str, ...]:
    """Return what torch calls each visible GPU: ``cuda:0``, ``cuda:1``, ...

    Raises:
        EnvironmentProblem: CUDA is not to be had on this machine.
    """
    first = choose_device("cuda:0")
    nvml = open_nvml()
    count = Unknown(reason=nvml.reason) if isinstance(nvml, Unknown) else nvml.device_count()
    if isinstance(nvml, Unknown) or isinstance(count, Unknown):
        return (first.torch_name,)
    visible = _visible_indices(nvml, count.value, os.environ.get("CUDA_VISIBLE_DEVICES"))
    return tuple(f"cuda:{index}" for index in range(len(visible)))


def _cpu(root: Path) -> Device:
    return Device(
        kind="cpu",
        index=None,
        name=read_cpu_name(root),
        memory_total_bytes=read_kib(read_text(root, "proc/meminfo"), "MemTotal", "proc/meminfo"),
        lock_key="cpu",
        torch_name="cpu",
    )


def _cuda(
    nvml: Nvml | Unknown, torch_cuda: Reading[str], torch_index: int, root: Path, environ: Mapping[str, str]
) -> Device:
    """Return the GPU that torch calls ``torch_index``; the errors lack only what was asked for."""
    if isinstance(nvml, Unknown):
        raise EnvironmentProblem(_no_driver(nvml.reason, root))
    count = nvml.device_count()
    if isinstance(count, Unknown):
        raise EnvironmentProblem(f"{count.reason}; see 'nvidia-smi'")
    if isinstance(torch_cuda, Unknown) or torch_cuda.value == NONE:
        why = torch_cuda.reason if isinstance(torch_cuda, Unknown) else "the installed torch is built without CUDA"
        raise EnvironmentProblem(f"{why}; install the CUDA lock file, or use --device cpu")
    _refuse_old_driver(nvml.cuda_version(), torch_cuda.value)
    visible = _visible_indices(nvml, count.value, environ.get("CUDA_VISIBLE_DEVICES"))
    if torch_index >= len(visible):
        raise EnvironmentProblem(_out_of_range(len(visible), count.value, environ))
    return _gpu(visible[torch_index], torch_index, nvml)


def _refuse_old_driver(driver_cuda: Reading[str], torch_cuda: str) -> None:
    """Refuse a driver whose CUDA is of an older major version than torch's: torch would find no device."""
    if isinstance(driver_cuda, Known) and _major(driver_cuda.value) < _major(torch_cuda):
        raise EnvironmentProblem(
            f"torch is built for CUDA {torch_cuda}, "
            f"the driver is made for CUDA {driver_cuda.value}; update the driver, or use --device cpu"
        )


def _major(version: str) -> int:
    return int(version.partition(".")[0])


def _gpu(index: int, torch_index: int, nvml: Nvml) -> Device:
    memory, name = nvml.memory(index), nvml.name(index)
    uuid = nvml.uuid(index)
    return Device(
        kind="cuda",
        index=index,
        name=f"NVIDIA GPU {index}" if isinstance(name, Unknown) else name.value,
        memory_total_bytes=memory if isinstance(memory, Unknown) else Known(value=memory.value.total_bytes),
        # Never stored: the lock's file name is its hash. Not salted, so that all users of the machine share the lock.
        lock_key=f"cuda-{index}" if isinstance(uuid, Unknown) else uuid.value,
        torch_name=f"cuda:{torch_index}",
    )


def _no_driver(reason: str, root: Path) -> str:
    if has_nvidia_hardware(root):
        remedy = "install the NVIDIA driver, or in a container pass the GPU through (docker run --gpus all)"
    else:
        remedy = "this machine shows no NVIDIA GPU: use --device cpu"
    return f"{reason}; {remedy}"


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
    uuids = {index: nvml.uuid(index) for index in range(count)}
    visible: list[int] = []
    for entry in (part.strip() for part in variable.split(",")):
        if entry.isdecimal():
            matches = [int(entry)] if int(entry) < count else []
        else:
            known = {index: uuid.value for index, uuid in uuids.items() if isinstance(uuid, Known)}
            matches = [index for index, uuid in known.items() if entry.startswith("GPU-") and uuid.startswith(entry)]
        if len(matches) != 1 or matches[0] in visible:
            break
        visible += matches
    return visible
