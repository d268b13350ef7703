"""Memory of this process on the host, exactly, and a bound on it; and on the GPU, through NVML.

The kernel keeps the high-water mark of resident memory itself. Sampling every 100 ms caught 24 of 100 MiB of a short
peak, and ru_maxrss of a child starts at its parent's size.
"""

import contextlib
import os
import resource
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from sdbench.probes.cgroup import read_memory_left_bytes
from sdbench.probes.devices import Device
from sdbench.probes.gpu import read_process_memory
from sdbench.probes.nvml import Nvml, open_nvml
from sdbench.probes.readings import ReadingFailed, as_reading, value_or
from sdbench.probes.sysfs import ROOT, explain_os_error, read_kib
from sdbench.schema.base import Known, Reading, Unknown

_STATUS = "proc/self/status"
# The rest is for the system and the page cache: the kernel kills processes when the last page is gone, and without swap
# it thrashes before that.
HOST_SHARE = 0.8
# Documentation/filesystems/proc.rst: writing 5 resets the peak resident set size to the present one.
_RESET_PEAK = "5"
# The kernel counts pages per CPU and adds them up late: at 2 * CPUs pages on each of 128 CPUs the sum is 128 MiB off.
# A peak that stays further above the present size has not been reset.
_RESET_SLACK_BYTES = 128 * 1024**2


class HostMemoryProbe:
    """Peak resident memory of this process since ``reset``."""

    def __init__(self, root: Path = ROOT) -> None:
        self._root = root
        self._reset: Reading[None] = Unknown(reason="the peak was not reset before the measurement")

    def reset(self) -> None:
        """Start a new peak at the present size. Where that cannot be done the peak stays unknown."""
        self._reset = self._try_to_reset()

    @as_reading
    def _try_to_reset(self) -> None:
        try:
            with (self._root / "proc/self/clear_refs").open("w", encoding="ascii") as file:
                file.write(_RESET_PEAK)
        except OSError as error:
            raise ReadingFailed(explain_os_error(error, "/proc/self/clear_refs")) from None
        peak, now = self._read("VmHWM"), self._read("VmRSS")
        if isinstance(peak, Known) and isinstance(now, Known) and peak.value - now.value > _RESET_SLACK_BYTES:
            raise ReadingFailed("/proc/self/clear_refs: the kernel took the request and did not reset the peak")

    def read(self) -> tuple[Reading[int], Reading[int], Reading[int]]:
        """Return the peak since ``reset``, and what is anonymous and what file-backed of the present size (bytes)."""
        peak = self._reset if isinstance(self._reset, Unknown) else self._read("VmHWM")
        return peak, self._read("RssAnon"), self._read("RssFile")

    def _read(self, key: str) -> Reading[int]:
        return read_kib(self._root, _STATUS, key)


def read_device_memory(
    device: Device, pid: int | None = None, *, nvml: Nvml | None = None
) -> tuple[Reading[int], Reading[int]]:
    """Return the GPU memory used by one process (default: this one) and by all together (bytes), through NVML."""
    if device.address is None:
        unknown = Unknown(reason="the device is the CPU: its memory is the host's")
        return unknown, unknown
    nvml = open_nvml() if nvml is None else nvml
    process = read_process_memory(nvml, device.address, os.getpid() if pid is None else pid)
    return process, nvml.memory_used_bytes(device.address)


@dataclass(frozen=True)
class MemoryLimit:
    """How much memory (bytes) this process may have resident, and where the result comes from."""

    limit_bytes: int
    source: str


def choose_host_limit(requested_bytes: int | None, root: Path = ROOT) -> MemoryLimit:
    """Return the limit of the process: what was requested, but never more than a share of what is free here.

    Raises:
        OSError: the free memory cannot be read.
    """
    resident = read_kib(root, _STATUS, "VmRSS")
    if isinstance(resident, Unknown):
        raise OSError("the free memory cannot be read from /proc, so no safe limit can be set")
    safe_bytes = resident.value + read_free_host_bytes(root)
    if requested_bytes is None:
        return MemoryLimit(safe_bytes, f"{HOST_SHARE:.0%} of the free host memory")
    if requested_bytes <= safe_bytes:
        return MemoryLimit(requested_bytes, "memory_limit_bytes")
    return MemoryLimit(safe_bytes, f"{HOST_SHARE:.0%} of the free host memory, below memory_limit_bytes")


def read_free_host_bytes(root: Path = ROOT) -> int:
    """Return the share of the host's free memory (bytes) that this process may take.

    Raises:
        OSError: the free memory cannot be read.
    """
    available = read_kib(root, "proc/meminfo", "MemAvailable")
    if isinstance(available, Unknown):
        raise OSError("the free memory cannot be read from /proc, so no safe limit can be set")
    group_left_bytes = value_or(read_memory_left_bytes(root), None)
    left_bytes = available.value if group_left_bytes is None else min(available.value, group_left_bytes)
    # What is mapped from files, such as weights, is resident and counts as free: the kernel could drop it.
    return int(HOST_SHARE * max(0, left_bytes - value_or(read_kib(root, _STATUS, "RssFile"), 0)))


@contextlib.contextmanager
def host_memory_bounded(limit_bytes: int, root: Path = ROOT) -> Iterator[None]:
    """While entered, allocations that would take this process above ``limit_bytes`` resident fail instead.

    The kernel bounds private writable memory (RLIMIT_DATA, since Linux 4.7), of which some is never touched: so the
    growth is bounded, from what is resident and mapped now.

    Raises:
        OSError: the present size cannot be read, or the limit cannot be set.
    """
    resident, mapped = read_kib(root, _STATUS, "VmRSS"), read_kib(root, _STATUS, "VmData")
    if isinstance(resident, Unknown) or isinstance(mapped, Unknown):
        raise OSError("the size of this process cannot be read from /proc, so its growth cannot be bounded")
    before = resource.getrlimit(resource.RLIMIT_DATA)
    bound = mapped.value + max(0, limit_bytes - resident.value)
    if before[1] != resource.RLIM_INFINITY:
        bound = min(bound, before[1])
    resource.setrlimit(resource.RLIMIT_DATA, (bound, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, before)
