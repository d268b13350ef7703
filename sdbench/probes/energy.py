"""Energy drawn while the timed calls ran: the GPU's own counter, or the processor's (RAPL).

Both count the whole device or package, other users included.
"""

import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Literal

from sdbench.probes.devices import Device
from sdbench.probes.nvml import Nvml, open_nvml
from sdbench.probes.readings import ReadingFailed, as_reading, known_values, value_of, value_or
from sdbench.probes.sysfs import ROOT, list_names, read_int, read_text
from sdbench.schema.base import Known, Reading, Unknown
from sdbench.schema.outcome import Energy

_POWERCAP = "sys/class/powercap"
_MICRO = 1e-6
_GPU = "gpu"
_POLL_S = 0.001
_STEP_MAX_S = 0.2
# One step is then a tenth of the energy, as are two of 0.1 s at most where they are not seen.
_STEPS_MIN = 10
_UNALIGNED_MIN_S = 2.0
# The most a processor package is built to draw for long, with room (2026: 500 W). Only where the kernel gives no limit.
_PACKAGE_POWER_MAX_W = 1000.0

# A time (s), and what the counters showed then (J).
_Step = tuple[float, dict[str, float]]


class EnergyMeter:
    """Reads the counters of a device before and after the timed calls: NVML's, or RAPL's.

    NVML's counter has a unit of 1 mJ, and advances every 20 to 100 ms. So ``start`` and ``stop`` wait for it, outside
    the timed calls, and the step in which the calls ended counts in part. RAPL's counters advance every millisecond.
    """

    def __init__(
        self,
        device: Device,
        *,
        nvml: Nvml | None = None,
        root: Path = ROOT,
        now_s: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._address = device.address
        self._nvml = nvml
        self._root = root
        self._now_s = now_s
        self._sleep = sleep
        self._zones = find_rapl_zones(root)
        self._start: Reading[dict[str, float]] = Unknown(reason="the meter was not started")
        self._is_aligned = False

    def start(self) -> None:
        """Read the counters before the timed calls; this may take 0.2 s."""
        self._start, self._is_aligned = self._read_j(), False
        if self._address is not None and isinstance(self._start, Known):
            step = self._wait_for_step(self._start.value)
            if isinstance(step, Known):
                self._start, self._is_aligned = Known(value=step.value[1]), True

    def stop(self, call_count: int, duration_s: float) -> Energy:
        """Return the energy (J) since ``start`` over ``call_count`` calls in ``duration_s`` seconds.

        Of a GPU this may take 0.4 s.
        """
        source: Literal["nvml", "rapl"] = "rapl" if self._address is None else "nvml"
        end_s, end_j = self._now_s(), self._read_j()
        steps = self._read_steps(end_j)
        return Energy(
            source="none" if isinstance(self._start, Unknown) else source,
            energy_j=self._energy_j(end_s, end_j, steps, duration_s),
            call_count=call_count,
            duration_s=duration_s,
            counter_step_s=Known(value=steps.value[1][0] - steps.value[0][0]) if isinstance(steps, Known) else steps,
        )

    @as_reading
    def _read_j(self) -> dict[str, float]:
        if self._address is not None:
            nvml = open_nvml() if self._nvml is None else self._nvml
            return {_GPU: value_of(nvml.energy_j(self._address))}
        return {zone: _MICRO * _read_zone(self._root, zone, "energy_uj") for zone in value_of(self._zones)}

    @as_reading
    def _wait_for_step(self, last_j: dict[str, float]) -> _Step:
        """Return when (s) the counter advances, and to what (J)."""
        deadline_s = self._now_s() + _STEP_MAX_S
        while self._now_s() < deadline_s:
            self._sleep(_POLL_S)
            now_j = value_of(self._read_j())
            if now_j != last_j:
                return self._now_s(), now_j
        raise ReadingFailed(f"the counter did not advance for {_STEP_MAX_S:g} s")

    @as_reading
    def _read_steps(self, end_j: Reading[dict[str, float]]) -> tuple[_Step, _Step]:
        """Return the next two steps of a GPU's counter, where the reading before the calls was aligned to one."""
        if self._address is None:
            raise ReadingFailed("RAPL's counters are not read in steps")
        value_of(self._start)
        if not self._is_aligned:
            raise ReadingFailed(f"the counter did not advance for {_STEP_MAX_S:g} s before the calls")
        first = value_of(self._wait_for_step(value_of(end_j)))
        return first, value_of(self._wait_for_step(first[1]))

    @as_reading
    def _energy_j(
        self, end_s: float, end_j: Reading[dict[str, float]], steps: Reading[tuple[_Step, _Step]], duration_s: float
    ) -> float:
        after_j, start_j = value_of(end_j), value_of(self._start)
        changes_j = {zone: after_j[zone] - start_j[zone] for zone in start_j}
        if self._address is None:
            return sum(_drawn_j(self._root, zone, change_j, duration_s) for zone, change_j in changes_j.items())
        if changes_j[_GPU] < 0:
            raise ReadingFailed("the energy counter fell: the driver was reloaded meanwhile")
        if isinstance(steps, Unknown):
            if duration_s < _UNALIGNED_MIN_S:
                raise ReadingFailed(f"{steps.reason}, so it needs calls of {_UNALIGNED_MIN_S:g} s")
            return changes_j[_GPU]
        (first_s, first_j), (second_s, _) = steps.value
        step_s = second_s - first_s
        if duration_s < _STEPS_MIN * step_s:
            raise ReadingFailed(f"the timed calls took less than {_STEPS_MIN} steps of the counter ({step_s:.3f} s)")
        # The calls ended within the step that the counter added next, as if it had been drawn evenly.
        share = min(1.0, max(0.0, 1 - (first_s - end_s) / step_s))
        return changes_j[_GPU] + share * (first_j[_GPU] - after_j[_GPU])


def _drawn_j(root: Path, zone: str, change_j: float, duration_s: float) -> float:
    """Return the energy that a processor package has drawn, from the change of its counter, which wraps around."""
    range_j = _MICRO * _read_zone(root, zone, "max_energy_range_uj")
    limits_uw = known_values(
        read_int(root, f"{_POWERCAP}/{zone}/constraint_{index}_power_limit_uw") for index in range(3)
    )
    power_max_w = max((limit * _MICRO for limit in limits_uw if limit > 0), default=_PACKAGE_POWER_MAX_W)
    if duration_s > range_j / power_max_w:
        raise ReadingFailed(
            f"the counter may have wrapped more than once: it is unambiguous for {range_j / power_max_w:.0f} s"
        )
    return change_j if change_j >= 0 else change_j + range_j


def _read_zone(root: Path, zone: str, name: str) -> int:
    return value_of(read_int(root, f"{_POWERCAP}/{zone}/{name}"))


@as_reading
def find_rapl_zones(root: Path = ROOT) -> tuple[str, ...]:
    """Return the powercap zones of the processor packages that can be read, or why there are none."""
    names = list_names(root, _POWERCAP)
    if isinstance(names, Unknown):
        raise ReadingFailed(f"{names.reason}: no RAPL counters (usual on virtual machines)")
    packages = tuple(
        name
        for name in names.value
        if re.fullmatch(r"intel-rapl:\d+", name)
        and value_or(read_text(root, f"{_POWERCAP}/{name}/name"), "").startswith("package")
    )
    if not packages:
        raise ReadingFailed(f"/{_POWERCAP}: no RAPL package zones")
    for name in packages:
        _read_zone(root, name, "energy_uj")
    return packages
