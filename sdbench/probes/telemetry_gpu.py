"""Telemetry of a GPU, through NVML."""

import os
from collections.abc import Callable
from pathlib import Path
from statistics import fmean

from sdbench.probes.gpu import count_foreign_processes
from sdbench.probes.nvml import THROTTLE_REASONS, Nvml
from sdbench.probes.nvml_library import Address
from sdbench.probes.readings import as_reading, value_of
from sdbench.probes.telemetry_columns import make_columns
from sdbench.schema.base import Reading
from sdbench.schema.outcome import ThrottleShare

# Listing processes is NVML's slowest query here, and processes last seconds: between listings the count is repeated.
_PROCESSES_EVERY = 10


class GpuProbe:
    """The columns of one GPU, by name."""

    def __init__(self, nvml: Nvml, address: Address, worker_pid: int, root: Path) -> None:
        own_pids = frozenset({worker_pid, os.getpid()})
        self.columns = make_columns(
            {
                ("gpu_sm_clock_mhz", "MHz"): lambda: value_of(nvml.clock_sm_mhz(address)),
                ("gpu_memory_clock_mhz", "MHz"): lambda: value_of(nvml.clock_memory_mhz(address)),
                ("gpu_performance_state", "P-state"): lambda: value_of(nvml.performance_state(address)),
                ("gpu_power_w", "W"): lambda: value_of(nvml.power_w(address)),
                ("gpu_temperature_c", "degC"): lambda: value_of(nvml.temperature_c(address)),
                ("gpu_utilization_ratio", "ratio"): lambda: value_of(nvml.utilization_ratio(address)),
                ("gpu_throttle_reasons", "bits"): lambda: value_of(nvml.throttle_bits(address)),
                ("gpu_foreign_process_count", "processes"): _rate_limited(
                    lambda: value_of(count_foreign_processes(nvml, address, own_pids, root))
                ),
            }
        )
        self.clock = self.columns["gpu_sm_clock_mhz"]

    @as_reading
    def throttle_shares(self) -> tuple[ThrottleShare, ...]:
        """Return each throttling reason that occurred, including the power limit, and its share of the samples."""
        masks = self.columns["gpu_throttle_reasons"].samples()
        ratios = {name: fmean(bool(int(mask) & bit) for mask in masks) for bit, name in THROTTLE_REASONS.items()}
        return tuple(ThrottleShare(reason=name, ratio=ratio) for name, ratio in ratios.items() if ratio)

    def memory_clock_mean_mhz(self) -> Reading[float]:
        """Return the mean clock of the GPU's memory (MHz)."""
        return self.columns["gpu_memory_clock_mhz"].mean()

    @as_reading
    def performance_state(self) -> int:
        """Return the slowest P-state of the samples."""
        return int(max(self.columns["gpu_performance_state"].samples()))

    @as_reading
    def foreign_process_count(self) -> int:
        """Return the largest number of other processes on the GPU in one sample."""
        return int(max(self.columns["gpu_foreign_process_count"].samples()))


def _rate_limited(read: Callable[[], float]) -> Callable[[], float]:
    count, last = 0, 0.0

    def read_or_repeat() -> float:
        nonlocal count, last
        if count % _PROCESSES_EVERY == 0:
            last = read()
        count += 1
        return last

    return read_or_repeat
