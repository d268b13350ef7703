"""What telemetry reads of a GPU, through NVML."""

import os
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sdbench.probes.gpu import count_foreign_processes
from sdbench.probes.nvml import CLOCK_MEMORY, CLOCK_SM, POWER_LIMIT, THROTTLE_REASONS, Nvml
from sdbench.probes.telemetry_columns import Column, ReadFloat, ReadingFailed
from sdbench.schema.base import Known, Reading, Unknown
from sdbench.schema.outcome import ThrottleShare

# Listing processes is NVML's dearest query here; others come and go in seconds. Between listings the count is repeated.
_PROCESSES_EVERY = 10


class GpuProbe:
    """The columns of one GPU."""

    def __init__(self, nvml: Nvml, index: int, worker_pid: int, root: Path) -> None:
        own_pids = frozenset({worker_pid, os.getpid()})
        self._throttle = Column("gpu_throttle_reasons", "bits", lambda: value_of(nvml.throttle_bits(index)))
        self._foreign = Column(
            "gpu_foreign_process_count",
            "processes",
            _now_and_then(lambda: count_foreign_processes(nvml, index, own_pids, root)),
        )
        self.sm_clock = Column("gpu_sm_clock_mhz", "MHz", lambda: value_of(nvml.clock_mhz(index, CLOCK_SM)))
        self.columns = (
            self.sm_clock,
            Column("gpu_memory_clock_mhz", "MHz", lambda: value_of(nvml.clock_mhz(index, CLOCK_MEMORY))),
            Column("gpu_power_w", "W", lambda: value_of(nvml.power_w(index))),
            Column("gpu_temperature_c", "degC", lambda: value_of(nvml.temperature_c(index))),
            Column("gpu_utilization_ratio", "ratio", lambda: value_of(nvml.utilization_ratio(index))),
            self._throttle,
            self._foreign,
        )

    def sample(self) -> None:
        """Take one reading of each column."""
        for column in self.columns:
            column.sample()

    def throttled(self) -> Reading[bool]:
        """Return whether heat or a hardware slowdown held the clocks down in any sample.

        The power limit does not count: many cards sit at it whenever they are busy, and it has a notice of its own.
        """
        if self._throttle.failure is not None:
            return self._throttle.failure
        if not self._throttle.samples():
            return Unknown(reason="no sample was taken")
        return Known(value=bool(self.throttle_shares().keys() - {POWER_LIMIT}))

    def throttle_shares(self) -> dict[str, float]:
        """Return for each throttling reason that was seen the share of samples (0 to 1) that show it."""
        masks = Counter(int(mask) for mask in self._throttle.samples())
        shares = {name: sum(n for mask, n in masks.items() if mask & bit) for bit, name in THROTTLE_REASONS.items()}
        return {name: count / masks.total() for name, count in shares.items() if count}

    def throttle_conditions(self) -> Reading[tuple[ThrottleShare, ...]]:
        """Return every throttling reason that was seen, the power limit with them, and its share of the samples."""
        if not self._throttle.samples():
            return self._throttle.failure or Unknown(reason="no sample was taken")
        return Known(value=tuple(ThrottleShare(reason=name, ratio=r) for name, r in self.throttle_shares().items()))

    def foreign_count(self) -> Reading[int]:
        """Return the most processes of others seen on the GPU at once."""
        if not self._foreign.samples():
            return self._foreign.failure or Unknown(reason="no sample was taken")
        return Known(value=self.foreign_process_count_max())

    def foreign_process_count_max(self) -> int:
        """Return the most processes of others seen on the GPU at once; 0 where that is unknown."""
        return int(max(self._foreign.samples(), default=0))


def value_of(reading: Reading[Any]) -> float:
    """Return the value of a reading.

    Raises:
        ReadingFailed: it is unknown.
    """
    if isinstance(reading, Unknown):
        raise ReadingFailed(reading.reason)
    return float(reading.value)


def _now_and_then(read: Callable[[], Reading[int]]) -> ReadFloat:
    count, last = 0, 0.0

    def read_or_repeat() -> float:
        nonlocal count, last
        if count % _PROCESSES_EVERY == 0:
            last = value_of(read())
        count += 1
        return last

    return read_or_repeat
