from pathlib import Path

import pytest

from sdbench.probes.energy import EnergyMeter
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


def test_the_gpus_counter_is_read_before_and_after() -> None:
    meter = EnergyMeter(GPU_DEVICE, nvml=replay_nvml("healthy"))
    meter.start()
    energy = meter.stop(3, 1.5)

    assert energy.source == "nvml"
    assert joules(energy) == pytest.approx(300.0)
    assert (energy.call_count, energy.duration_s) == (3, 1.5)


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
    nvml = replay_nvml("healthy")
    meter = EnergyMeter(GPU_DEVICE, nvml=nvml)
    nvml.energy_j(0)
    meter.start()
    assert isinstance(meter.stop(1, 1.0).energy_j, Known)
    readings = iter([Known(value=5.0), Known(value=1.0)])
    nvml.energy_j = lambda index: next(readings)  # type: ignore[method-assign]
    meter.start()

    assert isinstance(meter.stop(1, 1.0).energy_j, Unknown)
