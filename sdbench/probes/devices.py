"""Choose the device of a run without importing torch."""

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from sdbench.errors import EnvironmentProblem, UserError
from sdbench.probes.gpu import count_multiprocessors, has_nvidia_gpu
from sdbench.probes.gpu_checks import Finding, check_gpu, check_system
from sdbench.probes.hardware import read_cpu_name
from sdbench.probes.nvml import Nvml, is_slice, open_nvml
from sdbench.probes.nvml_library import Address
from sdbench.probes.readings import value_or
from sdbench.probes.sysfs import ROOT, read_kib
from sdbench.probes.torch_build import read_torch_cuda
from sdbench.probes.visible_gpus import VISIBLE_DEVICES, VisibleGpu, list_visible_gpus
from sdbench.schema.base import Model, Reading, Unknown

_REQUEST = re.compile(r"auto|cpu|cuda(?::(?P<index>\d{1,4}))?")
_NOT_CUDA = Unknown(reason="the device is the CPU")


class Device(Model):
    """The device of a run.

    ``index`` is NVML's (order of the PCI bus; a MIG slice has none), ``torch_name`` counts among the visible GPUs. In a
    process with the variables of ``worker_environment`` it is the only one, ``worker_name``. The UUID is used in this
    process and is in the worker's variables, and is never stored or printed. ``choice`` is why this GPU was taken of
    several, ``warnings`` what makes its results less steady.
    """

    kind: Literal["cpu", "cuda"]
    index: int | None
    uuid: str | None
    name: str
    memory_total_bytes: Reading[int]
    compute_capability: Reading[str]
    multiprocessor_count: Reading[int]
    clock_max_sm_mhz: Reading[int]
    lock_key: str
    torch_name: str
    choice: str
    warnings: tuple[str, ...]

    @property
    def address(self) -> Address | None:
        """What NVML is asked by; None for the CPU."""
        return self.index if self.uuid is None else self.uuid

    @property
    def worker_name(self) -> str:
        """What the worker's torch calls the device."""
        return "cuda:0" if self.kind == "cuda" else self.torch_name

    @property
    def description(self) -> str:
        """The device for people, as ``cuda:1 (NVIDIA GeForce RTX 4090)``."""
        return f"{self.torch_name} ({self.name}){self.choice and f', {self.choice}'}"


def worker_environment(device: Device) -> dict[str, str]:
    """Return the variables with which a worker sees the device alone."""
    if device.address is None:
        return {}
    return {"CUDA_DEVICE_ORDER": "PCI_BUS_ID", VISIBLE_DEVICES: str(device.address)}


def check_card(device: Device, torch: Any) -> None:
    """Check in a worker that ``torch``, the module, computes on the GPU that NVML is asked about.

    Raises:
        EnvironmentProblem: it is another one.
    """
    # Since torch 2.4, without the prefix. CUDA gives the slice's or the card's for a MIG slice, by its version.
    uuid = getattr(torch.cuda.get_device_properties(device.worker_name), "uuid", None)
    if device.uuid is None or uuid is None:
        return
    known = {device.uuid, value_or(open_nvml().card(device.uuid), "") if is_slice(device.uuid) else ""}
    if str(uuid).lower() not in {text.partition("-")[2].lower() for text in known}:
        raise EnvironmentProblem(
            f"torch computes on another GPU than the chosen {device.name}; do not set CUDA_VISIBLE_DEVICES for an arm"
        )


def choose_device(
    request: str,
    *,
    nvml: Nvml | None = None,
    torch_cuda: Reading[str] | None = None,
    root: Path = ROOT,
    environ: Mapping[str, str] | None = None,
) -> Device:
    """Return the device for ``auto``, ``cpu``, ``cuda`` or ``cuda:N``; the keywords are for tests.

    ``auto`` is the CPU where there is no NVIDIA GPU, else the same as ``cuda``: of the visible GPUs that can be used
    the one with most memory, then with most multiprocessors.

    Raises:
        UserError: ``request`` is none of these.
        EnvironmentProblem: CUDA is requested but not available, or ``auto`` is and the GPU that is here cannot be used.
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
    is_auto, number = match.group() == "auto", match["index"]
    if not has_nvidia_gpu(nvml, root):
        if is_auto:
            return _cpu(root)
        why = nvml.missing or "the driver shows none"
        raise EnvironmentProblem(
            f"device {request!r} is not available: this machine shows no NVIDIA GPU ({why}); use --device cpu"
        )
    try:
        return _cuda(nvml, torch_cuda, None if number is None else int(number), root, environ)
    except EnvironmentProblem as problem:
        subject = "the NVIDIA GPU of this machine cannot be used" if is_auto else f"device {request!r} is not available"
        raise EnvironmentProblem(f"{subject}: {problem}") from None


def list_cuda_devices() -> tuple[str, ...]:
    """Return what torch calls each visible GPU: ``cuda:0``, ``cuda:1``, ...

    Raises:
        EnvironmentProblem: CUDA is not available on this machine.
    """
    choose_device("cuda:0")
    return tuple(f"cuda:{number}" for number in range(len(list_visible_gpus(open_nvml(), os.environ))))


def _cpu(root: Path) -> Device:
    return Device(
        kind="cpu",
        index=None,
        uuid=None,
        name=read_cpu_name(root),
        memory_total_bytes=read_kib(root, "proc/meminfo", "MemTotal"),
        compute_capability=_NOT_CUDA,
        multiprocessor_count=_NOT_CUDA,
        clock_max_sm_mhz=_NOT_CUDA,
        lock_key="cpu",
        torch_name="cpu",
        choice="",
        warnings=(),
    )


def _cuda(nvml: Nvml, torch_cuda: Reading[str], number: int | None, root: Path, environ: Mapping[str, str]) -> Device:
    """Return the visible GPU of a number, or the largest that can be used; the errors name only what was requested."""
    _refuse_what_prevents(check_system(nvml, torch_cuda, environ, root))
    gpus = list_visible_gpus(nvml, environ)
    if not gpus or (number or 0) >= len(gpus):
        raise EnvironmentProblem(_out_of_range(nvml, environ, len(gpus)))
    chosen = _find_largest(nvml, gpus, torch_cuda) if number is None else number
    gpu = gpus[chosen]
    findings = tuple(check_gpu(nvml, gpu, torch_cuda))
    _refuse_what_prevents(findings)
    several = number is None and len(gpus) > 1
    return Device(
        kind="cuda",
        index=gpu.index,
        uuid=gpu.uuid,
        name=value_or(nvml.name(gpu.address), f"NVIDIA GPU {chosen}"),
        memory_total_bytes=nvml.memory_total_bytes(gpu.address),
        compute_capability=nvml.compute_capability(gpu.address),
        multiprocessor_count=count_multiprocessors(nvml, gpu.address),
        clock_max_sm_mhz=nvml.clock_max_sm_mhz(gpu.address),
        # Never stored: the lock's file name is its hash. Not salted, so that all users of the machine share the lock.
        lock_key=gpu.uuid or f"cuda-{gpu.index}",
        torch_name=f"cuda:{chosen}",
        choice=f"the largest usable of {len(gpus)} GPUs" if several else "",
        warnings=tuple(f"{item.name} is {item.value}; {item.hint}" for item in findings if item.hint),
    )


def _refuse_what_prevents(findings: Iterable[Finding]) -> None:
    for finding in findings:
        if finding.prevents:
            raise EnvironmentProblem(
                f"{finding.name}: {finding.value.rstrip('.')}; {finding.hint}; --device cpu measures the CPU"
            )


def _find_largest(nvml: Nvml, gpus: Sequence[VisibleGpu], torch_cuda: Reading[str]) -> int:
    """Return the number of the GPU with most memory, then most multiprocessors; usable ones go first."""

    def size(number: int) -> tuple[bool, int, int]:
        gpu = gpus[number]
        usable = not any(finding.prevents for finding in check_gpu(nvml, gpu, torch_cuda))
        memory_bytes, count = nvml.memory_total_bytes(gpu.address), count_multiprocessors(nvml, gpu.address)
        return usable, value_or(memory_bytes, 0), value_or(count, 0)

    return max(range(len(gpus)), key=size)


def _out_of_range(nvml: Nvml, environ: Mapping[str, str], visible_count: int) -> str:
    variable, count = environ.get(VISIBLE_DEVICES), value_or(nvml.device_count(), 0)
    for entry in (variable or "").split(","):
        if is_slice(entry.strip()) and isinstance(uuid := nvml.uuid(entry.strip()), Unknown):
            return (
                f"{VISIBLE_DEVICES} names a MIG slice that NVML does not show here ({uuid.reason}); pass the slice to "
                "the container, or name one of 'nvidia-smi -L'; --device cpu measures the CPU"
            )
    if variable is not None and visible_count < count:
        return f"{VISIBLE_DEVICES}={variable!r} shows {visible_count} of {count} GPUs; change or unset it"
    if visible_count == 1:
        return "there is one GPU, so use cuda:0"
    return f"there are {visible_count} GPUs, so use cuda:0 to cuda:{visible_count - 1}"
