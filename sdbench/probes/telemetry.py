"""Telemetry of a worker and its machine, read by the supervisor ten times a second.

Measured on 2 virtual CPUs without a GPU: 30 microseconds of CPU a sample in a row, about 200 with the waking up.
"""

import os
from collections.abc import Callable
from pathlib import Path
from time import monotonic

from sdbench.probes.clocks_and_load import BUSY_RATIO
from sdbench.probes.devices import Device
from sdbench.probes.nvml import POWER_LIMIT, Nvml, open_nvml
from sdbench.probes.readings import ReadingFailed, as_reading, value_of, value_or
from sdbench.probes.sysfs import ROOT
from sdbench.probes.telemetry_gpu import GpuProbe
from sdbench.probes.telemetry_host import HostProbe
from sdbench.schema.base import Known, Unknown
from sdbench.schema.outcome import Conditions, RecordWarning, Series, ThrottleShare, warn
from sdbench.schema.warning_codes import WarningCode

# One per cent is the size of the smallest difference a comparison resolves.
STEAL_MAX_RATIO = 0.01
MEMORY_PRESSURE_MAX_RATIO = 0.01

Clock = Callable[[], float]


class Telemetry:
    """Columns of one length over the life of one worker."""

    def __init__(self, clock: Clock, host: HostProbe, gpu: GpuProbe | None) -> None:
        self._clock = clock
        self._host = host
        self._device = gpu or host
        self._columns = host.columns | self._device.columns
        self._time_s: list[float] = []
        self._ended = False
        self._cpu_count = os.cpu_count() or 1

    def sample(self) -> None:
        """Take one reading of everything; nothing is recorded once the worker has ended."""
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

    def close(self) -> None:
        """Close the files; what was read stays."""
        self._host.files.close()

    def series(self) -> tuple[Series, ...]:
        """Return ``time_s`` since the opening, and each known column with one sample per time."""
        time_s = Series(name="time_s", unit="s", samples=tuple(self._time_s))
        return (time_s, *(column.series() for column in self._columns.values() if column.failure is None))

    def unknown(self) -> dict[str, str]:
        """Return the columns that could not be read, each with its reason."""
        return {name: column.failure for name, column in self._columns.items() if column.failure is not None}

    @as_reading
    def throttled(self) -> bool:
        """Return whether heat or a hardware slowdown lowered the device's clocks.

        A GPU's power limit does not count: many cards run at it whenever they are busy, and it has its own warning.
        """
        return any(share.reason != POWER_LIMIT for share in value_of(self.conditions().throttle_shares))

    def conditions(self) -> Conditions:
        """Return the telemetry of the launch, summed up."""
        device, host = self._device, self._host.columns
        others = self._host.others_cpu_count()
        return Conditions(
            throttle_shares=device.throttle_shares(),
            clock_spread_ratio=device.clock.spread(),
            clock_mean_mhz=device.clock.mean(),
            memory_clock_mean_mhz=device.memory_clock_mean_mhz(),
            performance_state=device.performance_state(),
            others_cpu_ratio=others if isinstance(others, Unknown) else Known(value=others.value / self._cpu_count),
            load1_mean=host["load1"].mean(),
            steal_ratio=host["steal_ratio"].mean(),
            cpu_pressure_ratio=host["cpu_pressure_ratio"].mean(),
            memory_pressure_ratio=host["memory_pressure_ratio"].mean(),
            foreign_gpu_process_count=device.foreign_process_count(),
        )

    def warnings(self) -> tuple[RecordWarning, ...]:
        """Return what disturbed the measurement, with what to do about it. What is unknown warns of nothing."""
        conditions = self.conditions()
        warnings = []
        if foreign_count := value_or(conditions.foreign_gpu_process_count, 0):
            message = f"up to {foreign_count} other processes were on the GPU while it was measured"
            warnings.append(warn(WarningCode.FOREIGN_GPU_PROCESS, message))
        if isinstance(self._device, GpuProbe):
            warnings += _warn_of_throttling(value_or(conditions.throttle_shares, ()))
        steal = value_or(conditions.steal_ratio, 0.0)
        if steal > STEAL_MAX_RATIO:
            message = f"the hypervisor gave {steal:.1%} of this machine's CPU time to others"
            warnings.append(warn(WarningCode.STEAL, message))
        others = value_or(conditions.others_cpu_ratio, 0.0)
        if others > BUSY_RATIO:
            message = f"other processes kept {others * self._cpu_count:.2f} of {self._cpu_count} CPUs busy on average"
            warnings.append(warn(WarningCode.OTHER_LOAD, message))
        pressure = value_or(conditions.memory_pressure_ratio, 0.0)
        if pressure > MEMORY_PRESSURE_MAX_RATIO:
            warnings.append(warn(WarningCode.MEMORY_PRESSURE, f"tasks waited for memory {pressure:.1%} of the time"))
        return tuple(warnings)


def _warn_of_throttling(shares: tuple[ThrottleShare, ...]) -> list[RecordWarning]:
    shares_of_samples = [(share.reason, f"in {share.ratio:.0%} of the samples") for share in shares]
    slowdowns = [f"{reason} {share}" for reason, share in shares_of_samples if reason != POWER_LIMIT]
    warnings = [
        warn(WarningCode.GPU_POWER_LIMIT, f"the power limit lowered the clocks {share}")
        for reason, share in shares_of_samples
        if reason == POWER_LIMIT
    ]
    if slowdowns:
        warnings.append(warn(WarningCode.GPU_THROTTLED, f"the GPU was slowed: {', '.join(slowdowns)}"))
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
    return Telemetry(clock, host, GpuProbe(open_nvml() if nvml is None else nvml, device.address, worker_pid, root))
