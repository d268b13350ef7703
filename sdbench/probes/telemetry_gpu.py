"""Telemetry of a GPU, through NVML.

A query costs up to 0.2 ms of CPU, so only the clock is read at each sample: a launch of a second shows its spread.
"""

from pathlib import Path
from statistics import fmean
from typing import Any

from sdbench.probes.gpu import COMPUTING_RATIO, GpuUser, read_gpu_users
from sdbench.probes.nvml import CLOCK_SETTING, POWER_LIMIT, THROTTLE_REASONS, Nvml
from sdbench.probes.nvml_library import Address
from sdbench.probes.readings import ReadingFailed, as_reading, value_of, value_or
from sdbench.probes.telemetry_columns import Window, make_columns
from sdbench.schema.base import Known, Reading
from sdbench.schema.conditions import PowerSource, ThrottleShare

# At ten samples a second: five times and once a second, and each other second.
_MEDIUM_EVERY, _SLOW_EVERY, _SLOWEST_EVERY = 2, 10, 20
# Cards at rest report the power limit too: an RTX 2080 SUPER at 39 of 250 W
# (utkuozdemir/nvidia_gpu_exporter, internal/captures).
_POWER_LIMITED_MIN_RATIO = 0.5
# NVIDIA's GA100 and older: their nvmlDeviceGetPowerUsage is not averaged (nvml.h).
_CAPABILITY_WITHOUT_AVERAGE_MAX = 8.0
# Reason, and the query of the time (ns) for which it has lowered the clocks.
_TIMES = {POWER_LIMIT: Nvml.power_limit_ns, "software thermal slowdown": Nvml.thermal_ns}

# The time (ns) so far of each of these reasons.
GpuCounters = dict[str, Reading[int]]


class GpuProbe:
    """The columns of one GPU, by name."""

    def __init__(self, nvml: Nvml, address: Address, own_pids: frozenset[int], root: Path) -> None:
        """Read what does not change; ``own_pids`` are the processes that are not foreign."""
        self._nvml = nvml
        self._address = address
        self._own_pids = own_pids
        self._root = root
        # One for each reading of the column gpu_foreign_process_count.
        self._users: list[dict[int, GpuUser]] = []
        self._power_limit_w = nvml.power_limit_enforced_w(address)
        self._clock_max_mhz = nvml.clock_max_sm_mhz(address)
        self._is_instant = isinstance(nvml.power_instant_w(address), Known)
        read_power_w = nvml.power_instant_w if self._is_instant else nvml.power_w
        self.columns = make_columns({("gpu_sm_clock_mhz", "MHz"): lambda: value_of(nvml.clock_sm_mhz(address))})
        self.columns |= make_columns(
            {
                ("gpu_power_w", "W"): lambda: value_of(read_power_w(address)),
                ("gpu_throttle_reasons", "bits"): lambda: value_of(nvml.throttle_bits(address)),
            },
            _MEDIUM_EVERY,
        )
        self.columns |= make_columns(
            {
                ("gpu_memory_clock_mhz", "MHz"): lambda: value_of(nvml.clock_memory_mhz(address)),
                ("gpu_performance_state", "P-state"): lambda: value_of(nvml.performance_state(address)),
                ("gpu_temperature_c", "degC"): lambda: value_of(nvml.temperature_c(address)),
                ("gpu_utilization_ratio", "ratio"): lambda: value_of(nvml.utilization_ratio(address)),
            },
            _SLOW_EVERY,
        )
        self.columns |= make_columns(
            {
                ("gpu_pcie_generation", "generation"): lambda: value_of(nvml.pcie_generation_now(address)),
                ("gpu_pcie_width", "lanes"): lambda: value_of(nvml.pcie_width_now(address)),
                ("gpu_foreign_process_count", "processes"): self._count_foreign,
                ("gpu_foreign_sm_ratio", "ratio"): self._add_foreign_ratios,
            },
            _SLOWEST_EVERY,
        )

    def read_counters(self) -> GpuCounters:
        """Return the time (ns) for which each reason that has a counter has lowered the clocks so far."""
        return {reason: read(self._nvml, self._address) for reason, read in _TIMES.items()}

    def conditions(self, window: Window, start: GpuCounters, end: GpuCounters, duration_s: float) -> dict[str, Any]:
        """Return the GPU's fields of ``Conditions`` for a window of ``duration_s`` between its counters."""
        column, clock = self.columns, self.columns["gpu_sm_clock_mhz"]
        return {
            "throttle_shares": self._throttle_shares(window, start, end, duration_s),
            "clock_spread_ratio": clock.spread(window),
            "clock_mean_mhz": clock.mean(window),
            "clock_max_sm_mhz": self._clock_max_mhz,
            "clock_setting_ratio": self._clock_setting_ratio(window),
            "memory_clock_mean_mhz": column["gpu_memory_clock_mhz"].mean(window),
            "performance_state": self._performance_state(window),
            "power_mean_w": column["gpu_power_w"].mean(window),
            "power_source": self._power_source(),
            "utilization_mean_ratio": column["gpu_utilization_ratio"].mean(window),
            "pcie_generation": self._lowest("gpu_pcie_generation", window),
            "pcie_width": self._lowest("gpu_pcie_width", window),
            "foreign_gpu_process_count": self._computing_count(window),
            "resident_gpu_process_count": self._resident_count(window),
            "resident_gpu_process_bytes": self._resident_bytes(window),
        }

    @as_reading
    def _throttle_shares(
        self, window: Window, start: GpuCounters, end: GpuCounters, duration_s: float
    ) -> tuple[ThrottleShare, ...]:
        """Return each reason that occurred, including the power limit, and its share of the time.

        The share is the larger one of the samples and of the driver's counter, where it has one: a counter sees what
        lasts less than a sample.
        """
        masks = self.columns["gpu_throttle_reasons"].readings(window)
        ratios = {name: fmean(bool(int(mask) & bit) for mask in masks) for bit, name in THROTTLE_REASONS.items()}
        for reason in _TIMES:
            lasted_s = (value_or(end[reason], 0) - value_or(start[reason], 0)) / 1e9
            # A counter that could be read only once, or runs faster than time, says nothing.
            if isinstance(start[reason], Known) and 0 < lasted_s <= 1.1 * duration_s:
                ratios[reason] = max(ratios[reason], min(1.0, lasted_s / duration_s))
        power_w, limit_w = self.columns["gpu_power_w"].mean(window), self._power_limit_w
        if value_or(power_w, 0.0) < _POWER_LIMITED_MIN_RATIO * value_or(limit_w, 0.0) and isinstance(power_w, Known):
            del ratios[POWER_LIMIT]
        return tuple(ThrottleShare(reason=name, ratio=ratio) for name, ratio in ratios.items() if ratio)

    @as_reading
    def _clock_setting_ratio(self, window: Window) -> float:
        masks = self.columns["gpu_throttle_reasons"].readings(window)
        return fmean(bool(int(mask) & CLOCK_SETTING) for mask in masks)

    @as_reading
    def _power_source(self) -> PowerSource:
        if self._is_instant or float(value_of(self._nvml.compute_capability(self._address))) <= (
            _CAPABILITY_WITHOUT_AVERAGE_MAX
        ):
            return "instant"
        return "average over 1 s"

    @as_reading
    def _performance_state(self, window: Window) -> int:
        return int(max(self.columns["gpu_performance_state"].readings(window)))

    @as_reading
    def _lowest(self, name: str, window: Window) -> int:
        return int(min(self.columns[name].readings(window)))

    def _count_foreign(self) -> float:
        self._users.append(value_of(read_gpu_users(self._nvml, self._address, self._root)))
        return len(self._users[-1].keys() - self._own_pids)

    def _add_foreign_ratios(self) -> float:
        if not self._users:
            raise ReadingFailed(self.columns["gpu_foreign_process_count"].failure or "no process list was read")
        return sum(user.sm_ratio for pid, user in self._users[-1].items() if pid not in self._own_pids)

    def _users_in(self, window: Window) -> tuple[list[dict[int, GpuUser]], set[int]]:
        """Return the processes at each reading of a window, and which foreign ones computed on average.

        Raises:
            ReadingFailed: nothing was read; or nobody computes, not even our own worker, so others may be missing too.
        """
        column = self.columns["gpu_foreign_process_count"]
        column.readings(window)
        users = [at for position, at in zip(column.read_at, self._users, strict=True) if position in range(*window)]
        foreign = set().union(*users) - self._own_pids
        shares = {pid: fmean(at[pid].sm_ratio if pid in at else 0.0 for at in users) for pid in foreign}
        computing = {pid for pid, share in shares.items() if share > COMPUTING_RATIO}
        if not computing and not any(self._own_pids & at.keys() for at in users):
            raise ReadingFailed("NVML does not list our own worker, so it may not list others either")
        return users, computing

    @as_reading
    def _computing_count(self, window: Window) -> int:
        return len(self._users_in(window)[1])

    @as_reading
    def _resident_count(self, window: Window) -> int:
        users, computing = self._users_in(window)
        return max(len(at.keys() - computing - self._own_pids) for at in users)

    @as_reading
    def _resident_bytes(self, window: Window) -> int:
        users, computing = self._users_in(window)
        others = [[at[pid] for pid in at.keys() - computing - self._own_pids] for at in users]
        return max(sum(value_of(user.memory_bytes) for user in at) for at in others)
