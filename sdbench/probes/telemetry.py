"""Telemetry beside a worker: read from the supervisor's side, ten times a second, at little cost.

Measured on 2 virtual CPUs without a GPU: 30 microseconds of CPU a sample in a row, about 200 with the waking up.
"""

import os
import weakref
from pathlib import Path
from typing import Protocol

from sdbench.probes.devices import Device
from sdbench.probes.files import ROOT
from sdbench.probes.nvml import POWER_LIMIT, Nvml, open_nvml
from sdbench.probes.telemetry_columns import Column, ReadingFailed, read_mean, read_spread
from sdbench.probes.telemetry_gpu import GpuProbe
from sdbench.probes.telemetry_host import HostProbe
from sdbench.schema.base import Known, Reading, Unknown
from sdbench.schema.outcome import Conditions, Notice, Series

# One per cent is the size of the smallest difference a comparison resolves.
STEAL_MAX_RATIO = 0.01
MEMORY_PRESSURE_MAX_RATIO = 0.01
# Others that keep a twentieth of the machine busy share caches, memory and boost with the worker.
OTHERS_MAX_RATIO = 0.05


class Clock(Protocol):
    """What telemetry needs of a clock."""

    def now_s(self) -> float:
        """Return the time (s) since an arbitrary start."""


class Telemetry:
    """Columns of one length over the life of one worker."""

    def __init__(self, clock: Clock, host: HostProbe, gpu: GpuProbe | Unknown | None, start_s: float) -> None:
        self._clock = clock
        self._host = host
        self._gpu = gpu
        self._start_s = start_s
        self._time_s: list[float] = []
        self._ended = False
        self._cpu_count = os.cpu_count() or 1
        self._finalizer = weakref.finalize(self, _close_all, [file.descriptor for file in host.files])

    def sample(self) -> None:
        """Take one reading of everything; nothing is recorded once the worker has ended."""
        if self._ended:
            return
        now_s = self._clock.now_s()
        try:
            self._host.sample(now_s)
        except (ProcessLookupError, ReadingFailed):
            self._ended = True
            return
        if isinstance(self._gpu, GpuProbe):
            self._gpu.sample()
        self._time_s.append(now_s - self._start_s)

    def close(self) -> None:
        """Close the files. What was read stays."""
        self._ended = True
        self._finalizer()

    def series(self) -> tuple[Series, ...]:
        """Return ``time_s`` since the opening, and each known column with one sample per time."""
        time_s = Series(name="time_s", unit="s", samples=tuple(self._time_s))
        return (time_s, *(column.series() for column in self._columns() if column.failure is None))

    def unknown(self) -> tuple[tuple[str, Unknown], ...]:
        """Return the columns that could not be read, each with its reason."""
        failed = tuple((column.name, column.failure) for column in self._columns() if column.failure is not None)
        return (*failed, ("gpu", self._gpu)) if isinstance(self._gpu, Unknown) else failed

    def throttled(self) -> Reading[bool]:
        """Return whether the device was held down by power, heat or a hardware slowdown."""
        if self._gpu is None:
            return self._host.throttled()
        return self._gpu if isinstance(self._gpu, Unknown) else self._gpu.throttled()

    def conditions(self) -> Conditions:
        """Return what went on beside the launch, summed up."""
        gpu = self._gpu
        on_cpu = Unknown(reason="the device is the CPU")
        others = self._host.others_cpu_count()
        unread = Unknown(reason="the CPU time of worker and machine could not be read")
        if isinstance(gpu, GpuProbe):
            throttle_shares, foreign, clock = gpu.throttle_conditions(), gpu.foreign_count(), gpu.sm_clock
        else:
            throttle_shares, foreign = self._host.throttle_conditions(), gpu or on_cpu
            clock = self._host_column("cpu_clock_mhz")
        return Conditions(
            throttle_shares=gpu if isinstance(gpu, Unknown) else throttle_shares,
            clock_spread_ratio=gpu if isinstance(gpu, Unknown) else read_spread(clock),
            others_cpu_ratio=unread if others is None else Known(value=others / self._cpu_count),
            load1_mean=read_mean(self._host_column("load1")),
            steal_ratio=read_mean(self._host_column("steal_ratio")),
            cpu_pressure_ratio=read_mean(self._host_column("cpu_pressure_ratio")),
            memory_pressure_ratio=read_mean(self._host_column("memory_pressure_ratio")),
            foreign_gpu_process_count=foreign,
        )

    def notices(self) -> tuple[Notice, ...]:
        """Return what disturbed the measurement, with what to do about it."""
        gpu = self._gpu_notices(self._gpu) if isinstance(self._gpu, GpuProbe) else []
        return (*gpu, *self._host_notices())

    def _columns(self) -> tuple[Column, ...]:
        return (*self._host.columns, *(self._gpu.columns if isinstance(self._gpu, GpuProbe) else ()))

    def _gpu_notices(self, gpu: GpuProbe) -> list[Notice]:
        notices = []
        if foreign_count := gpu.foreign_process_count_max():
            notices.append(
                Notice(
                    code="foreign-gpu-process",
                    message=f"up to {foreign_count} other processes were on the GPU while it was measured",
                    remedy="stop them (nvidia-smi lists them) and run again",
                )
            )
        shares = gpu.throttle_shares()
        if POWER_LIMIT in shares:
            notices.append(
                Notice(
                    code="gpu-power-limit",
                    message=f"the power limit held the clocks down in {shares[POWER_LIMIT]:.0%} of the samples",
                    remedy="usual at full load; compare only with runs under the same power limit",
                )
            )
        slowed = {name: share for name, share in shares.items() if name != POWER_LIMIT}
        if slowed:
            seen = ", ".join(f"{name} in {share:.0%} of the samples" for name, share in slowed.items())
            notices.append(
                Notice(
                    code="gpu-throttled",
                    message=f"the GPU was slowed: {seen}",
                    remedy="check cooling and power supply, then run again",
                )
            )
        return notices

    def _host_notices(self) -> list[Notice]:
        notices = []
        steal = self._mean("steal_ratio")
        if steal > STEAL_MAX_RATIO:
            notices.append(
                Notice(
                    code="steal",
                    message=f"the hypervisor gave {steal:.1%} of this machine's CPU time to others",
                    remedy="use a dedicated host, or take more launches",
                )
            )
        others = self._host.others_cpu_count()
        if others is not None and others > OTHERS_MAX_RATIO * self._cpu_count:
            notices.append(
                Notice(
                    code="other-load",
                    message=f"other processes kept {others:.2f} of {self._cpu_count} CPUs busy on average",
                    remedy="stop them and run again",
                )
            )
        pressure = self._mean("memory_pressure_ratio")
        if pressure > MEMORY_PRESSURE_MAX_RATIO:
            notices.append(
                Notice(
                    code="memory-pressure",
                    message=f"tasks waited for memory {pressure:.1%} of the time",
                    remedy="free memory, or measure a smaller batch or image",
                )
            )
        return notices

    def _mean(self, name: str) -> float:
        """Return the mean of a host column; 0 where it is unknown, so that it warns of nothing."""
        mean = read_mean(self._host_column(name))
        return mean.value if isinstance(mean, Known) else 0.0

    def _host_column(self, name: str) -> Column:
        return next(column for column in self._host.columns if column.name == name)


def open_telemetry(
    device: Device, worker_pid: int, clock: Clock, *, nvml: Nvml | Unknown | None = None, root: Path = ROOT
) -> Telemetry:
    """Return telemetry of the worker and its device, with its files open; the keywords are for tests."""
    start_s = clock.now_s()
    host = HostProbe(root, worker_pid, start_s)
    if device.index is None:
        return Telemetry(clock, host, None, start_s)
    nvml = open_nvml() if nvml is None else nvml
    gpu = nvml if isinstance(nvml, Unknown) else GpuProbe(nvml, device.index, worker_pid, root)
    return Telemetry(clock, host, gpu, start_s)


def _close_all(descriptors: list[int]) -> None:
    for descriptor in descriptors:
        os.close(descriptor)
