"""The machine's identity, from /proc and /sys."""

import platform
import re
from pathlib import Path

from sdbench.probes.gpu import read_gpu_identity
from sdbench.probes.numa import list_nodes
from sdbench.probes.nvml import Nvml
from sdbench.probes.nvml_library import Address
from sdbench.probes.readings import ReadingFailed, as_reading, known_values, value_of, value_or
from sdbench.probes.sysfs import CPU, ROOT, find_cpuinfo, list_names, read_colon_table, read_kib, read_text
from sdbench.probes.torch_build import NONE
from sdbench.probes.wsl import is_wsl
from sdbench.schema.base import Known, Reading
from sdbench.schema.fingerprint import Hardware

_MODEL_KEYS = ("model name", "Processor", "cpu")


def read_hardware(nvml: Nvml, gpu: Address | None, salt: Reading[bytes], root: Path = ROOT) -> Hardware:
    """Return what the machine is made of, of its GPUs only the measured one, which is none for the CPU."""
    cpuinfo = read_text(root, "proc/cpuinfo")
    return Hardware(
        architecture=Known(value=platform.machine()),
        cpu_vendor=find_cpuinfo(cpuinfo, "vendor_id", "CPU implementer"),
        cpu_model=find_cpuinfo(cpuinfo, *_MODEL_KEYS),
        cpu_family_model_stepping=_family(cpuinfo),
        cpu_flags=_flags(cpuinfo),
        physical_core_count=_count_distinct(cpuinfo, "physical id", "core id"),
        logical_cpu_count=_count_distinct(cpuinfo, "processor"),
        socket_count=_count_distinct(cpuinfo, "physical id"),
        numa_node_count=_numa_node_count(root),
        cache_bytes=_caches(root),
        memory_total_bytes=read_kib(root, "proc/meminfo", "MemTotal"),
        virtualization=read_virtualization(root),
        gpus=Known(value=() if gpu is None else (read_gpu_identity(nvml, gpu, salt),)),
    )


def read_cpu_name(root: Path = ROOT) -> str:
    """Return the model name of the processor, or its architecture where there is none."""
    return value_or(find_cpuinfo(read_text(root, "proc/cpuinfo"), *_MODEL_KEYS), f"{platform.machine()} CPU")


@as_reading
def _family(cpuinfo: Reading[str]) -> str:
    table = read_colon_table(value_or(cpuinfo, ""))
    for keys in (("cpu family", "model", "stepping"), ("CPU architecture", "CPU part", "CPU revision")):
        if all(key in table for key in keys):
            return ", ".join(f"{key.removeprefix('cpu ').removeprefix('CPU ')} {table[key]}" for key in keys)
    raise ReadingFailed("/proc/cpuinfo: no cpu family, model and stepping")


@as_reading
def _flags(cpuinfo: Reading[str]) -> tuple[str, ...]:
    return tuple(sorted(value_of(find_cpuinfo(cpuinfo, "flags", "Features")).split()))


@as_reading
def _count_distinct(cpuinfo: Reading[str], *keys: str) -> int:
    """Return the number of distinct values of ``keys`` among the logical CPUs: of CPUs, cores or sockets."""
    cpus = map(read_colon_table, re.split(r"\n\s*\n", value_of(cpuinfo)))
    ids = {tuple(cpu.get(key) for key in keys) for cpu in cpus if "processor" in cpu}
    if not ids or any(None in one for one in ids):
        raise ReadingFailed(f"/proc/cpuinfo: no {keys[-1]}s")
    return len(ids)


@as_reading
def _numa_node_count(root: Path) -> int:
    return len(value_of(list_nodes(root)))


@as_reading
def _caches(root: Path) -> tuple[str, ...]:
    """Return the caches the first CPU sees, as ``L2 unified 2097152``."""
    folder = f"{CPU}/cpu0/cache"
    caches = known_values(_cache(root, f"{folder}/{name}") for name in value_of(list_names(root, folder)))
    if not caches:
        raise ReadingFailed(f"/{folder}: no caches")
    return tuple(sorted(caches))


@as_reading
def _cache(root: Path, folder: str) -> str:
    level, kind, size = (value_of(read_text(root, f"{folder}/{part}")) for part in ("level", "type", "size"))
    return f"L{level} {kind.lower()} {_kernel_size_bytes(size)}"


def _kernel_size_bytes(text: str) -> int:
    """Return the bytes of ``48K``, as the kernel writes cache sizes."""
    digits = re.match(r"\d+", text)
    return (int(digits.group()) if digits else 0) * {"K": 1024, "M": 1024**2, "G": 1024**3}.get(text[-1:], 1)


@as_reading
def read_virtualization(root: Path = ROOT) -> str:
    """Return the hypervisor by the firmware's product name, ``unnamed hypervisor``, or ``none`` on bare metal.

    Linux on Windows is ``WSL2``: its GPU is Windows' own.
    """
    if is_wsl(root):
        return "WSL2"
    hypervisor = read_text(root, "sys/hypervisor/type")
    if isinstance(hypervisor, Known):
        return hypervisor.value
    flags = _flags(Known(value=value_of(read_text(root, "proc/cpuinfo"))))
    if "hypervisor" in value_or(flags, ()):
        firmware = (read_text(root, f"sys/class/dmi/id/{name}") for name in ("sys_vendor", "product_name"))
        return " ".join(known_values(firmware)) or "unnamed hypervisor"
    if platform.machine() in ("x86_64", "i686") and isinstance(flags, Known):
        return NONE
    raise ReadingFailed("only x86 processors report a hypervisor")
