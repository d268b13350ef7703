import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sdbench.probes.readings import ReadingFailed, value_of
from sdbench.probes.telemetry import Telemetry, open_telemetry
from sdbench.probes.telemetry_columns import KernelFiles
from sdbench.schema.base import Known, Unknown
from tests.probes.replay import BARE_METAL, CPU_DEVICE, FakeClock, plant

TICKS_PER_S = os.sysconf("SC_CLK_TCK")
PID = 4242


def stat(busy_s: float = 0, idle_s: float = 0, steal_s: float = 0) -> dict[str, str]:
    busy, idle, steal = (round(seconds * TICKS_PER_S) for seconds in (busy_s, idle_s, steal_s))
    return {"proc/stat": f"cpu  {1000 + busy} 0 0 {5000 + idle} 0 0 0 {10 + steal} 0 0\ncpu0 1 2 3\nintr 1\n"}


def worker(cpu_s: float = 0) -> dict[str, str]:
    ticks = round(cpu_s * TICKS_PER_S)
    return {f"proc/{PID}/stat": f"{PID} (a (b) c) S 1 1 1 0 -1 0 0 0 0 0 {ticks} 50 0 0 20 0 1 0 1\n"}


def pressure(cpu: float = 0, memory: float = 0) -> dict[str, str]:
    line = "some avg10={:.2f} avg60=0.00 avg300=0.00 total={:.0f}\nfull avg10=9.00 avg60=0.00 avg300=0.00 total=1\n"
    return {
        "proc/pressure/cpu": line.format(cpu, cpu * 1e5),
        "proc/pressure/memory": line.format(memory, memory * 1e5),
    }


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return plant(tmp_path, {**BARE_METAL, **stat(), **worker(), **pressure()})


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


def columns(telemetry: Telemetry) -> dict[str, tuple[float, ...]]:
    return {series.name: series.samples for series in telemetry.series()}


def open_files() -> list[str]:
    return [entry.name for entry in Path("/proc/self/fd").iterdir()]


def watch(root: Path, clock: FakeClock) -> Telemetry:
    """Return telemetry of a worker that has begun its measured stage."""
    telemetry = open_telemetry(CPU_DEVICE, PID, clock, root=root)
    telemetry.start_stage("measure")
    return telemetry


def codes(telemetry: Telemetry) -> set[str]:
    return {warning.code for warning in telemetry.warnings()}


def test_each_quantity_is_read_in_its_unit(root: Path, clock: FakeClock) -> None:
    telemetry = watch(root, clock)
    clock.time_s += 2
    plant(root, {**stat(busy_s=3, idle_s=0.5, steal_s=0.5), **worker(cpu_s=3), **pressure(cpu=12.5, memory=0.5)})
    telemetry.sample()
    clock.time_s += 1
    telemetry.sample()

    assert columns(telemetry) == {
        "time_s": (2.0, 3.0),
        "cpu_clock_mhz": (2500.0, 2500.0),
        "load1": (0.25, 0.25),
        "cpu_pressure_ratio": (0.125, 0.125),
        "memory_pressure_ratio": (0.005, 0.005),
        "steal_ratio": (0.125, 0.0),
        "worker_cpu_ratio": (1.5, 0.0),
        "cpu_temperature_c": (56.5, 56.5),
    }
    assert telemetry.unknown() == {}


def test_what_the_machine_does_not_have_is_unknown(tmp_path: Path, clock: FakeClock) -> None:
    telemetry = open_telemetry(CPU_DEVICE, PID, clock, root=plant(tmp_path, {"proc/loadavg": "1.5 1 1 1/1 1\n"}))
    telemetry.sample()

    assert set(columns(telemetry)) == {"time_s", "load1"}
    reasons = telemetry.unknown()
    assert len(reasons) == 6
    assert reasons["cpu_pressure_ratio"] == "/proc/pressure/cpu: not there"
    assert isinstance(telemetry.throttled(), Unknown)
    assert telemetry.warnings() == ()


@pytest.mark.parametrize("text", ["", "nonsense\n", "cpu 1 2 3\n"])
def test_a_reading_that_fails_once_keeps_the_column_and_is_counted(root: Path, clock: FakeClock, text: str) -> None:
    telemetry = watch(root, clock)
    telemetry.sample()
    plant(root, {"proc/stat": text})
    telemetry.sample()
    plant(root, stat())
    telemetry.sample()

    reasons = telemetry.unknown()
    assert set(reasons) == {"steal_ratio"}
    assert reasons["steal_ratio"].startswith("1 of 3 readings failed, the last value stands for them: ")
    assert {len(samples) for samples in columns(telemetry).values()} == {3}
    assert codes(telemetry) == set()


def test_a_value_that_stands_for_a_failed_reading_is_in_no_mean(root: Path, clock: FakeClock) -> None:
    telemetry = watch(root, clock)
    for load in ("1", "x", "x", "4"):
        plant(root, {"proc/loadavg": f"{load} 1 1 1/1 1\n"})
        telemetry.sample()

    assert columns(telemetry)["load1"] == (1.0, 1.0, 1.0, 4.0)
    assert telemetry.conditions().load1_mean == Known(value=2.5)


@settings(max_examples=30, deadline=None)
@given(plans=st.lists(st.sets(st.sampled_from(["proc/loadavg", "proc/stat", "proc/pressure/cpu"])), max_size=25))
def test_all_columns_keep_one_length_whatever_fails(tmp_path_factory: Any, plans: list[set[str]]) -> None:
    good = {"proc/loadavg": "1 1 1 1/1 1\n", **stat(), **worker(), **pressure()}
    root = plant(tmp_path_factory.mktemp("root"), good)
    telemetry = open_telemetry(CPU_DEVICE, PID, FakeClock(), root=root)
    for broken in plans:
        plant(root, dict.fromkeys(broken, "x"))
        telemetry.sample()
        plant(root, {name: good[name] for name in broken})

    assert {len(samples) for samples in columns(telemetry).values()} == {len(plans)}
    missing = {"cpu_clock_mhz", "cpu_temperature_c"}
    assert len(telemetry.unknown().keys() - missing) == len(set().union(*plans))


def test_nothing_is_recorded_once_the_worker_has_ended() -> None:
    process = subprocess.Popen(["cat"], stdin=subprocess.PIPE)
    telemetry = open_telemetry(CPU_DEVICE, process.pid, FakeClock())
    telemetry.sample()
    process.communicate()
    telemetry.sample()
    telemetry.sample()

    lengths = {len(samples) for samples in columns(telemetry).values()}
    assert lengths == {1}
    assert "worker_cpu_ratio" in columns(telemetry)


def test_a_worker_that_ends_between_two_readings_leaves_one_length(
    root: Path, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    telemetry = watch(root, clock)
    telemetry.sample()
    reads_left = 3

    read = KernelFiles.read

    def end_after_some(files: KernelFiles, name: str) -> bytes:
        nonlocal reads_left
        reads_left -= 1
        if reads_left < 0 and name == f"proc/{PID}/stat":
            raise ReadingFailed("the process has ended")
        return read(files, name)

    monkeypatch.setattr(KernelFiles, "read", end_after_some)
    telemetry.sample()
    telemetry.sample()

    assert {len(samples) for samples in columns(telemetry).values()} == {2}


def test_files_stay_open_from_sample_to_sample_until_the_telemetry_is_closed(
    root: Path, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = open_files()
    telemetry = watch(root, clock)
    telemetry.sample()
    with monkeypatch.context() as patch:
        patch.setattr(os, "open", None)
        telemetry.sample()
    assert telemetry.unknown() == {}
    telemetry.close()

    assert open_files() == before


def test_heat_that_slowed_the_processor_is_seen_in_its_counters(root: Path, clock: FakeClock) -> None:
    telemetry = watch(root, clock)

    assert telemetry.throttled() == Known(value=False)
    plant(root, {"sys/devices/system/cpu/cpu0/thermal_throttle/package_throttle_count": "5\n"})
    assert telemetry.throttled() == Known(value=True)


@pytest.mark.parametrize(("steal_s", "expected"), [(0.01, set()), (0.03, {"steal"})])
def test_more_than_one_per_cent_of_stolen_time_is_a_warning(
    root: Path, clock: FakeClock, steal_s: float, expected: set[str]
) -> None:
    telemetry = watch(root, clock)
    clock.time_s += 1
    plant(root, {**stat(busy_s=1, idle_s=1 - steal_s, steal_s=steal_s), **worker(cpu_s=1)})
    telemetry.sample()

    assert codes(telemetry) == expected


@pytest.mark.parametrize(("others_s", "expected"), [(0.0, set()), (10.0, {"other-load"})])
def test_load_of_others_is_told_from_the_workers(
    root: Path, clock: FakeClock, others_s: float, expected: set[str]
) -> None:
    telemetry = watch(root, clock)
    clock.time_s += 10
    plant(root, {**stat(busy_s=20 + others_s, idle_s=100), **worker(cpu_s=20)})
    telemetry._host.cpu_count = 4
    telemetry.sample()

    assert codes(telemetry) == expected


def test_stolen_time_is_nobodys_load_here(root: Path, clock: FakeClock) -> None:
    telemetry = watch(root, clock)
    clock.time_s += 10
    plant(root, {**stat(busy_s=20, steal_s=10), **worker(cpu_s=20)})
    telemetry.sample()

    assert codes(telemetry) == {"steal"}


def test_waiting_for_memory_is_a_warning(root: Path, clock: FakeClock) -> None:
    telemetry = watch(root, clock)
    clock.time_s += 10
    plant(root, pressure(memory=20))
    telemetry.sample()

    assert codes(telemetry) == {"memory-pressure"}
    assert telemetry.conditions().memory_pressure_ratio == Known(value=0.2)


def quota(count: int, time_us: int) -> dict[str, str]:
    return {"sys/fs/cgroup/user.slice/cpu.stat": f"usage_usec 1\nnr_throttled {count}\nthrottled_usec {time_us}\n"}


def test_a_cpu_limit_that_throttled_in_timed_calls_is_a_warning(root: Path, clock: FakeClock) -> None:
    plant(root, quota(10, 1_000_000))
    telemetry = open_telemetry(CPU_DEVICE, PID, clock, root=root)
    plant(root, quota(20, 2_000_000))
    telemetry.start_stage("measure")
    assert codes(telemetry) == set()

    plant(root, quota(23, 2_400_000))
    telemetry.start_stage("reference")
    plant(root, quota(99, 9_000_000))

    conditions = telemetry.conditions()
    assert conditions.cpu_quota_throttled_count == Known(value=3)
    assert value_of(conditions.cpu_quota_throttled_s) == pytest.approx(0.4)
    assert codes(telemetry) == {"cpu-quota"}


def test_without_a_counter_the_throttling_of_a_cpu_limit_is_unknown(root: Path, clock: FakeClock) -> None:
    conditions = watch(root, clock).conditions()

    assert isinstance(conditions.cpu_quota_throttled_count, Unknown)
    assert isinstance(conditions.cpu_quota_throttled_s, Unknown)


def test_what_others_did_before_and_after_the_measured_stage_is_in_no_condition(root: Path, clock: FakeClock) -> None:
    telemetry = open_telemetry(CPU_DEVICE, PID, clock, root=root)
    telemetry.start_stage("load")
    clock.time_s += 10
    plant(root, {**stat(busy_s=30, steal_s=5), **worker(cpu_s=10), **pressure(cpu=90, memory=90)})
    telemetry.sample()
    telemetry.start_stage("measure")
    clock.time_s += 10
    plant(root, {**stat(busy_s=40, idle_s=10, steal_s=5), **worker(cpu_s=20)})
    telemetry.sample()
    telemetry.start_stage("reference")
    clock.time_s += 10
    plant(root, {**stat(busy_s=90, idle_s=10, steal_s=9), **worker(cpu_s=20), **pressure(cpu=99, memory=99)})
    telemetry.sample()

    conditions = telemetry.conditions()
    assert conditions.others_cpu_ratio == Known(value=0.0)
    assert conditions.steal_ratio == Known(value=0.0)
    assert conditions.memory_pressure_ratio == Known(value=0.0)
    assert codes(telemetry) == set()
    assert len(columns(telemetry)["time_s"]) == 3


def test_the_clock_of_the_processor_is_that_of_the_measured_stage(root: Path, clock: FakeClock) -> None:
    def run_at(mhz: int, sample_count: int) -> None:
        files = {f"sys/devices/system/cpu/cpu{cpu}/cpufreq/scaling_cur_freq": f"{mhz}000\n" for cpu in (0, 1)}
        plant(root, files)
        for _ in range(sample_count):
            telemetry.sample()

    telemetry = open_telemetry(CPU_DEVICE, PID, clock, root=root)
    run_at(800, 40)
    telemetry.start_stage("measure")
    run_at(3600, 20)
    telemetry.start_stage("reference")
    run_at(900, 20)

    conditions = telemetry.conditions()
    assert (conditions.clock_mean_mhz, conditions.clock_spread_ratio) == (Known(value=3600.0), Known(value=0.0))


def test_a_measured_stage_too_short_for_a_spread_says_so(root: Path, clock: FakeClock) -> None:
    telemetry = watch(root, clock)
    for _ in range(3):
        telemetry.sample()

    spread = telemetry.conditions().clock_spread_ratio
    assert spread == Unknown(reason="3 readings in the measured stage: this needs 10")


def test_a_tick_of_others_in_a_short_measured_stage_is_no_load(root: Path, clock: FakeClock) -> None:
    telemetry = watch(root, clock)
    clock.time_s += 0.08
    plant(root, {**stat(busy_s=0.09, idle_s=0.06, steal_s=0.01), **worker(cpu_s=0.08)})
    telemetry.sample()

    assert codes(telemetry) == set()
    assert isinstance(telemetry.conditions().others_cpu_ratio, Unknown)


def test_without_a_measured_stage_there_are_no_conditions(root: Path, clock: FakeClock) -> None:
    telemetry = open_telemetry(CPU_DEVICE, PID, clock, root=root)
    telemetry.start_stage("load")
    telemetry.sample()

    assert telemetry.conditions().load1_mean == Unknown(reason="the worker reported no measured stage")
    assert telemetry.warnings() == ()


def test_of_two_measured_stages_the_last_one_counts(root: Path, clock: FakeClock) -> None:
    telemetry = open_telemetry(CPU_DEVICE, PID, clock, root=root)
    for load, stages in (("9", ("measure", "load")), ("2", ("measure", "compare"))):
        plant(root, {"proc/loadavg": f"{load} 1 1 1/1 1\n"})
        telemetry.start_stage(stages[0])
        telemetry.sample()
        telemetry.start_stage(stages[1])

    assert telemetry.conditions().load1_mean == Known(value=2.0)
