"""What a GPU is, how it is set up, and who else is on it."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple, TypeVar

from sdbench.probes.identity import hash_uuid
from sdbench.probes.numa import read_gpu_node
from sdbench.probes.nvml import Nvml
from sdbench.probes.readings import ReadingFailed, as_reading, value_of, value_or
from sdbench.probes.sysfs import ROOT, list_names, read_text
from sdbench.schema.base import Reading, Unknown
from sdbench.schema.fingerprint import GpuConfiguration, GpuIdentity

T = TypeVar("T")

_NVIDIA_VENDOR = "0x10de"
_DISPLAY_CLASS_PREFIX = "0x03"

# include/linux/proc_ns.h: PROC_PID_INIT_INO, the inode of the host's own process namespace.
_HOST_PID_NAMESPACE = "pid:[4026531836]"
NO_DRIVER_HINT = "install the NVIDIA driver, or in a container pass the GPU through (docker run --gpus all)"
_OTHERS_INVISIBLE = "processes of others cannot be seen from this process namespace (a container's without --pid=host)"
_FOREIGN_NAMESPACE = "process ids on the GPU are the host's, and this is a container's process namespace"

_SECOND_US = 1_000_000
# Of the SMs, on average: less than the smallest difference that a comparison resolves. Compositors draw with less.
COMPUTING_RATIO = 0.01

# CUDA C++ Programming Guide, throughput of native arithmetic instructions (32-bit floating-point add per clock and
# multiprocessor): NVML counts cores, not multiprocessors.
_CORES_PER_MULTIPROCESSOR = {
    "5.0": 128, "5.2": 128, "6.0": 64, "6.1": 128, "7.0": 64, "7.5": 64, "8.0": 64, "8.6": 128, "8.9": 128, "9.0": 128,
    "10.0": 128, "10.3": 128, "12.0": 128, "12.1": 128,
}  # fmt: skip


@as_reading
def read_gpus(nvml: Nvml, read: Callable[[Nvml, int], T], root: Path = ROOT) -> tuple[T, ...]:
    """Return what ``read`` gives for each GPU; none is known only where neither driver nor PCI bus shows one."""
    if not nvml.missing:
        return tuple(read(nvml, index) for index in range(value_of(nvml.device_count())))
    if has_nvidia_hardware(root):
        raise ReadingFailed(f"an NVIDIA GPU is in the machine, but its driver does not answer: {nvml.missing}")
    return ()


def has_nvidia_hardware(root: Path = ROOT) -> bool:
    """Return whether the PCI bus or /dev shows an NVIDIA GPU, driver or not."""
    if (root / "dev/nvidiactl").exists() or (root / "dev/nvidia0").exists():
        return True
    folder = "sys/bus/pci/devices"
    return any(_is_nvidia_gpu(root, f"{folder}/{name}") for name in value_or(list_names(root, folder), ()))


def _is_nvidia_gpu(root: Path, folder: str) -> bool:
    vendor, kind = (value_or(read_text(root, f"{folder}/{name}"), "") for name in ("vendor", "class"))
    return vendor == _NVIDIA_VENDOR and kind.startswith(_DISPLAY_CLASS_PREFIX)


def read_gpu_identity(nvml: Nvml, index: int, salt: Reading[bytes]) -> GpuIdentity:
    """Return what the GPU is; its UUID only as an HMAC under ``salt``."""
    return GpuIdentity(
        index=index,
        name=nvml.name(index),
        memory_total_bytes=nvml.memory_total_bytes(index),
        compute_capability=nvml.compute_capability(index),
        pci_device_id=nvml.pci_device_id(index),
        multiprocessor_count=_multiprocessor_count(nvml, index),
        uuid_hmac=hash_uuid(nvml.uuid(index), salt),
    )


@as_reading
def _multiprocessor_count(nvml: Nvml, index: int) -> int:
    cores, capability = value_of(nvml.core_count(index)), value_of(nvml.compute_capability(index))
    per_multiprocessor = _CORES_PER_MULTIPROCESSOR.get(capability)
    if per_multiprocessor is None or cores % per_multiprocessor:
        raise ReadingFailed(f"cores per multiprocessor of compute capability {capability} are not known here")
    return cores // per_multiprocessor


def read_gpu_configuration(nvml: Nvml, index: int, root: Path = ROOT) -> GpuConfiguration:
    """Return how the GPU is set up: each field is the query of its name, but for its place."""
    queries = GpuConfiguration.model_fields.keys() - {"index", "numa_node"}
    fields = {name: getattr(nvml, name)(index) for name in queries}
    return GpuConfiguration(index=index, numa_node=read_gpu_node(nvml.pci_address(index), root), **fields)


class GpuUser(NamedTuple):
    """A process on a GPU: its memory (bytes), and the share of the SMs (0 to 1) that it computed on."""

    memory_bytes: Reading[int]
    sm_ratio: float


@as_reading
def read_gpu_users(nvml: Nvml, index: int, root: Path = ROOT) -> dict[int, GpuUser]:
    """Return the processes on the GPU by their ids, and what each did in the last second.

    From inside a process namespace that is not the host's, NVML shows no process outside it.
    """
    if not is_host_pid_namespace(root):
        raise ReadingFailed(_OTHERS_INVISIBLE)
    memory = value_of(nvml.processes(index))
    ratios = value_of(nvml.sm_ratios(index, time.time_ns() // 1000 - _SECOND_US))
    unlisted = Unknown(reason="NVML does not list this process")
    return {pid: GpuUser(memory.get(pid, unlisted), ratios.get(pid, 0.0)) for pid in memory | ratios}


@as_reading
def count_foreign_processes(nvml: Nvml, index: int, own_pids: frozenset[int], root: Path = ROOT) -> int:
    """Return how many processes other than ``own_pids`` compute on the GPU; a display server, which draws, does not."""
    users = value_of(read_gpu_users(nvml, index, root))
    return sum(user.sm_ratio > COMPUTING_RATIO for pid, user in users.items() if pid not in own_pids)


@as_reading
def read_process_memory(nvml: Nvml, index: int, pid: int, root: Path = ROOT) -> int:
    """Return the GPU memory of one process (bytes), contexts and libraries included."""
    processes = value_of(nvml.processes(index))
    if not is_host_pid_namespace(root):
        raise ReadingFailed(_FOREIGN_NAMESPACE)
    if pid not in processes:
        raise ReadingFailed("NVML does not list this process on the GPU")
    return value_of(processes[pid])


def is_host_pid_namespace(root: Path = ROOT) -> bool:
    """Return whether process ids here are the host's."""
    try:
        return str((root / "proc/self/ns/pid").readlink()) == _HOST_PID_NAMESPACE
    except OSError:
        return False
