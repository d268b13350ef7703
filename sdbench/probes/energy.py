"""Energy drawn while the timed calls ran: the GPU's own counter, or the processor's (RAPL).

Both count the whole device or package, other users included.
"""

import re
from pathlib import Path
from typing import Protocol

from sdbench.probes.devices import Device
from sdbench.probes.files import ROOT, list_names, read_int, read_text
from sdbench.probes.nvml import Nvml, open_nvml
from sdbench.schema.base import Known, Reading, Unknown
from sdbench.schema.outcome import Energy

_POWERCAP = "sys/class/powercap"
_MICRO = 1e-6
# The most a processor package is built to draw for long, with room (2026: 500 W). Only where the kernel tells no limit.
_PACKAGE_POWER_MAX_W = 1000.0


class EnergyMeter(Protocol):
    """Reads a counter twice."""

    def start(self) -> None:
        """Read the counter before the timed calls."""

    def stop(self, call_count: int, duration_s: float) -> Energy:
        """Return the energy (J) since ``start`` over ``call_count`` calls in ``duration_s`` seconds."""


class NvmlMeter:
    """The total-energy counter of one GPU (J, in steps of 1 mJ)."""

    def __init__(self, nvml: Nvml, index: int) -> None:
        self._nvml = nvml
        self._index = index
        self._start_j: Reading[float] = Unknown(reason="the meter was not started")

    def start(self) -> None:
        """Read the counter before the timed calls."""
        self._start_j = self._nvml.energy_j(self._index)

    def stop(self, call_count: int, duration_s: float) -> Energy:
        """Return the energy (J) since ``start``."""
        end_j = self._nvml.energy_j(self._index)
        if isinstance(self._start_j, Unknown):
            return _energy("none", self._start_j, call_count, duration_s)
        if isinstance(end_j, Unknown):
            return _energy("none", end_j, call_count, duration_s)
        if end_j.value < self._start_j.value:
            unknown = Unknown(reason="the energy counter fell: the driver was reloaded meanwhile")
            return _energy("nvml", unknown, call_count, duration_s)
        return _energy("nvml", Known(value=end_j.value - self._start_j.value), call_count, duration_s)


class RaplMeter:
    """The energy counters of the processor packages (J), which wrap around."""

    def __init__(self, root: Path, zones: tuple[str, ...]) -> None:
        self._root = root
        self._zones = zones
        self._start_uj: dict[str, Reading[int]] = {}

    def start(self) -> None:
        """Read the counters before the timed calls."""
        self._start_uj = {zone: self._counter(zone) for zone in self._zones}

    def stop(self, call_count: int, duration_s: float) -> Energy:
        """Return the energy (J) since ``start``, summed over the packages."""
        total_uj = 0
        for zone in self._zones:
            drawn_uj = self._drawn_uj(zone, duration_s)
            if isinstance(drawn_uj, Unknown):
                return _energy("rapl", drawn_uj, call_count, duration_s)
            total_uj += drawn_uj.value
        return _energy("rapl", Known(value=total_uj * _MICRO), call_count, duration_s)

    def _counter(self, zone: str) -> Reading[int]:
        return read_int(self._root, f"{_POWERCAP}/{zone}/energy_uj")

    def _drawn_uj(self, zone: str, duration_s: float) -> Reading[int]:
        start, end = self._start_uj.get(zone, Unknown(reason="the meter was not started")), self._counter(zone)
        if isinstance(start, Unknown):
            return start
        if isinstance(end, Unknown):
            return end
        wraps_at = read_int(self._root, f"{_POWERCAP}/{zone}/max_energy_range_uj")
        if isinstance(wraps_at, Unknown):
            return wraps_at
        unambiguous_s = wraps_at.value * _MICRO / self._power_max_w(zone)
        if duration_s > unambiguous_s:
            return Unknown(
                reason=f"the counter may have wrapped more than once: it is unambiguous for {unambiguous_s:.0f} s"
            )
        drawn_uj = end.value - start.value
        return Known(value=drawn_uj if drawn_uj >= 0 else drawn_uj + wraps_at.value)

    def _power_max_w(self, zone: str) -> float:
        """Return the highest power limit the kernel tells for the package (W)."""
        folder = f"{_POWERCAP}/{zone}"
        limits_uw = [read_int(self._root, f"{folder}/constraint_{index}_power_limit_uw") for index in range(3)]
        known_w = [limit.value * _MICRO for limit in limits_uw if isinstance(limit, Known) and limit.value > 0]
        return max(known_w, default=_PACKAGE_POWER_MAX_W)


class NoMeter:
    """Stands where no counter can be read, and says why."""

    def __init__(self, reason: Unknown) -> None:
        self._reason = reason

    def start(self) -> None:
        """There is nothing to read."""

    def stop(self, call_count: int, duration_s: float) -> Energy:
        """Return an unknown energy with the reason."""
        return _energy("none", self._reason, call_count, duration_s)


def open_energy_meter(device: Device, *, nvml: Nvml | Unknown | None = None, root: Path = ROOT) -> EnergyMeter:
    """Return the meter of the device: NVML's counter for a GPU, RAPL for the CPU, else one that says why not."""
    if device.index is None:
        zones = find_rapl_zones(root)
        return NoMeter(zones) if isinstance(zones, Unknown) else RaplMeter(root, zones.value)
    nvml = open_nvml() if nvml is None else nvml
    return NoMeter(nvml) if isinstance(nvml, Unknown) else NvmlMeter(nvml, device.index)


def find_rapl_zones(root: Path = ROOT) -> Reading[tuple[str, ...]]:
    """Return the powercap zones of the processor packages that can be read, or why there are none."""
    names = list_names(root, _POWERCAP)
    if isinstance(names, Unknown):
        return Unknown(reason=f"{names.reason}: no RAPL counters (usual on virtual machines)")
    packages = [
        name
        for name in names.value
        if re.fullmatch(r"intel-rapl:\d+", name)
        and isinstance(label := read_text(root, f"{_POWERCAP}/{name}/name"), Known)
        and label.value.startswith("package")
    ]
    if not packages:
        return Unknown(reason=f"/{_POWERCAP}: no RAPL package zones")
    for name in packages:
        counter = read_int(root, f"{_POWERCAP}/{name}/energy_uj")
        if isinstance(counter, Unknown):
            return counter
    return Known(value=tuple(packages))


def _energy(source: str, energy_j: Reading[float], call_count: int, duration_s: float) -> Energy:
    return Energy.model_validate(
        {"source": source, "energy_j": energy_j, "call_count": call_count, "duration_s": duration_s}
    )
