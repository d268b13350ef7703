"""What telemetry reads of the host: clocks, load, pressure, steal, the worker's CPU time, temperature."""

import os
from pathlib import Path

from sdbench.probes.files import list_names, read_int
from sdbench.probes.state import find_temperature_file, list_clock_files
from sdbench.probes.telemetry_columns import KernelFile, Opener, ReadFloat, ReadingFailed, open_column
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
    """The host's columns, and the totals that tell the worker's load from that of others."""

    def __init__(self, root: Path, worker_pid: int, start_s: float) -> None:
        """Open the files once; ``start_s`` is the clock's reading now."""
        self.files: list[KernelFile] = []
        self._root = root
        self._ticks_per_s = os.sysconf("SC_CLK_TCK")
        self._start_s = self._now_s = start_s
        self._throttle_start = read_throttle_count(root)
        self._worker: KernelFile | None = None
        self.columns = (
            open_column("cpu_clock_mhz", "MHz", self._clock),
            open_column("load1", "tasks", self._first_word("proc/loadavg")),
            open_column("cpu_pressure_ratio", "ratio", self._pressure("proc/pressure/cpu")),
            open_column("memory_pressure_ratio", "ratio", self._pressure("proc/pressure/memory")),
            open_column("steal_ratio", "ratio", self._steal),
            open_column("worker_cpu_ratio", "CPUs", lambda: self._worker_cpu(worker_pid)),
            open_column("cpu_temperature_c", "degC", self._temperature),
        )

    def sample(self, now_s: float) -> None:
        """Take one reading of each column at ``now_s``.

        Raises:
            ProcessLookupError: the worker has ended; nothing was recorded.
        """
        if self._worker is not None:
            # Read before anything is recorded: a worker that ends meanwhile must not leave columns of two lengths.
            self._worker_stat = self._worker.read()
        self._now_s = now_s
        for column in self.columns:
            column.sample()

    def throttled(self) -> Reading[bool]:
        """Return whether the processor was slowed by heat since the start."""
        end = read_throttle_count(self._root)
        if isinstance(self._throttle_start, Unknown):
            return self._throttle_start
        return end if isinstance(end, Unknown) else Known(value=end.value > self._throttle_start.value)

    def throttle_conditions(self) -> Reading[tuple[ThrottleShare, ...]]:
        """Return whether heat slowed the processor: the kernel counts events, not how long they lasted."""
        throttled = self.throttled()
        if isinstance(throttled, Unknown):
            return throttled
        return Known(value=(ThrottleShare(reason="CPU heat", ratio=1.0),) if throttled.value else ())

    def others_cpu_count(self) -> float | None:
        """Return how many CPUs were busy on average with anything but the worker; None if that was not read."""
        elapsed_s = self._now_s - self._start_s
        needed = ("steal_ratio", "worker_cpu_ratio")
        unknown = any(column.failure is not None for column in self.columns if column.name in needed)
        if unknown or elapsed_s <= 0:
            return None
        busy_ticks = self._cpu_ticks.busy_since_start() - (self._worker_ticks - self._worker_start_ticks)
        return max(0.0, busy_ticks / self._ticks_per_s / elapsed_s)

    def _open(self, name: str) -> KernelFile:
        file = KernelFile(self._root, name)
        self.files.append(file)
        return file

    def _clock(self) -> ReadFloat:
        names = list_clock_files(self._root)
        if not names:
            raise ReadingFailed("no cpufreq files (usual on virtual machines)")
        files = [self._open(name) for name in names[:: -(-len(names) // _CLOCKS_READ_MAX)]]
        return lambda: sum(int(file.read()) for file in files) / len(files) / 1000

    def _first_word(self, name: str) -> Opener:
        def opener() -> ReadFloat:
            file = self._open(name)
            return lambda: float(file.read().split(maxsplit=1)[0])

        return opener

    def _pressure(self, name: str) -> Opener:
        """Prepare reading the share of the last 10 s in which some task waited for the resource."""

        def opener() -> ReadFloat:
            file = self._open(name)
            file.read()
            return lambda: float(file.read().split(b"avg10=", 1)[1].split(maxsplit=1)[0]) / 100

        return opener

    def _steal(self) -> ReadFloat:
        self._cpu_ticks = CpuTicks(self._open("proc/stat"))
        return self._cpu_ticks.steal_ratio

    def _worker_cpu(self, pid: int) -> ReadFloat:
        file = self._open(f"proc/{pid}/stat")
        try:
            self._worker_start_ticks = self._worker_ticks = _process_ticks(file.read())
        except ProcessLookupError:
            raise ReadingFailed("the worker ended before its first sample") from None
        self._worker = file
        last_s = self._start_s

        def read() -> float:
            nonlocal last_s
            ticks, before_ticks, before_s = _process_ticks(self._worker_stat), self._worker_ticks, last_s
            self._worker_ticks, last_s = ticks, self._now_s
            elapsed_s = self._now_s - before_s
            return (ticks - before_ticks) / self._ticks_per_s / elapsed_s if elapsed_s > 0 else 0.0

        return read

    def _temperature(self) -> ReadFloat:
        name = find_temperature_file(self._root)
        if isinstance(name, Unknown):
            raise ReadingFailed(name.reason)
        file = self._open(name.value)
        return lambda: int(file.read()) / 1000


class CpuTicks:
    """The first line of /proc/stat: what all CPUs together did, in clock ticks."""

    def __init__(self, file: KernelFile) -> None:
        """Read the counters to start from.

        Raises:
            ReadingFailed: the file cannot be read or has another form.
        """
        self._file = file
        try:
            self._start = self._last = self._read()
        except (ValueError, IndexError):
            raise ReadingFailed(f"{file.name}: the text is not of the form expected") from None

    def steal_ratio(self) -> float:
        """Return which share of the CPUs' time since the last call the hypervisor gave to others.

        Where not one tick (10 ms) has passed, none was stolen.
        """
        now, last = self._read(), self._last
        self._last = now
        passed = sum(now) - sum(last)
        return (now[_STEAL_FIELD] - last[_STEAL_FIELD]) / passed if passed > 0 else 0.0

    def busy_since_start(self) -> int:
        """Return the ticks that all CPUs together worked here between the start and the last sample."""
        without = (*_IDLE_FIELDS, _STEAL_FIELD)
        changes = [now - start for now, start in zip(self._last, self._start, strict=True)]
        return sum(change for field, change in enumerate(changes) if field not in without)

    def _read(self) -> list[int]:
        words = self._file.read().split(b"\n", 1)[0].split()
        counters = [int(word) for word in words[1 : _TIME_FIELDS + 1]]
        if len(counters) != _TIME_FIELDS:
            raise ValueError
        return counters


def _process_ticks(stat: bytes) -> int:
    """Return the CPU time of a process in ticks; its name, in parentheses, may itself hold spaces and parentheses."""
    words = stat.rpartition(b")")[2].split()
    return int(words[_UTIME_FIELD]) + int(words[_UTIME_FIELD + 1])


def read_throttle_count(root: Path) -> Reading[int]:
    """Return how often the CPUs were slowed by heat since boot."""
    cpus = list_names(root, "sys/devices/system/cpu")
    if isinstance(cpus, Unknown):
        return cpus
    files = [
        f"sys/devices/system/cpu/{cpu}/thermal_throttle/{part}_throttle_count"
        for cpu in cpus.value
        for part in ("core", "package")
    ]
    counts = [count.value for file in files if isinstance(count := read_int(root, file), Known)]
    if not counts:
        return Unknown(reason="no thermal_throttle counters under /sys/devices/system/cpu (Intel bare metal only)")
    return Known(value=sum(counts))
