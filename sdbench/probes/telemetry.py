"""Telemetry of a worker and its machine, read by the supervisor ten times a second.

Measured on 2 virtual CPUs without a GPU: 30 microseconds of CPU a sample in a row, about 200 with the waking up.
"""

import os
from collections.abc import Callable
from pathlib import Path
from time import monotonic
from typing import Any, NamedTuple

from sdbench.probes.clocks_and_load import BUSY_RATIO
from sdbench.probes.devices import Device
from sdbench.probes.nvml import POWER_LIMIT, Nvml, open_nvml
from sdbench.probes.readings import ReadingFailed, as_reading, value_of, value_or
from sdbench.probes.sysfs import ROOT
from sdbench.probes.telemetry_columns import Window
from sdbench.probes.telemetry_gpu import GpuCounters, GpuProbe
from sdbench.probes.telemetry_host import HostCounters, HostProbe
from sdbench.schema.base import Unknown
from sdbench.schema.conditions import Conditions
from sdbench.schema.outcome import RecordWarning, Series, warn
from sdbench.schema.warning_codes import WarningCode

# One per cent is the size of the smallest difference a comparison resolves.
STEAL_MAX_RATIO = 0.01
MEMORY_PRESSURE_MAX_RATIO = 0.01

# The driver may choose a fifth below the maximum by itself; ggml-org/llama.cpp#26024 is of a card at 1890 of 2625 MHz.
_LOW_CLOCK_RATIO = 0.75
_BUSY_GPU_RATIO = 0.5
# Less throttling cannot move a result by 1 %: it halves the clock at most.
_THROTTLED_MIN_RATIO = 0.01
# The timed calls, and the search for the largest batch, which times none.
_MEASURED_STAGES = ("measure", "probe")

Clock = Callable[[], float]


class _Mark(NamedTuple):
    """A moment: how many samples came before, and the counters then."""

    position: int
    host: HostCounters
    gpu: GpuCounters


class Telemetry:
    """Columns of one length over the life of one worker, and conditions of its measured stage."""

    def __init__(self, clock: Clock, host: HostProbe, gpu: GpuProbe | None) -> None:
        self._clock = clock
        self._host = host
        self._gpu = gpu
        self._columns = host.columns | (gpu.columns if gpu else {})
        self._time_s: list[float] = []
        self._ended = False
        self._start: _Mark | None = None
        self._end: _Mark | None = None

    def sample(self) -> None:
        """Take one reading of everything that is due; nothing is recorded once the worker has ended."""
        if self._ended:
            return
        now_s = self._clock()
        try:
            self._host.start_sample(now_s)
        except ReadingFailed:
            self._ended = True
            return
        for column in self._columns.values():
            column.sample()
        self._time_s.append(now_s - self._host.start_s)

    def start_stage(self, stage: str) -> None:
        """Note that the worker begins a stage: the conditions are those of the last one that is measured."""
        self._close_window()
        if stage in _MEASURED_STAGES:
            self._start, self._end = self._mark(), None
            for column in self._columns.values():
                column.make_due()

    def close(self) -> None:
        """Close the files; what was read stays."""
        self._close_window()
        self._host.files.close()

    def _close_window(self) -> None:
        if self._start and not self._end:
            self._end = self._mark()

    def _mark(self) -> _Mark:
        gpu = self._gpu.read_counters() if self._gpu else {}
        return _Mark(len(self._time_s), self._host.read_counters(self._clock()), gpu)

    def series(self) -> tuple[Series, ...]:
        """Return ``time_s`` since the opening, and each known column with one sample per time."""
        time_s = Series(name="time_s", unit="s", samples=tuple(self._time_s))
        return (time_s, *(column.series() for column in self._columns.values() if column.failure is None))

    def unknown(self) -> dict[str, str]:
        """Return which columns could not be read, or not each time, with the reason."""
        explained = {name: column.explain() for name, column in self._columns.items()}
        return {name: text for name, text in explained.items() if text is not None}

    @as_reading
    def throttled(self) -> bool:
        """Return whether heat or a hardware slowdown lowered the device's clocks in the measured stage.

        A GPU's power limit does not count: many cards run at it whenever they are busy, and it has its own warning.
        """
        shares = value_of(self.conditions().throttle_shares)
        return any(share.reason != POWER_LIMIT and share.ratio > _THROTTLED_MIN_RATIO for share in shares)

    def conditions(self) -> Conditions:
        """Return the telemetry of the measured stage, summed up."""
        if self._start is None:
            unmeasured = Unknown(reason="the worker reported no measured stage")
            return Conditions(**dict.fromkeys(Conditions.model_fields, unmeasured))
        start, end = self._start, self._end or self._mark()
        window = Window(start.position, end.position)
        fields: dict[str, Any] = dict.fromkeys(Conditions.model_fields, Unknown(reason="no GPU is used"))
        fields |= self._host.conditions(window, start.host, end.host)
        if self._gpu:
            fields |= self._gpu.conditions(window, start.gpu, end.gpu, end.host.time_s - start.host.time_s)
        return Conditions(**fields)

    def warnings(self) -> tuple[RecordWarning, ...]:
        """Return what disturbed the measurement, with what to do about it. What is unknown warns of nothing."""
        conditions = self.conditions()
        warnings = []
        if foreign_count := value_or(conditions.foreign_gpu_process_count, 0):
            message = f"other processes computed on the GPU while it was measured: {foreign_count}"
            warnings.append(warn(WarningCode.FOREIGN_GPU_PROCESS, message))
        if self._gpu:
            warnings += _warn_of_clocks(conditions)
        steal = value_or(conditions.steal_ratio, 0.0)
        if steal > STEAL_MAX_RATIO:
            message = f"the hypervisor gave {steal:.1%} of this machine's CPU time to others"
            warnings.append(warn(WarningCode.STEAL, message))
        others = value_or(conditions.others_cpu_ratio, 0.0)
        if others > BUSY_RATIO:
            cpu_count = self._host.cpu_count
            message = f"other processes kept {others * cpu_count:.2f} of {cpu_count} CPUs busy on average"
            warnings.append(warn(WarningCode.OTHER_LOAD, message))
        if throttled_count := value_or(conditions.cpu_quota_throttled_count, 0):
            throttled_s = value_or(conditions.cpu_quota_throttled_s, 0.0)
            message = (
                f"a CPU limit throttled the process in {throttled_count} periods, {throttled_s:.2f} s over all CPUs"
            )
            warnings.append(warn(WarningCode.CPU_QUOTA, message))
        pressure = value_or(conditions.memory_pressure_ratio, 0.0)
        if pressure > MEMORY_PRESSURE_MAX_RATIO:
            warnings.append(warn(WarningCode.MEMORY_PRESSURE, f"tasks waited for memory {pressure:.1%} of the time"))
        return tuple(warnings)


def _warn_of_clocks(conditions: Conditions) -> list[RecordWarning]:
    shares = value_or(conditions.throttle_shares, ())
    times = [(share.reason, f"{share.ratio:.0%} of the time") for share in shares]
    slowdowns = [f"{reason} {time}" for reason, time in times if reason != POWER_LIMIT]
    warnings = [
        warn(WarningCode.GPU_POWER_LIMIT, f"the power limit lowered the clocks {time}")
        for reason, time in times
        if reason == POWER_LIMIT
    ]
    if slowdowns:
        warnings.append(warn(WarningCode.GPU_THROTTLED, f"the GPU was slowed: {', '.join(slowdowns)}"))
    clock_mhz, max_mhz = value_or(conditions.clock_mean_mhz, 0.0), value_or(conditions.clock_max_sm_mhz, 0)
    is_busy = value_or(conditions.utilization_mean_ratio, 0.0) >= _BUSY_GPU_RATIO
    if is_busy and not shares and 0 < clock_mhz < _LOW_CLOCK_RATIO * max_mhz:
        is_set = value_or(conditions.clock_setting_ratio, 0.0) > 0
        reason = "a setting of the clocks held it down" if is_set else "the driver gave no reason"
        message = f"the SMs ran at {clock_mhz:.0f} of {max_mhz} MHz, and {reason}"
        warnings.append(warn(WarningCode.GPU_CLOCK_LOW, message))
    return warnings


def open_telemetry(
    device: Device, worker_pid: int, clock: Clock = monotonic, *, nvml: Nvml | None = None, root: Path = ROOT
) -> Telemetry:
    """Return telemetry of the worker and its device, from now on; the caller closes it. The keywords are for tests.

    ``clock`` returns the time (s) since an arbitrary start.
    """
    host = HostProbe(root, worker_pid, clock())
    if device.address is None:
        return Telemetry(clock, host, None)
    own_pids = frozenset({worker_pid, os.getpid(), value_or(host.read_parent_pid(), worker_pid)})
    return Telemetry(clock, host, GpuProbe(open_nvml() if nvml is None else nvml, device.address, own_pids, root))
