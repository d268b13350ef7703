"""What a GPU is, how it is set up, and who else is on it."""

import re
import time
from pathlib import Path
from typing import NamedTuple

from sdbench.probes.identity import hash_uuid
from sdbench.probes.numa import read_gpu_node
from sdbench.probes.nvml import Nvml, is_slice
from sdbench.probes.nvml_library import Address, NvmlCode
from sdbench.probes.readings import ReadingFailed, as_reading, value_of, value_or
from sdbench.probes.sysfs import ROOT, list_names, read_text
from sdbench.probes.torch_build import NONE
from sdbench.probes.wsl import NO_PROCESSES, is_wsl
from sdbench.schema.base import Reading, Unknown
from sdbench.schema.fingerprint import GpuConfiguration, GpuIdentity, GpuState

_NVIDIA_VENDOR = "0x10de"
_DISPLAY_CLASS_PREFIX = "0x03"

# include/linux/proc_ns.h: PROC_PID_INIT_INO, the inode of the host's own process namespace.
_HOST_PID_NAMESPACE = "pid:[4026531836]"
_OTHERS_INVISIBLE = "processes of others cannot be seen from this process namespace (a container's without --pid=host)"
_FOREIGN_NAMESPACE = "process ids on the GPU are the host's, and this is a container's process namespace"
# These say that there is no driver, or nothing to ask it with; any other reason comes from one.
_NO_ANSWER = (NvmlCode.LIBRARY_NOT_FOUND, NvmlCode.DRIVER_NOT_LOADED, NvmlCode.NO_PACKAGE)

_SECOND_US = 1_000_000
# Of the SMs, on average: less than the smallest difference that a comparison resolves. Compositors draw with less.
COMPUTING_RATIO = 0.01

# CUDA C++ Programming Guide, throughput of native arithmetic instructions (32-bit floating-point add per clock and
# multiprocessor): NVML counts cores, not multiprocessors.
_CORES_PER_MULTIPROCESSOR = {
    "5.0": 128, "5.2": 128, "6.0": 64, "6.1": 128, "7.0": 64, "7.5": 64, "8.0": 64, "8.6": 128, "8.9": 128, "9.0": 128,
    "10.0": 128, "10.3": 128, "12.0": 128, "12.1": 128,
}  # fmt: skip


def has_nvidia_gpu(nvml: Nvml, root: Path = ROOT) -> bool:
    """Return whether the machine has an NVIDIA GPU: its driver shows one or answers, or the hardware is there."""
    answers = nvml.missing_code not in _NO_ANSWER if nvml.missing else value_or(nvml.device_count(), 1) > 0
    return answers or has_nvidia_hardware(root)


def has_nvidia_hardware(root: Path = ROOT) -> bool:
    """Return whether the PCI bus, /dev or WSL2 shows an NVIDIA GPU, driver or not."""
    if (root / "dev/nvidiactl").exists() or (root / "dev/nvidia0").exists():
        return True
    # /dev/dxg is there for GPUs of any make; Windows puts the library next to it where it has NVIDIA's driver.
    if (root / "dev/dxg").exists() and (root / "usr/lib/wsl/lib/libcuda.so.1").exists():
        return True
    folder = "sys/bus/pci/devices"
    return any(_is_nvidia_gpu(root, f"{folder}/{name}") for name in value_or(list_names(root, folder), ()))


def _is_nvidia_gpu(root: Path, folder: str) -> bool:
    vendor, kind = (value_or(read_text(root, f"{folder}/{name}"), "") for name in ("vendor", "class"))
    return vendor == _NVIDIA_VENDOR and kind.startswith(_DISPLAY_CLASS_PREFIX)


def read_gpu_identity(nvml: Nvml, address: Address, salt: Reading[bytes]) -> GpuIdentity:
    """Return what the GPU is; its UUID only as an HMAC under ``salt``."""
    return GpuIdentity(
        name=nvml.name(address),
        mig_profile=_mig_profile(nvml, address),
        memory_total_bytes=nvml.memory_total_bytes(address),
        compute_capability=nvml.compute_capability(address),
        pci_device_id=nvml.pci_device_id(address),
        multiprocessor_count=count_multiprocessors(nvml, address),
        uuid_hmac=hash_uuid(nvml.uuid(address), salt),
    )


@as_reading
def _mig_profile(nvml: Nvml, address: Address) -> str:
    """Return the profile of a MIG slice, as ``3g.40gb``: NVML has it in the slice's name only."""
    if not is_slice(address):
        return NONE
    match = re.search(r"\bMIG (\S+)", value_of(nvml.name(address)))
    if match is None:
        raise ReadingFailed("the name of the MIG slice has no profile")
    return match[1]


@as_reading
def count_multiprocessors(nvml: Nvml, address: Address) -> int:
    """Return how many multiprocessors the GPU has, or the MIG slice of one."""
    if is_slice(address):
        return value_of(nvml.slice_multiprocessor_count(address))
    cores, capability = value_of(nvml.core_count(address)), value_of(nvml.compute_capability(address))
    per_multiprocessor = _CORES_PER_MULTIPROCESSOR.get(capability)
    if per_multiprocessor is None or cores % per_multiprocessor:
        raise ReadingFailed(f"cores per multiprocessor of compute capability {capability} are not known here")
    return cores // per_multiprocessor


def read_gpu_configuration(nvml: Nvml, address: Address, root: Path = ROOT) -> GpuConfiguration:
    """Return how the GPU is set up: each field is the query of its name, but for its place."""
    fields = {name: getattr(nvml, name)(address) for name in GpuConfiguration.model_fields.keys() - {"numa_node"}}
    return GpuConfiguration(numa_node=read_gpu_node(nvml.pci_address(address), root), **fields)


def read_gpu_state(nvml: Nvml, address: Address) -> GpuState:
    """Return what moves on the GPU: each field is the query of its name."""
    return GpuState(**{name: getattr(nvml, name)(address) for name in GpuState.model_fields})


class GpuUser(NamedTuple):
    """A process on a GPU: its memory (bytes), and the share of the SMs (0 to 1) that it computed on."""

    memory_bytes: Reading[int]
    sm_ratio: float


@as_reading
def read_gpu_users(nvml: Nvml, address: Address, root: Path = ROOT) -> dict[int, GpuUser]:
    """Return the processes on the GPU by their ids, and what each did in the last second.

    From inside a process namespace that is not the host's, NVML shows no process outside it.
    """
    if is_wsl(root):
        raise ReadingFailed(NO_PROCESSES)
    if not is_host_pid_namespace(root):
        raise ReadingFailed(_OTHERS_INVISIBLE)
    memory = value_of(nvml.processes(address))
    ratios = value_of(nvml.sm_ratios(address, time.time_ns() // 1000 - _SECOND_US))
    unlisted = Unknown(reason="NVML does not list this process")
    return {pid: GpuUser(memory.get(pid, unlisted), ratios.get(pid, 0.0)) for pid in memory | ratios}


@as_reading
def count_foreign_processes(nvml: Nvml, address: Address, own_pids: frozenset[int], root: Path = ROOT) -> int:
    """Return how many processes other than ``own_pids`` compute on the GPU; a display server, which draws, does not."""
    users = value_of(read_gpu_users(nvml, address, root))
    return sum(user.sm_ratio > COMPUTING_RATIO for pid, user in users.items() if pid not in own_pids)


@as_reading
def read_process_memory(nvml: Nvml, address: Address, pid: int, root: Path = ROOT) -> int:
    """Return the GPU memory of one process (bytes), contexts and libraries included."""
    if is_wsl(root):
        raise ReadingFailed(NO_PROCESSES)
    processes = value_of(nvml.processes(address))
    if pid not in processes:
        raise ReadingFailed("NVML does not list this process on the GPU")
    return value_of(processes[pid])


def is_host_pid_namespace(root: Path = ROOT) -> bool:
    """Return whether process ids here are the host's."""
    try:
        return str((root / "proc/self/ns/pid").readlink()) == _HOST_PID_NAMESPACE
    except OSError:
        return False
