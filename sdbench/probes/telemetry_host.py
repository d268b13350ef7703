"""Telemetry of the host: clocks, load, pressure, steal, the worker's CPU time, temperature."""

import os
from collections.abc import Callable
from pathlib import Path
from statistics import fmean

from sdbench.probes.clocks_and_load import find_temperature_file, list_clock_files
from sdbench.probes.readings import ReadingFailed, as_reading, known_values, value_of
from sdbench.probes.sysfs import list_cpus, read_int
from sdbench.probes.telemetry_columns import UNEXPECTED_FORMAT, KernelFiles, make_columns
from sdbench.schema.base import Known, Reading, Unknown
from sdbench.schema.outcome import ThrottleShare

# Reading one CPU's clock may interrupt that CPU; four show the package's clock.
_CLOCKS_READ_MAX = 4
# proc(5), /proc/stat: user nice system idle iowait irq softirq steal (guest time is inside user time).
_STEAL_FIELD = 7
_IDLE_FIELDS = (3, 4)
_TIME_FIELDS = 8
# proc(5), /proc/PID/stat, counted after the name in parentheses: utime and stime are fields 14 and 15 of all.
_UTIME_FIELD = 11


class HostProbe:
    """The host's columns, and the totals that separate the worker's load from that of others."""

    def __init__(self, root: Path, worker_pid: int, start_s: float) -> None:
        """Read the counters to start from; ``start_s`` is the clock's reading now."""
        self.files = files = KernelFiles(root)
        self.start_s = self._now_s = start_s
        self._elapsed_s = 0.0
        self._root = root
        self._ticks_per_s = os.sysconf("SC_CLK_TCK")
        self._throttle_start = read_throttle_count(root)
        self._cpu = start_ticks(lambda: _parse_cpu_ticks(files.read("proc/stat")))
        self._worker = start_ticks(lambda: _parse_process_ticks(files.read(f"proc/{worker_pid}/stat")))
        clock_files = list_clock_files(root)
        clock_files = clock_files[:: -(-len(clock_files) // _CLOCKS_READ_MAX) or 1]
        temperature_file = find_temperature_file(root)
        self.columns = make_columns(
            {
                ("cpu_clock_mhz", "MHz"): lambda: _mean_clock_mhz(files, clock_files),
                ("load1", "tasks"): lambda: float(files.read("proc/loadavg").split(maxsplit=1)[0]),
                ("cpu_pressure_ratio", "ratio"): lambda: _read_pressure(files, "proc/pressure/cpu"),
                ("memory_pressure_ratio", "ratio"): lambda: _read_pressure(files, "proc/pressure/memory"),
                ("steal_ratio", "ratio"): self._steal_ratio,
                ("worker_cpu_ratio", "CPUs"): self._worker_cpu_ratio,
                ("cpu_temperature_c", "degC"): lambda: int(files.read(value_of(temperature_file))) / 1000,
            }
        )
        self.clock = self.columns["cpu_clock_mhz"]

    def start_sample(self, now_s: float) -> None:
        """Read the worker's CPU time at ``now_s``, before the columns are read.

        Raises:
            ReadingFailed: the worker has ended.
        """
        if isinstance(self._worker, Known):
            # Read before anything is recorded: if the worker ends meanwhile, all columns must keep the same length.
            self._worker.value.read()
        self._elapsed_s, self._now_s = now_s - self._now_s, now_s

    @as_reading
    def throttle_shares(self) -> tuple[ThrottleShare, ...]:
        """Return whether heat slowed the processor: the kernel counts events, not how long they lasted."""
        before, now = value_of(self._throttle_start), value_of(read_throttle_count(self._root))
        return (ThrottleShare(reason="CPU heat", ratio=1.0),) if now > before else ()

    def foreign_process_count(self) -> Reading[int]:
        """Return that no GPU is in use."""
        return Unknown(reason="the device is the CPU")

    def memory_clock_mean_mhz(self) -> Reading[float]:
        """Return that the host's memory clock is not known."""
        return Unknown(reason="no GPU is used")

    def performance_state(self) -> Reading[int]:
        """Return that a CPU has no P-state of this kind."""
        return Unknown(reason="no GPU is used")

    @as_reading
    def others_cpu_count(self) -> float:
        """Return how many CPUs were busy on average with anything but the worker."""
        duration_s = self._now_s - self.start_s
        failures = [self.columns[name].failure for name in ("steal_ratio", "worker_cpu_ratio")]
        if any(failures) or duration_s <= 0:
            raise ReadingFailed("the CPU time of worker and machine could not be read")
        by_field = enumerate(value_of(self._cpu).since_start())
        busy_ticks = sum(ticks for field, ticks in by_field if field not in (*_IDLE_FIELDS, _STEAL_FIELD))
        return max(0.0, (busy_ticks - sum(value_of(self._worker).since_start())) / self._ticks_per_s / duration_s)

    def _steal_ratio(self) -> float:
        """Return the share of the CPUs' time that the hypervisor gave to others; 0 where not one tick has passed."""
        ticks = value_of(self._cpu)
        ticks.read()
        changes = ticks.since_last()
        return changes[_STEAL_FIELD] / sum(changes) if sum(changes) > 0 else 0.0

    def _worker_cpu_ratio(self) -> float:
        ticks = sum(value_of(self._worker).since_last())
        return ticks / self._ticks_per_s / self._elapsed_s if self._elapsed_s > 0 else 0.0


class Ticks:
    """Counters of the kernel in clock ticks: at the start, at the reading before the last, and at the last."""

    def __init__(self, read_counters: Callable[[], list[int]]) -> None:
        self._read_counters = read_counters
        self._start = self._before = self._now = read_counters()

    def read(self) -> None:
        """Read the counters."""
        self._before, self._now = self._now, self._read_counters()

    def since_last(self) -> list[int]:
        """Return the change of each counter between the last two readings."""
        return [now - before for now, before in zip(self._now, self._before, strict=True)]

    def since_start(self) -> list[int]:
        """Return the change of each counter between the first and the last reading."""
        return [now - start for now, start in zip(self._now, self._start, strict=True)]


@as_reading
def start_ticks(read_counters: Callable[[], list[int]]) -> Ticks:
    """Return counters that were read once, or why they cannot be read."""
    try:
        return Ticks(read_counters)
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


def _read_pressure(files: KernelFiles, name: str) -> float:
    """Return the share of the last 10 s in which some task waited for the resource."""
    return float(files.read(name).split(b"avg10=", 1)[1].split(maxsplit=1)[0]) / 100


@as_reading
def read_throttle_count(root: Path) -> int:
    """Return how often the CPUs were slowed by heat since boot."""
    parts = ("core", "package")
    files = [f"{cpu}/thermal_throttle/{part}_throttle_count" for cpu in list_cpus(root) for part in parts]
    counts = known_values(read_int(root, file) for file in files)
    if not counts:
        raise ReadingFailed("no thermal_throttle counters under /sys/devices/system/cpu (Intel bare metal only)")
    return sum(counts)
