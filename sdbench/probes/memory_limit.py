"""A bound on this process's own memory, so that a search for its limits never takes the machine down."""

import contextlib
import resource
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from sdbench.probes.cgroup import read_memory_left_bytes
from sdbench.probes.files import ROOT, read_kib, read_text
from sdbench.schema.base import Known, Unknown

# What is left to the system and to the page cache. The kernel starts to kill when the last page is gone, and without
# swap it thrashes before that.
HOST_SHARE = 0.8
_STATUS = "proc/self/status"


@dataclass(frozen=True)
class MemoryLimit:
    """How much memory (bytes) this process may have resident, and where the figure comes from."""

    limit_bytes: int
    source: str


def choose_host_limit(asked_bytes: int | None, root: Path = ROOT) -> MemoryLimit:
    """Return the limit of the process: what was asked for, but never more than a share of what is free here.

    Raises:
        OSError: the kernel does not say how much memory is free.
    """
    status = read_text(root, _STATUS)
    resident = read_kib(status, "VmRSS", _STATUS)
    available = read_kib(read_text(root, "proc/meminfo"), "MemAvailable", "proc/meminfo")
    if isinstance(resident, Unknown) or isinstance(available, Unknown):
        msg = "/proc does not say how much memory is free, so no safe limit can be set"
        raise OSError(msg)
    left_bytes = available.value
    group = read_memory_left_bytes(root)
    if isinstance(group, Known) and group.value is not None:
        left_bytes = min(left_bytes, group.value)
    safe_bytes = resident.value + int(HOST_SHARE * left_bytes)
    if asked_bytes is None:
        return MemoryLimit(safe_bytes, f"{HOST_SHARE:.0%} of the free host memory")
    if asked_bytes <= safe_bytes:
        return MemoryLimit(asked_bytes, "memory_limit_bytes")
    return MemoryLimit(safe_bytes, f"{HOST_SHARE:.0%} of the free host memory, below memory_limit_bytes")


@contextlib.contextmanager
def host_memory_bounded(limit_bytes: int, root: Path = ROOT) -> Iterator[None]:
    """While entered, allocations that would take this process above ``limit_bytes`` resident fail instead.

    The kernel bounds private writable memory (RLIMIT_DATA, since Linux 4.7), of which some is never touched: so the
    growth is bounded, from what is resident and mapped now.
    """
    status = read_text(root, _STATUS)
    resident = read_kib(status, "VmRSS", _STATUS)
    mapped = read_kib(status, "VmData", _STATUS)
    if isinstance(resident, Unknown) or isinstance(mapped, Unknown):
        msg = "/proc does not say how large this process is, so its growth cannot be bounded"
        raise OSError(msg)
    before = resource.getrlimit(resource.RLIMIT_DATA)
    growth_bytes = max(0, limit_bytes - resident.value)
    bound = mapped.value + growth_bytes
    if before[1] != resource.RLIM_INFINITY:
        bound = min(bound, before[1])
    resource.setrlimit(resource.RLIMIT_DATA, (bound, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, before)
