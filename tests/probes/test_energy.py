from pathlib import Path
from typing import Any

import pytest

from sdbench.probes.energy import EnergyMeter
from sdbench.probes.nvml import Nvml
from sdbench.schema.base import Known, Unknown
from sdbench.schema.outcome import Energy
from tests.probes.replay import CPU_DEVICE, GPU_DEVICE, plant, replay_nvml

ZONE = "sys/class/powercap/intel-rapl:0"
OTHER = "sys/class/powercap/intel-rapl:1"
RAPL = {
    f"{ZONE}/name": "package-0\n",
    f"{ZONE}/energy_uj": "1000000\n",
    f"{ZONE}/max_energy_range_uj": "262143328850\n",
    f"{ZONE}/constraint_0_power_limit_uw": "350000000\n",
    f"{OTHER}/name": "package-1\n",
    f"{OTHER}/energy_uj": "262143328000\n",
    f"{OTHER}/max_energy_range_uj": "262143328850\n",
    "sys/class/powercap/intel-rapl:2/name": "psys\n",
    "sys/class/powercap/intel-rapl:2/energy_uj": "5\n",
    "sys/class/powercap/intel-rapl:0:0/name": "core\n",
    "sys/class/powercap/intel-rapl:0:0/energy_uj": "5\n",
}


def joules(energy: Energy) -> float:
    assert isinstance(energy.energy_j, Known)
    return energy.energy_j.value


class SteppingCounter:
    """A GPU's energy counter (mJ) that advances every ``step_s``, on a clock of its own that ``sleep`` moves."""

    def __init__(self, step_s: float) -> None:
        self.step_s = step_s
        self.time_s = 1000.03
        self.load_w = 50.0
        self._drawn_j = [0.0]
        self._counted_until = self.time_s

    def sleep(self, duration_s: float) -> None:
        for _ in range(round(duration_s * 1000)):
            before = self.time_s // self.step_s
            self.time_s += 0.001
            self._drawn_j.append(self._drawn_j[-1] + self.load_w * 0.001)
            if self.time_s // self.step_s > before:
                self._counted_until = self.time_s

    def call(self, function: str, *_: Any) -> int:
        assert function == "nvmlDeviceGetTotalEnergyConsumption"
        return round(self._drawn_j[round((self._counted_until - 1000.03) * 1000)] * 1000)

    def meter(self) -> EnergyMeter:
        return EnergyMeter(GPU_DEVICE, nvml=Nvml(self.call), now_s=lambda: self.time_s, sleep=self.sleep)

    def measure(self, calls_s: float, power_w: float) -> Energy:
        meter = self.meter()
        self.sleep(0.217)
        meter.start()
        self.load_w = power_w
        self.sleep(calls_s)
        self.load_w = 50.0
        return meter.stop(3, calls_s)


@pytest.mark.parametrize("step_s", [0.02, 0.1])
@pytest.mark.parametrize("calls_s", [1.0, 1.3, 3.973, 20.05])
def test_energy_of_a_counter_with_steps_is_off_by_less_than_a_step(step_s: float, calls_s: float) -> None:
    energy = SteppingCounter(step_s).measure(calls_s, 600.0)

    assert joules(energy) == pytest.approx(600.0 * calls_s, abs=0.6 * step_s * 600.0)
    assert isinstance(energy.counter_step_s, Known)
    assert energy.counter_step_s.value == pytest.approx(step_s, abs=0.002)
    assert (energy.source, energy.call_count, energy.duration_s) == ("nvml", 3, calls_s)


def test_energy_of_calls_that_are_short_against_the_counters_steps_is_unknown() -> None:
    energy = SteppingCounter(0.1).measure(0.15, 600.0)

    assert energy.source == "nvml"
    assert isinstance(energy.energy_j, Unknown)
    assert "less than 10 steps of the counter (0.100 s)" in energy.energy_j.reason


def test_a_counter_whose_steps_are_not_seen_needs_two_seconds() -> None:
    short, long = (SteppingCounter(0.5).measure(calls_s, 600.0) for calls_s in (1.9, 10.0))

    assert isinstance(short.energy_j, Unknown)
    assert "did not advance for 0.2 s" in short.energy_j.reason
    assert joules(long) == pytest.approx(6000.0, rel=0.1)
    assert isinstance(long.counter_step_s, Unknown)


def test_waiting_for_the_counter_takes_at_most_a_step_before_and_two_after() -> None:
    counter = SteppingCounter(0.1)
    meter = counter.meter()
    begun_s = counter.time_s
    meter.start()
    started_s = counter.time_s
    meter.stop(1, 1.0)

    assert started_s - begun_s <= 0.101
    assert counter.time_s - started_s <= 0.202


@pytest.mark.parametrize("snapshot", ["not-supported", "driver-absent"])
def test_a_gpu_without_the_counter_has_unknown_energy(snapshot: str) -> None:
    meter = EnergyMeter(GPU_DEVICE, nvml=replay_nvml(snapshot))
    meter.start()
    energy = meter.stop(1, 1.0)

    assert energy.source == "none"
    assert isinstance(energy.energy_j, Unknown)


def test_packages_are_summed_over_the_wrap_around_and_nothing_else_is(tmp_path: Path) -> None:
    meter = EnergyMeter(CPU_DEVICE, root=plant(tmp_path, RAPL))
    meter.start()
    plant(tmp_path, {f"{ZONE}/energy_uj": "3000000\n", f"{OTHER}/energy_uj": "1999150\n"})
    energy = meter.stop(2, 1.0)

    assert energy.source == "rapl"
    assert joules(energy) == pytest.approx(2.0 + 2.0)


def test_a_time_in_which_the_counter_can_wrap_twice_is_unknown(tmp_path: Path) -> None:
    meter = EnergyMeter(CPU_DEVICE, root=plant(tmp_path, RAPL))
    meter.start()

    # 262 kJ last 749 s at the 350 W the first package is limited to, and 262 s at the 1000 W assumed for the second.
    assert isinstance(meter.stop(1, 261.0).energy_j, Known)
    assert isinstance(meter.stop(1, 263.0).energy_j, Unknown)


def test_a_meter_that_was_not_started_reads_nothing(tmp_path: Path) -> None:
    energy = EnergyMeter(CPU_DEVICE, root=plant(tmp_path, RAPL)).stop(1, 1.0)

    assert energy.energy_j == Unknown(reason="the meter was not started")


def test_a_counter_that_goes_away_is_unknown_not_zero(tmp_path: Path) -> None:
    meter = EnergyMeter(CPU_DEVICE, root=plant(tmp_path, RAPL))
    meter.start()
    (tmp_path / ZONE / "energy_uj").unlink()

    assert isinstance(meter.stop(1, 1.0).energy_j, Unknown)


def test_a_machine_without_rapl_says_so(tmp_path: Path) -> None:
    energy = EnergyMeter(CPU_DEVICE, root=tmp_path).stop(1, 1.0)

    assert energy.source == "none"
    assert "no RAPL counters" in str(energy.energy_j)


def test_counters_only_the_superuser_may_read_say_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = plant(tmp_path, RAPL)
    read_text = Path.read_text

    def refuse(path: Path, *arguments: str, **options: str) -> str:
        if path.name == "energy_uj":
            raise PermissionError(13, "Permission denied")
        return read_text(path, *arguments, **options)

    monkeypatch.setattr(Path, "read_text", refuse)

    energy = EnergyMeter(CPU_DEVICE, root=root).stop(1, 1.0)

    assert energy.energy_j == Unknown(reason=f"/{ZONE}/energy_uj: permission denied")


def test_a_counter_that_falls_means_a_reloaded_driver() -> None:
    counter = SteppingCounter(0.1)
    counter.sleep(5.0)
    meter = counter.meter()
    meter.start()
    counter._drawn_j = [0.0] * len(counter._drawn_j)
    counter.sleep(5.0)

    energy = meter.stop(1, 5.0)
    assert energy.energy_j == Unknown(reason="the energy counter fell: the driver was reloaded meanwhile")
