"""What a GPU is, how it is set up, and who else is on it."""

from pathlib import Path

from sdbench.probes.files import ROOT, list_names, read_text
from sdbench.probes.nvml import CLOCK_MEMORY, CLOCK_SM, Nvml
from sdbench.probes.privacy import hash_uuid
from sdbench.schema.base import Known, Reading, Unknown
from sdbench.schema.fingerprint import GpuConfiguration, GpuIdentity

_NVIDIA_VENDOR = "0x10de"
_DISPLAY_CLASS_PREFIX = "0x03"

# include/linux/proc_ns.h: PROC_PID_INIT_INO, the inode of the host's own process namespace.
_HOST_PID_NAMESPACE = "pid:[4026531836]"

# CUDA C++ Programming Guide, throughput of native arithmetic instructions (32-bit floating-point add per clock and
# multiprocessor): NVML counts cores, not multiprocessors.
_CORES_PER_MULTIPROCESSOR = {
    "5.0": 128, "5.2": 128, "6.0": 64, "6.1": 128, "7.0": 64, "7.5": 64, "8.0": 64, "8.6": 128, "8.9": 128, "9.0": 128,
    "10.0": 128, "10.3": 128, "12.0": 128, "12.1": 128,
}  # fmt: skip


def list_gpu_indices(nvml: Nvml | Unknown, root: Path = ROOT) -> Reading[tuple[int, ...]]:
    """Return the indices of the GPUs; none is known only where neither driver nor PCI bus shows one."""
    if isinstance(nvml, Nvml):
        count = nvml.device_count()
        return count if isinstance(count, Unknown) else Known(value=tuple(range(count.value)))
    if has_nvidia_hardware(root):
        return Unknown(reason=f"an NVIDIA GPU is in the machine, but its driver does not answer: {nvml.reason}")
    return Known(value=())


def has_nvidia_hardware(root: Path = ROOT) -> bool:
    """Return whether the PCI bus or /dev shows an NVIDIA GPU, driver or not."""
    if (root / "dev/nvidiactl").exists() or (root / "dev/nvidia0").exists():
        return True
    devices = list_names(root, "sys/bus/pci/devices")
    if isinstance(devices, Unknown):
        return False
    return any(_is_nvidia_gpu(root, f"sys/bus/pci/devices/{device}") for device in devices.value)


def _is_nvidia_gpu(root: Path, folder: str) -> bool:
    vendor, kind = read_text(root, f"{folder}/vendor"), read_text(root, f"{folder}/class")
    if isinstance(vendor, Unknown) or isinstance(kind, Unknown):
        return False
    return vendor.value == _NVIDIA_VENDOR and kind.value.startswith(_DISPLAY_CLASS_PREFIX)


def read_gpu_identity(nvml: Nvml, index: int, salt: Reading[bytes]) -> GpuIdentity:
    """Return what the GPU is; its UUID only as an HMAC under ``salt``."""
    memory = nvml.memory(index)
    return GpuIdentity(
        index=index,
        name=nvml.name(index),
        memory_total_bytes=memory if isinstance(memory, Unknown) else Known(value=memory.value.total_bytes),
        compute_capability=nvml.compute_capability(index),
        pci_device_id=nvml.pci_device_id(index),
        multiprocessor_count=_multiprocessor_count(nvml, index),
        uuid_hmac=hash_uuid(nvml.uuid(index), salt),
    )


def _multiprocessor_count(nvml: Nvml, index: int) -> Reading[int]:
    cores, capability = nvml.core_count(index), nvml.compute_capability(index)
    if isinstance(cores, Unknown):
        return cores
    if isinstance(capability, Unknown):
        return capability
    per_multiprocessor = _CORES_PER_MULTIPROCESSOR.get(capability.value)
    if per_multiprocessor is None or cores.value % per_multiprocessor:
        return Unknown(reason=f"cores per multiprocessor of compute capability {capability.value} are not known here")
    return Known(value=cores.value // per_multiprocessor)


def read_gpu_configuration(nvml: Nvml, index: int) -> GpuConfiguration:
    """Return how the GPU is set up."""
    return GpuConfiguration(
        index=index,
        power_limit_w=nvml.power_limit_w(index),
        power_limit_default_w=nvml.power_limit_default_w(index),
        ecc_enabled=nvml.ecc_enabled(index),
        persistence_mode=nvml.persistence_mode(index),
        compute_mode=nvml.compute_mode(index),
        mig_mode=nvml.mig_mode(index),
        application_clock_sm_mhz=nvml.application_clock_mhz(index, CLOCK_SM),
        clock_max_sm_mhz=nvml.clock_max_mhz(index, CLOCK_SM),
        clock_max_memory_mhz=nvml.clock_max_mhz(index, CLOCK_MEMORY),
        pcie_generation=nvml.pcie_generation(index),
        pcie_width=nvml.pcie_width(index),
    )


def count_foreign_processes(nvml: Nvml, index: int, own_pids: frozenset[int], root: Path = ROOT) -> Reading[int]:
    """Return how many processes beside ``own_pids`` are on the GPU.

    NVML names processes by the host's ids. Inside a container's process namespace our own cannot be told from
    others', so that anything seen there is unknown, unless nothing of ours can be on the GPU (``own_pids`` empty).
    """
    processes = nvml.processes(index)
    if isinstance(processes, Unknown):
        return processes
    if own_pids and processes.value and not is_host_pid_namespace(root):
        return Unknown(reason="process ids on the GPU are the host's, and this is a container's process namespace")
    return Known(value=sum(process.pid not in own_pids for process in processes.value))


def read_process_memory(nvml: Nvml, index: int, pid: int, root: Path = ROOT) -> Reading[int]:
    """Return the GPU memory of one process (bytes), contexts and libraries included."""
    processes = nvml.processes(index)
    if isinstance(processes, Unknown):
        return processes
    if not is_host_pid_namespace(root):
        return Unknown(reason="process ids on the GPU are the host's, and this is a container's process namespace")
    for process in processes.value:
        if process.pid == pid:
            return process.used_bytes
    return Unknown(reason="NVML does not list this process on the GPU")


def is_host_pid_namespace(root: Path = ROOT) -> bool:
    """Return whether process ids here are the host's."""
    try:
        return str((root / "proc/self/ns/pid").readlink()) == _HOST_PID_NAMESPACE
    except OSError:
        return False
