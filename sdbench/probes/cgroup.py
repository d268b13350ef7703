"""The limits that control groups put on this process, under both versions of the interface."""

import os
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from sdbench.probes.readings import ReadingFailed, as_reading, known_values, value_of, value_or
from sdbench.probes.sysfs import ROOT, list_names, read_int, read_text
from sdbench.schema.base import Known

_MOUNT = "sys/fs/cgroup"

# Version 1 writes "no limit" as the largest multiple of the page size in 63 bits; no machine has 2^60 bytes.
_V1_NO_MEMORY_LIMIT_BYTES = 2**60


@as_reading
def read_cgroup_version(root: Path = ROOT) -> str:
    """Return ``v1``, ``v2`` or ``hybrid`` (v1 controllers next to a v2 tree)."""
    names = value_of(list_names(root, _MOUNT))
    if "cgroup.controllers" in names:
        return "v2"
    if not names:
        raise ReadingFailed(f"/{_MOUNT}: no control groups are mounted")
    return "hybrid" if "unified" in names else "v1"


@as_reading
def read_cpu_limit(root: Path = ROOT) -> float | None:
    """Return how many CPUs' worth of time the process may use, None for no limit."""
    limits = [_cpu_limit_of(root, group) for group in _own_groups(root, "cpu")]
    return min((limit for limit in limits if limit is not None), default=None)


def count_usable_cpus(root: Path = ROOT) -> int:
    """Return how many CPUs this process can keep busy: those of its affinity, fewer under a cgroup's limit.

    A part of a CPU is none: with more threads than time all of them stall until the limit's next period.
    """
    limit = value_or(read_cpu_limit(root), None)
    affinity_count = len(os.sched_getaffinity(0))
    return affinity_count if limit is None else max(1, min(affinity_count, int(limit)))


class QuotaThrottling(NamedTuple):
    """In how many periods, and for how long (s, over all CPUs), CPU limits have throttled this process's groups."""

    period_count: int
    time_s: float


@as_reading
def read_quota_throttling(root: Path = ROOT) -> QuotaThrottling:
    """Return how much CPU limits have throttled so far; 0 where there is no limit.

    Kernel documentation, cgroup-v2.rst (throttled_usec) and scheduler/sched-bwc.rst (throttled_time, in ns). A group's
    counters do not contain those of the groups above it.
    """
    stats = known_values(read_text(root, f"{group}/cpu.stat") for group in _own_groups(root, "cpu"))
    if not stats:
        raise ReadingFailed("no control group of this process has cpu.stat")
    tables = [dict(line.partition(" ")[::2] for line in stat.splitlines()) for stat in stats]
    count, time_us, time_ns = (
        sum(int(table.get(name, 0)) for table in tables)
        for name in ("nr_throttled", "throttled_usec", "throttled_time")
    )
    return QuotaThrottling(count, time_us / 1e6 + time_ns / 1e9)


@as_reading
def read_memory_limit_bytes(root: Path = ROOT) -> int | None:
    """Return how much memory (bytes) the process's groups may use, None for no limit."""
    limits = [_memory_limit_of(root, group) for group in _own_groups(root, "memory")]
    return min((limit for limit in limits if limit is not None), default=None)


@as_reading
def read_memory_left_bytes(root: Path = ROOT) -> int | None:
    """Return how much memory (bytes) the tightest group has free, None for no limit; page cache counts as free."""
    left = []
    for group in _own_groups(root, "memory"):
        limit, used = _memory_limit_of(root, group), _memory_used_of(root, group)
        if limit is not None and used is not None:
            left.append(max(0, limit - used))
    return min(left, default=None)


def _cpu_limit_of(root: Path, group: str) -> float | None:
    maximum = read_text(root, f"{group}/cpu.max")
    if isinstance(maximum, Known):
        quota, _, period = maximum.value.partition(" ")
        return None if quota == "max" else int(quota) / int(period or 100_000)
    quota_us, period_us = (value_or(read_int(root, f"{group}/cpu.cfs_{part}_us"), -1) for part in ("quota", "period"))
    return quota_us / period_us if quota_us >= 0 and period_us > 0 else None


def _memory_limit_of(root: Path, group: str) -> int | None:
    limits = known_values(read_int(root, f"{group}/{name}") for name in ("memory.max", "memory.limit_in_bytes"))
    return limits[0] if limits and limits[0] < _V1_NO_MEMORY_LIMIT_BYTES else None


def _memory_used_of(root: Path, group: str) -> int | None:
    for name, cache_key in (("memory.current", "inactive_file"), ("memory.usage_in_bytes", "total_inactive_file")):
        usage = read_int(root, f"{group}/{name}")
        if isinstance(usage, Known):
            stat = value_or(read_text(root, f"{group}/memory.stat"), "")
            lines = dict(line.split(" ", 1) for line in stat.splitlines())
            return max(0, usage.value - int(lines.get(cache_key, "0")))
    return None


def _own_groups(root: Path, controller: str) -> tuple[str, ...]:
    """Return the folders of this process's group and of every group above it.

    A container often sees its own group as the mount's root while /proc names the path on the host; then the mount's
    root is the group.
    """
    for line in value_of(read_text(root, "proc/self/cgroup")).splitlines():
        _, controllers, path = line.split(":", 2)
        mount = _mount_of(root, controllers, controller)
        if mount is not None:
            own = PurePosixPath(path.lstrip("/"))
            if ".." in own.parts or not (root / mount / own).is_dir():
                return (mount,)
            return tuple(str(PurePosixPath(mount) / part) for part in (own, *own.parents))
    raise ReadingFailed(f"no control group with the {controller} controller is mounted")


def _mount_of(root: Path, controllers: str, controller: str) -> str | None:
    if controllers == "":
        return _MOUNT if (root / _MOUNT / "cgroup.controllers").exists() else None
    if controller not in controllers.split(","):
        return None
    candidates = (f"{_MOUNT}/{name}" for name in (controller, controllers))
    return next((candidate for candidate in candidates if (root / candidate).is_dir()), None)
