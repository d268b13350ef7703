"""The machine's identity, from /proc and /sys."""

import platform
import re
from pathlib import Path

from sdbench.probes.files import ROOT, list_names, read_colon_table, read_kib, read_text
from sdbench.probes.gpu import list_gpu_indices, read_gpu_identity
from sdbench.probes.nvml import Nvml
from sdbench.probes.torch_build import NONE
from sdbench.schema.base import Known, Reading, Unknown
from sdbench.schema.fingerprint import GpuIdentity, Hardware

_CPU = "sys/devices/system/cpu"
_CACHE_TYPES = {"Data": "data", "Instruction": "instruction", "Unified": "unified"}


def read_hardware(nvml: Nvml | Unknown, salt: Reading[bytes], root: Path = ROOT) -> Hardware:
    """Return what the machine is made of."""
    cpuinfo = read_text(root, "proc/cpuinfo")
    table = {} if isinstance(cpuinfo, Unknown) else read_colon_table(cpuinfo.value)
    indices = list_gpu_indices(nvml, root)
    return Hardware(
        architecture=Known(value=platform.machine()),
        cpu_vendor=_first_of(table, "vendor_id", "CPU implementer"),
        cpu_model=_first_of(table, "model name", "Processor", "cpu"),
        cpu_family_model_stepping=_family(table),
        cpu_flags=_flags(table),
        physical_core_count=_physical_core_count(cpuinfo),
        logical_cpu_count=_count_lines(cpuinfo, "processor"),
        socket_count=_socket_count(cpuinfo),
        numa_node_count=_numa_node_count(root),
        cache_bytes=_caches(root),
        memory_total_bytes=read_kib(read_text(root, "proc/meminfo"), "MemTotal", "proc/meminfo"),
        virtualization=read_virtualization(root),
        gpus=_gpus(nvml, indices, salt),
    )


def read_cpu_name(root: Path = ROOT) -> str:
    """Return what the processor calls itself, or its architecture where it does not say."""
    cpuinfo = read_text(root, "proc/cpuinfo")
    table = {} if isinstance(cpuinfo, Unknown) else read_colon_table(cpuinfo.value)
    model = _first_of(table, "model name", "Processor", "cpu")
    return f"{platform.machine()} CPU" if isinstance(model, Unknown) else model.value


def _gpus(
    nvml: Nvml | Unknown, indices: Reading[tuple[int, ...]], salt: Reading[bytes]
) -> Reading[tuple[GpuIdentity, ...]]:
    if isinstance(indices, Unknown):
        return indices
    if isinstance(nvml, Unknown):
        return Known(value=())
    return Known(value=tuple(read_gpu_identity(nvml, index, salt) for index in indices.value))


def _first_of(table: dict[str, str], *keys: str) -> Reading[str]:
    for key in keys:
        if table.get(key):
            return Known(value=" ".join(table[key].split()))
    return Unknown(reason=f"/proc/cpuinfo: no line {' or '.join(keys)}")


def _family(table: dict[str, str]) -> Reading[str]:
    keys = ("cpu family", "model", "stepping")
    if not all(key in table for key in keys):
        keys = ("CPU architecture", "CPU part", "CPU revision")
    if not all(key in table for key in keys):
        return Unknown(reason="/proc/cpuinfo: no cpu family, model and stepping")
    return Known(value=", ".join(f"{key.removeprefix('cpu ').removeprefix('CPU ')} {table[key]}" for key in keys))


def _flags(table: dict[str, str]) -> Reading[tuple[str, ...]]:
    flags = _first_of(table, "flags", "Features")
    return flags if isinstance(flags, Unknown) else Known(value=tuple(sorted(flags.value.split())))


def _cpu_blocks(cpuinfo: Reading[str]) -> list[dict[str, str]]:
    """Return one table per logical CPU."""
    if isinstance(cpuinfo, Unknown):
        return []
    blocks = map(read_colon_table, re.split(r"\n\s*\n", cpuinfo.value))
    return [block for block in blocks if "processor" in block]


def _count_lines(cpuinfo: Reading[str], key: str) -> Reading[int]:
    if isinstance(cpuinfo, Unknown):
        return cpuinfo
    count = sum(line.partition(":")[0].strip() == key for line in cpuinfo.value.splitlines())
    return Known(value=count) if count else Unknown(reason=f"/proc/cpuinfo: no line {key}")


def _physical_core_count(cpuinfo: Reading[str]) -> Reading[int]:
    if isinstance(cpuinfo, Unknown):
        return cpuinfo
    cores = {(block.get("physical id"), block.get("core id")) for block in _cpu_blocks(cpuinfo)}
    if not cores or any(None in core for core in cores):
        return Unknown(reason="/proc/cpuinfo: no core ids")
    return Known(value=len(cores))


def _socket_count(cpuinfo: Reading[str]) -> Reading[int]:
    if isinstance(cpuinfo, Unknown):
        return cpuinfo
    sockets = {block.get("physical id") for block in _cpu_blocks(cpuinfo)}
    if not sockets or None in sockets:
        return Unknown(reason="/proc/cpuinfo: no physical ids")
    return Known(value=len(sockets))


def _numa_node_count(root: Path) -> Reading[int]:
    names = list_names(root, "sys/devices/system/node")
    if isinstance(names, Unknown):
        return names
    count = sum(re.fullmatch(r"node\d+", name) is not None for name in names.value)
    return Known(value=count) if count else Unknown(reason="/sys/devices/system/node: no nodes")


def _caches(root: Path) -> Reading[tuple[str, ...]]:
    """Return the caches the first CPU sees, as ``L2 unified 2097152``."""
    folder = f"{_CPU}/cpu0/cache"
    names = list_names(root, folder)
    if isinstance(names, Unknown):
        return names
    caches: list[str] = []
    for name in names.value:
        level, kind, size = (read_text(root, f"{folder}/{name}/{part}") for part in ("level", "type", "size"))
        if isinstance(level, Known) and isinstance(kind, Known) and isinstance(size, Known):
            caches.append(f"L{level.value} {_CACHE_TYPES.get(kind.value, kind.value)} {_kernel_size_bytes(size.value)}")
    return Known(value=tuple(sorted(caches))) if caches else Unknown(reason=f"/{folder}: no caches")


def _kernel_size_bytes(text: str) -> int:
    """Return the bytes of ``48K``, as the kernel writes cache sizes."""
    digits = re.match(r"\d+", text)
    return (int(digits.group()) if digits else 0) * {"K": 1024, "M": 1024**2, "G": 1024**3}.get(text[-1:], 1)


def read_virtualization(root: Path = ROOT) -> Reading[str]:
    """Return the hypervisor by the firmware's product name, ``unnamed hypervisor``, or ``none`` on bare metal."""
    hypervisor = read_text(root, "sys/hypervisor/type")
    if isinstance(hypervisor, Known):
        return hypervisor
    cpuinfo = read_text(root, "proc/cpuinfo")
    if isinstance(cpuinfo, Unknown):
        return cpuinfo
    flags = _flags(read_colon_table(cpuinfo.value))
    vendor, product = (read_text(root, f"sys/class/dmi/id/{name}") for name in ("sys_vendor", "product_name"))
    named = " ".join(part.value for part in (vendor, product) if isinstance(part, Known))
    if isinstance(flags, Known) and "hypervisor" in flags.value:
        return Known(value=named or "unnamed hypervisor")
    if platform.machine() in ("x86_64", "i686") and isinstance(flags, Known):
        return Known(value=NONE)
    return Unknown(reason="only x86 processors say whether a hypervisor runs them")
