"""The limits that control groups put on this process, under both versions of the interface."""

import os
from math import ceil
from pathlib import Path, PurePosixPath

from sdbench.probes.files import ROOT, list_names, read_int, read_text
from sdbench.schema.base import Known, Reading, Unknown

_MOUNT = "sys/fs/cgroup"

# Version 1 writes "no limit" as the largest multiple of the page size in 63 bits; no machine has 2^60 bytes.
_V1_NO_MEMORY_LIMIT_BYTES = 2**60


def read_cgroup_version(root: Path = ROOT) -> Reading[str]:
    """Return ``v1``, ``v2`` or ``hybrid`` (v1 controllers beside a v2 tree)."""
    names = list_names(root, _MOUNT)
    if isinstance(names, Unknown):
        return names
    if "cgroup.controllers" in names.value:
        return Known(value="v2")
    if "unified" in names.value:
        return Known(value="hybrid")
    return Known(value="v1") if names.value else Unknown(reason=f"/{_MOUNT}: no control groups are mounted")


def read_cpu_limit(root: Path = ROOT) -> Reading[float | None]:
    """Return how many CPUs' worth of time the process may use, None for no limit."""
    groups = _own_groups(root, "cpu")
    if isinstance(groups, Unknown):
        return groups
    limits = [limit for group in groups.value if (limit := _cpu_limit_of(root, group)) is not None]
    return Known(value=min(limits, default=None))


def count_usable_cpus(root: Path = ROOT) -> int:
    """Return how many CPUs this process can keep busy: those of its affinity, fewer under a cgroup's limit."""
    limit = read_cpu_limit(root)
    affinity_count = len(os.sched_getaffinity(0))
    if isinstance(limit, Unknown) or limit.value is None:
        return affinity_count
    return max(1, min(affinity_count, ceil(limit.value)))


def read_memory_limit_bytes(root: Path = ROOT) -> Reading[int | None]:
    """Return how much memory (bytes) the process's groups may use, None for no limit."""
    groups = _own_groups(root, "memory")
    if isinstance(groups, Unknown):
        return groups
    limits = [limit for group in groups.value if (limit := _memory_limit_of(root, group)) is not None]
    return Known(value=min(limits, default=None))


def read_memory_left_bytes(root: Path = ROOT) -> Reading[int | None]:
    """Return how much memory (bytes) the tightest group still leaves, None for no limit; page cache counts as left."""
    groups = _own_groups(root, "memory")
    if isinstance(groups, Unknown):
        return groups
    left = []
    for group in groups.value:
        limit, used = _memory_limit_of(root, group), _memory_used_of(root, group)
        if limit is not None and used is not None:
            left.append(max(0, limit - used))
    return Known(value=min(left, default=None))


def _cpu_limit_of(root: Path, group: str) -> float | None:
    maximum = read_text(root, f"{group}/cpu.max")
    if isinstance(maximum, Known):
        quota, _, period = maximum.value.partition(" ")
        return None if quota == "max" else int(quota) / int(period or 100_000)
    quota_us, period_us = (read_int(root, f"{group}/cpu.cfs_{part}_us") for part in ("quota", "period"))
    if isinstance(quota_us, Unknown) or isinstance(period_us, Unknown) or quota_us.value < 0 or period_us.value <= 0:
        return None
    return quota_us.value / period_us.value


def _memory_limit_of(root: Path, group: str) -> int | None:
    for name in ("memory.max", "memory.limit_in_bytes"):
        limit = read_int(root, f"{group}/{name}")
        if isinstance(limit, Known):
            return limit.value if limit.value < _V1_NO_MEMORY_LIMIT_BYTES else None
    return None


def _memory_used_of(root: Path, group: str) -> int | None:
    for usage_name, cache_key in (
        ("memory.current", "inactive_file"),
        ("memory.usage_in_bytes", "total_inactive_file"),
    ):
        usage = read_int(root, f"{group}/{usage_name}")
        if isinstance(usage, Known):
            stat = read_text(root, f"{group}/memory.stat")
            lines = {} if isinstance(stat, Unknown) else dict(line.split(" ", 1) for line in stat.value.splitlines())
            return max(0, usage.value - int(lines.get(cache_key, "0")))
    return None


def _own_groups(root: Path, controller: str) -> Reading[tuple[str, ...]]:
    """Return the folders of this process's group and of every group above it.

    A container often sees its own group as the mount's root while /proc names the path on the host; then the mount's
    root is the group.
    """
    text = read_text(root, "proc/self/cgroup")
    if isinstance(text, Unknown):
        return text
    for line in text.value.splitlines():
        _, controllers, path = line.split(":", 2)
        mount = _mount_of(root, controllers, controller)
        if mount is not None:
            return Known(value=_with_parents(root, mount, path))
    return Unknown(reason=f"no control group with the {controller} controller is mounted")


def _mount_of(root: Path, controllers: str, controller: str) -> str | None:
    if controllers == "":
        return _MOUNT if (root / _MOUNT / "cgroup.controllers").exists() else None
    if controller not in controllers.split(","):
        return None
    candidates = (f"{_MOUNT}/{name}" for name in (controller, controllers))
    return next((candidate for candidate in candidates if (root / candidate).is_dir()), None)


def _with_parents(root: Path, mount: str, path: str) -> tuple[str, ...]:
    own = PurePosixPath(path.lstrip("/"))
    if ".." in own.parts or not (root / mount / own).is_dir():
        return (mount,)
    return tuple(str(PurePosixPath(mount) / part) for part in (own, *own.parents))
