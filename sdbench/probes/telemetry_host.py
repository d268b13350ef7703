"""Telemetry of the host: clocks, load, pressure, steal, the worker's CPU time, temperature."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any, TypeVar

from sdbench.probes.cgroup import QuotaThrottling, read_quota_throttling
from sdbench.probes.clocks_and_load import find_temperature_file, list_clock_files
from sdbench.probes.readings import ReadingFailed, as_reading, known_values, value_of
from sdbench.probes.sysfs import list_cpus, read_int
from sdbench.probes.telemetry_columns import UNEXPECTED_FORMAT, KernelFiles, Window, make_columns
from sdbench.schema.base import Known, Reading
from sdbench.schema.conditions import ThrottleShare

T = TypeVar("T")

# Reading one CPU's clock may interrupt that CPU; four show the package's clock.
_CLOCKS_READ_MAX = 4
# proc(5), /proc/stat: user nice system idle iowait irq softirq steal (guest time is inside user time).
_STEAL_FIELD = 7
_IDLE_FIELDS = (3, 4)
_TIME_FIELDS = 8
# One tick of these is 1 %, the smallest share that matters.
_TICKS_MIN = 100
# proc(5), /proc/PID/stat, counted after the name in parentheses: ppid is field 4 of all, utime and stime 14 and 15.
_PARENT_FIELD = 1
_UTIME_FIELD = 11


@dataclass(frozen=True)
class HostCounters:
    """What the kernel has counted up to a time (s): ticks of all CPUs by kind and of the worker, waits, slowdowns.

    ``quota_throttling`` is what CPU limits have done.
    """

    time_s: float
    cpu_ticks: Reading[list[int]]
    worker_ticks: Reading[list[int]]
    cpu_wait_us: Reading[int]
    memory_wait_us: Reading[int]
    throttle_count: Reading[int]
    quota_throttling: Reading[QuotaThrottling]


class HostProbe:
    """The host's columns, and the counters that separate the worker's load from that of others."""

    def __init__(self, root: Path, worker_pid: int, start_s: float) -> None:
        """Read the counters to start from; ``start_s`` is the clock's reading now."""
        self.files = files = KernelFiles(root)
        self.start_s = self._now_s = start_s
        self.cpu_count = os.cpu_count() or 1
        self._elapsed_s = 0.0
        self._root = root
        self._ticks_per_s = os.sysconf("SC_CLK_TCK")
        self._read_cpu_ticks = lambda: _parse_cpu_ticks(files.read("proc/stat"))
        self._worker_file = f"proc/{worker_pid}/stat"
        self._read_worker_ticks = lambda: _parse_process_ticks(files.read(self._worker_file))
        self._cpu = start_ticks(self._read_cpu_ticks)
        self._worker = start_ticks(self._read_worker_ticks)
        clock_files = list_clock_files(root)
        clock_files = clock_files[:: -(-len(clock_files) // _CLOCKS_READ_MAX) or 1]
        temperature_file = find_temperature_file(root)
        self.columns = make_columns(
            {
                ("cpu_clock_mhz", "MHz"): lambda: _mean_clock_mhz(files, clock_files),
                ("load1", "tasks"): lambda: float(files.read("proc/loadavg").split(maxsplit=1)[0]),
                ("cpu_pressure_ratio", "ratio"): lambda: _read_pressure(files, "cpu"),
                ("memory_pressure_ratio", "ratio"): lambda: _read_pressure(files, "memory"),
                ("steal_ratio", "ratio"): self._steal_ratio,
                ("worker_cpu_ratio", "CPUs"): self._worker_cpu_ratio,
                ("cpu_temperature_c", "degC"): lambda: int(files.read(value_of(temperature_file))) / 1000,
            }
        )

    def start_sample(self, now_s: float) -> None:
        """Read the worker's CPU time at ``now_s``, before the columns are read.

        Raises:
            ReadingFailed: the worker has ended.
        """
        if isinstance(self._worker, Known):
            # Read before anything is recorded: if the worker ends meanwhile, all columns must keep the same length.
            self._worker.value.read()
        self._elapsed_s, self._now_s = now_s - self._now_s, now_s

    def read_parent_pid(self) -> Reading[int]:
        """Return the id of the worker's parent: the template, or the supervisor itself."""
        return _parsed(lambda: int(self.files.read(self._worker_file).rpartition(b")")[2].split()[_PARENT_FIELD]))

    def read_counters(self, now_s: float) -> HostCounters:
        """Return the counters at ``now_s``."""
        return HostCounters(
            time_s=now_s,
            cpu_ticks=_parsed(self._read_cpu_ticks),
            worker_ticks=_parsed(self._read_worker_ticks),
            cpu_wait_us=_parsed(lambda: _read_wait_us(self.files, "cpu")),
            memory_wait_us=_parsed(lambda: _read_wait_us(self.files, "memory")),
            throttle_count=read_throttle_count(self._root),
            quota_throttling=read_quota_throttling(self._root),
        )

    def conditions(self, window: Window, start: HostCounters, end: HostCounters) -> dict[str, Any]:
        """Return the fields of ``Conditions`` that the host gives for a window, between its counters."""
        clock = self.columns["cpu_clock_mhz"]
        return {
            "throttle_shares": _throttle_shares(start, end),
            "clock_spread_ratio": clock.spread(window),
            "clock_mean_mhz": clock.mean(window),
            "others_cpu_ratio": self._others_cpu_ratio(start, end),
            "load1_mean": self.columns["load1"].mean(window),
            "steal_ratio": _steal_ratio(start, end),
            "cpu_pressure_ratio": _wait_ratio(start, end, "cpu_wait_us"),
            "memory_pressure_ratio": _wait_ratio(start, end, "memory_wait_us"),
            "cpu_quota_throttled_count": _quota_throttling(start, end, "period_count"),
            "cpu_quota_throttled_s": _quota_throttling(start, end, "time_s"),
        }

    @as_reading
    def _others_cpu_ratio(self, start: HostCounters, end: HostCounters) -> float:
        """Return the share of the CPUs that anything but the worker kept busy on average."""
        by_field = enumerate(_cpu_ticks(start, end))
        busy_ticks = sum(ticks for field, ticks in by_field if field not in (*_IDLE_FIELDS, _STEAL_FIELD))
        others_ticks = busy_ticks - sum(_since(start.worker_ticks, end.worker_ticks))
        return max(0.0, others_ticks / self._ticks_per_s / _duration_s(start, end) / self.cpu_count)

    def _steal_ratio(self) -> float:
        """Return the share of the CPUs' time that the hypervisor gave to others; 0 where not one tick has passed."""
        ticks = value_of(self._cpu)
        ticks.read()
        changes = ticks.since_last()
        return changes[_STEAL_FIELD] / sum(changes) if sum(changes) > 0 else 0.0

    def _worker_cpu_ratio(self) -> float:
        ticks = sum(value_of(self._worker).since_last())
        return ticks / self._ticks_per_s / self._elapsed_s if self._elapsed_s > 0 else 0.0


def _duration_s(start: HostCounters, end: HostCounters) -> float:
    if end.time_s <= start.time_s:
        raise ReadingFailed("the measured stage took no time")
    return end.time_s - start.time_s


def _since(start: Reading[list[int]], end: Reading[list[int]]) -> list[int]:
    before, now = value_of(start), value_of(end)
    return [after - first for first, after in zip(before, now, strict=True)]


def _cpu_ticks(start: HostCounters, end: HostCounters) -> list[int]:
    ticks = _since(start.cpu_ticks, end.cpu_ticks)
    if sum(ticks) < _TICKS_MIN:
        raise ReadingFailed("the measured stage was shorter than a CPU second, too short for the kernel's ticks")
    return ticks


@as_reading
def _steal_ratio(start: HostCounters, end: HostCounters) -> float:
    ticks = _cpu_ticks(start, end)
    return ticks[_STEAL_FIELD] / sum(ticks)


@as_reading
def _wait_ratio(start: HostCounters, end: HostCounters, name: str) -> float:
    waited_us = value_of(getattr(end, name)) - value_of(getattr(start, name))
    return float(waited_us / 1e6 / _duration_s(start, end))


@as_reading
def _quota_throttling(start: HostCounters, end: HostCounters, name: str) -> Any:
    return getattr(value_of(end.quota_throttling), name) - getattr(value_of(start.quota_throttling), name)


@as_reading
def _throttle_shares(start: HostCounters, end: HostCounters) -> tuple[ThrottleShare, ...]:
    """Return whether heat slowed the processor: the kernel counts events, not how long they lasted."""
    slowed = value_of(end.throttle_count) > value_of(start.throttle_count)
    return (ThrottleShare(reason="CPU heat", ratio=1.0),) if slowed else ()


class Ticks:
    """Counters of the kernel in clock ticks at the reading before the last, and at the last."""

    def __init__(self, read_counters: Callable[[], list[int]]) -> None:
        self._read_counters = read_counters
        self._before = self._now = read_counters()

    def read(self) -> None:
        """Read the counters."""
        self._before, self._now = self._now, self._read_counters()

    def since_last(self) -> list[int]:
        """Return the change of each counter between the last two readings."""
        return [now - before for now, before in zip(self._now, self._before, strict=True)]


def start_ticks(read_counters: Callable[[], list[int]]) -> Reading[Ticks]:
    """Return counters that were read once, or why they cannot be read."""
    return _parsed(lambda: Ticks(read_counters))


@as_reading
def _parsed(read: Callable[[], T]) -> T:
    try:
        return read()
    except (ValueError, IndexError):
        raise ReadingFailed(UNEXPECTED_FORMAT) from None


def _parse_cpu_ticks(stat: bytes) -> list[int]:
    counters = [int(word) for word in stat.split(b"\n", 1)[0].split()[1 : _TIME_FIELDS + 1]]
    if len(counters) != _TIME_FIELDS:
        raise ValueError
    return counters


def _parse_process_ticks(stat: bytes) -> list[int]:
    """Return the user and system time of a process; its name, in parentheses, may hold spaces and parentheses."""
    words = stat.rpartition(b")")[2].split()
    return [int(words[_UTIME_FIELD]), int(words[_UTIME_FIELD + 1])]


def _mean_clock_mhz(files: KernelFiles, names: tuple[str, ...]) -> float:
    if not names:
        raise ReadingFailed("no cpufreq files (usual on virtual machines)")
    return fmean(int(files.read(name)) for name in names) / 1000


def _read_pressure(files: KernelFiles, resource: str) -> float:
    """Return the share of the last 10 s in which some task waited for the resource."""
    return float(_read_some(files, resource, b"avg10=")) / 100


def _read_wait_us(files: KernelFiles, resource: str) -> int:
    """Return the time (us) for which some task has waited for the resource since boot."""
    return int(_read_some(files, resource, b"total="))


def _read_some(files: KernelFiles, resource: str, field: bytes) -> bytes:
    """Return a value of the line ``some``, the first of a file of the kernel's PSI."""
    return files.read(f"proc/pressure/{resource}").split(field, 1)[1].split(maxsplit=1)[0]


@as_reading
def read_throttle_count(root: Path) -> int:
    """Return how often the CPUs were slowed by heat since boot."""
    parts = ("core", "package")
    files = [f"{cpu}/thermal_throttle/{part}_throttle_count" for cpu in list_cpus(root) for part in parts]
    counts = known_values(read_int(root, file) for file in files)
    if not counts:
        raise ReadingFailed("no thermal_throttle counters under /sys/devices/system/cpu (Intel bare metal only)")
    return sum(counts)
