"""Energy drawn while the timed calls ran: the GPU's own counter, or the processor's (RAPL).

Both count the whole device or package, other users included.
"""

import re
from pathlib import Path
from typing import Literal

from sdbench.probes.devices import Device
from sdbench.probes.nvml import Nvml, open_nvml
from sdbench.probes.readings import ReadingFailed, as_reading, known_values, value_of, value_or
from sdbench.probes.sysfs import ROOT, list_names, read_int, read_text
from sdbench.schema.base import Reading, Unknown
from sdbench.schema.outcome import Energy

_POWERCAP = "sys/class/powercap"
_MICRO = 1e-6
# The most a processor package is built to draw for long, with room (2026: 500 W). Only where the kernel gives no limit.
_PACKAGE_POWER_MAX_W = 1000.0


class EnergyMeter:
    """Reads the counters of a device before and after the timed calls: NVML's (in steps of 1 mJ), or RAPL's."""

    def __init__(self, device: Device, *, nvml: Nvml | None = None, root: Path = ROOT) -> None:
        self._address = device.address
        self._nvml = nvml
        self._root = root
        self._zones = find_rapl_zones(root)
        self._start: Reading[dict[str, float]] = Unknown(reason="the meter was not started")

    def start(self) -> None:
        """Read the counters before the timed calls."""
        self._start = self._read_j()

    def stop(self, call_count: int, duration_s: float) -> Energy:
        """Return the energy (J) since ``start`` over ``call_count`` calls in ``duration_s`` seconds."""
        source: Literal["nvml", "rapl"] = "rapl" if self._address is None else "nvml"
        return Energy(
            source="none" if isinstance(self._start, Unknown) else source,
            energy_j=self._energy_j(duration_s),
            call_count=call_count,
            duration_s=duration_s,
        )

    @as_reading
    def _read_j(self) -> dict[str, float]:
        if self._address is not None:
            nvml = open_nvml() if self._nvml is None else self._nvml
            return {"gpu": value_of(nvml.energy_j(self._address))}
        return {zone: _MICRO * _read_zone(self._root, zone, "energy_uj") for zone in value_of(self._zones)}

    @as_reading
    def _energy_j(self, duration_s: float) -> float:
        end_j, start_j = value_of(self._read_j()), value_of(self._start)
        changes_j = {zone: end_j[zone] - start_j[zone] for zone in start_j}
        if self._address is None:
            return sum(_drawn_j(self._root, zone, change_j, duration_s) for zone, change_j in changes_j.items())
        if changes_j["gpu"] < 0:
            raise ReadingFailed("the energy counter fell: the driver was reloaded meanwhile")
        return changes_j["gpu"]


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
