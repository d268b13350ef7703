from pathlib import Path
from typing import Any

import pytest

from sdbench.probes.nvml import Nvml
from sdbench.probes.nvml_library import NvmlCallError
from sdbench.probes.readings import value_of
from sdbench.probes.telemetry import Telemetry, open_telemetry
from sdbench.schema.base import Known, Unknown
from sdbench.schema.conditions import Conditions
from sdbench.schema.warning_codes import WarningCode
from tests.probes.replay import GPU_DEVICE, FakeClock, enter_host_pid_namespace, plant, replay_nvml

PID = 4242
CARDS = ("rtx-2080-super", "h100", "l40s")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return enter_host_pid_namespace(plant(tmp_path, {"proc/loadavg": "0.25 0.10 0.05 1/123 4567\n"}))


def columns(telemetry: Telemetry) -> dict[str, tuple[float, ...]]:
    return {series.name: series.samples for series in telemetry.series()}


def codes(telemetry: Telemetry) -> set[str]:
    return {warning.code for warning in telemetry.warnings()}


def sample(telemetry: Telemetry, clock: FakeClock, count: int) -> None:
    for _ in range(count):
        clock.time_s += 0.1
        telemetry.sample()


def watch_gpu(root: Path, nvml: str | Nvml, sample_count: int = 4, pid: int = PID) -> Telemetry:
    """Return telemetry of a worker that is measured from its first sample to its last."""
    clock = FakeClock()
    nvml = replay_nvml(nvml) if isinstance(nvml, str) else nvml
    telemetry = open_telemetry(GPU_DEVICE, pid, clock, nvml=nvml, root=root)
    telemetry.start_stage("measure")
    sample(telemetry, clock, sample_count)
    telemetry.start_stage("reference")
    return telemetry


class Card:
    """A busy GPU of its own (compute capability 8.9), whose answers a test changes; other calls are not supported."""

    def __init__(self, **answers: Any) -> None:
        self.fields = {186: 300_000}
        self.answers = {
            "ClockInfo": 1980,
            "MaxClockInfo": 1980,
            "UtilizationRates": {"gpu": 99, "memory": 10},
            "CurrentClocksEventReasons": 0,
            "EnforcedPowerLimit": 700_000,
            "PowerUsage": 290_000,
            "PerformanceState": 0,
            "CudaComputeCapability": [8, 9],
            "ComputeRunningProcesses": [{"pid": PID, "usedGpuMemory": 2**30}],
            "GraphicsRunningProcesses": [],
        } | answers

    def call(self, function: str, *arguments: Any) -> Any:
        if function == "nvmlDeviceGetFieldValues" and arguments[1] in self.fields:
            return self.fields[arguments[1]]
        try:
            answer = self.answers[function.removeprefix("nvmlDeviceGet")]
        except KeyError:
            raise NvmlCallError("Not Supported") from None
        if isinstance(answer, NvmlCallError):
            raise answer
        return answer


def conditions_of(root: Path, card: Card, sample_count: int = 20) -> Conditions:
    return watch_gpu(root, Nvml(card.call), sample_count).conditions()


def test_a_healthy_gpu_is_read_next_to_the_host(root: Path) -> None:
    telemetry = watch_gpu(root, "healthy", sample_count=2)

    read = columns(telemetry)
    assert read["gpu_sm_clock_mhz"] == (2520.0, 2520.0)
    assert read["gpu_memory_clock_mhz"] == (10501.0, 10501.0)
    assert read["gpu_power_w"] == (301.2, 301.2)
    assert read["gpu_temperature_c"] == (61.0, 61.0)
    assert read["gpu_utilization_ratio"] == (0.98, 0.98)
    assert read["gpu_throttle_reasons"] == (1.0, 1.0)
    assert read["gpu_foreign_process_count"] == (0.0, 0.0)
    assert (read["gpu_pcie_generation"], read["gpu_pcie_width"]) == ((4.0, 4.0), (16.0, 16.0))
    assert telemetry.throttled() == Known(value=False)
    assert codes(telemetry) == set()


def test_conditions_of_a_healthy_gpu_are_all_known(root: Path) -> None:
    conditions = watch_gpu(root, "healthy", sample_count=20).conditions()

    given = {name: value for name, value in dict(conditions).items() if isinstance(value, Unknown)}
    host = {"others_cpu_ratio", "steal_ratio", "cpu_pressure_ratio", "memory_pressure_ratio"}
    host |= {"cpu_quota_throttled_count", "cpu_quota_throttled_s"}
    assert given.keys() == host  # of which this root has no files
    assert value_of(conditions.power_mean_w) == pytest.approx(301.2)
    assert conditions.power_source == Known(value="instant")
    assert conditions.clock_max_sm_mhz == Known(value=3105)
    assert (conditions.pcie_generation, conditions.pcie_width) == (Known(value=4), Known(value=16))


def test_a_gpu_that_idles_while_the_model_loads_is_steady_in_its_measured_stage(root: Path) -> None:
    card, clock = Card(ClockInfo=345, CurrentClocksEventReasons=1), FakeClock()
    telemetry = open_telemetry(GPU_DEVICE, PID, clock, nvml=Nvml(card.call), root=root)
    telemetry.start_stage("load")
    sample(telemetry, clock, 150)
    card.answers |= {"ClockInfo": 1980, "CurrentClocksEventReasons": 0}
    telemetry.start_stage("measure")
    sample(telemetry, clock, 100)
    telemetry.start_stage("reference")
    card.answers |= {"ClockInfo": 345, "CurrentClocksEventReasons": 0x20}
    sample(telemetry, clock, 30)

    conditions = telemetry.conditions()
    assert conditions.clock_spread_ratio == Known(value=0.0)
    assert conditions.clock_mean_mhz == Known(value=1980.0)
    assert telemetry.throttled() == Known(value=False)
    assert len(columns(telemetry)["gpu_sm_clock_mhz"]) == 280
    assert columns(telemetry)["gpu_sm_clock_mhz"][149:151] == (345.0, 1980.0)


def test_throttling_within_a_short_measured_stage_is_found(root: Path) -> None:
    card, clock = Card(), FakeClock()
    telemetry = open_telemetry(GPU_DEVICE, PID, clock, nvml=Nvml(card.call), root=root)
    sample(telemetry, clock, 300)
    telemetry.start_stage("measure")
    card.answers["CurrentClocksEventReasons"] = 0x40
    sample(telemetry, clock, 4)
    card.answers["CurrentClocksEventReasons"] = 0
    sample(telemetry, clock, 16)
    telemetry.start_stage("reference")
    sample(telemetry, clock, 300)

    assert telemetry.throttled() == Known(value=True)
    (share,) = value_of(telemetry.conditions().throttle_shares)
    assert (share.reason, share.ratio) == ("hardware thermal slowdown", 0.2)


def test_throttling_between_two_samples_is_found_in_the_drivers_counter(root: Path) -> None:
    card, clock = Card(), FakeClock()
    card.fields |= {74: 10**12, 75: 5 * 10**9}
    telemetry = open_telemetry(GPU_DEVICE, PID, clock, nvml=Nvml(card.call), root=root)
    telemetry.start_stage("measure")
    sample(telemetry, clock, 20)
    card.fields[75] += 10**9
    telemetry.start_stage("reference")
    card.fields[75] += 10**9

    (share,) = value_of(telemetry.conditions().throttle_shares)
    assert share.reason == "software thermal slowdown"
    assert share.ratio == pytest.approx(0.5)
    assert telemetry.throttled() == Known(value=True)


def test_a_counter_that_runs_faster_than_time_is_no_throttling(root: Path) -> None:
    card, clock = Card(), FakeClock()
    card.fields[75] = 0
    telemetry = open_telemetry(GPU_DEVICE, PID, clock, nvml=Nvml(card.call), root=root)
    telemetry.start_stage("measure")
    sample(telemetry, clock, 20)
    card.fields[75] = 10**13
    telemetry.start_stage("reference")

    assert telemetry.conditions().throttle_shares == Known(value=())


def test_less_than_a_hundredth_of_the_time_throttled_counts_as_none(root: Path) -> None:
    card, clock = Card(), FakeClock()
    card.fields[75] = 0
    telemetry = open_telemetry(GPU_DEVICE, PID, clock, nvml=Nvml(card.call), root=root)
    telemetry.start_stage("measure")
    sample(telemetry, clock, 20)
    card.fields[75] = 10**7
    telemetry.start_stage("reference")

    assert telemetry.throttled() == Known(value=False)


def test_heat_and_power_that_slowed_a_gpu_are_distinguished(root: Path) -> None:
    throttled, limited = watch_gpu(root, "throttling", 8), watch_gpu(root, "power-limit-only", 8)

    assert throttled.throttled() == Known(value=True)
    assert codes(throttled) == {"gpu-throttled", "gpu-power-limit"}
    messages = {warning.code: warning.message for warning in throttled.warnings()}
    slowed = "hardware slowdown 25% of the time, hardware thermal slowdown 25%"
    assert slowed in messages[WarningCode.GPU_THROTTLED]
    assert "75% of the time" in messages[WarningCode.GPU_POWER_LIMIT]
    assert limited.throttled() == Known(value=False)
    assert codes(limited) == {"gpu-power-limit"}


@pytest.mark.parametrize("card", CARDS)
def test_a_real_card_at_rest_is_disturbed_by_nothing(root: Path, card: str) -> None:
    telemetry = watch_gpu(root, f"{card}-idle", sample_count=20)

    conditions = telemetry.conditions()
    assert codes(telemetry) == set()
    assert telemetry.throttled() == Known(value=False)
    assert conditions.clock_spread_ratio == Known(value=0.0)
    # The worker is on none of these cards: who else is there is not known for certain.
    assert isinstance(conditions.foreign_gpu_process_count, Unknown)


@pytest.mark.parametrize(
    ("card", "worker", "expected"),
    [
        ("rtx-2080-super", 5268, (111.5, 2055.0, 1, 2)),
        ("h100", 11345, (631.95, 1980.0, 2, 0)),
        ("l40s", 20038, (110.23, 2520.0, 1, 0)),
    ],
)
def test_a_real_card_under_load_is_read_in_units_and_its_users_told_apart(
    root: Path, card: str, worker: int, expected: tuple[float, float, int, int]
) -> None:
    power_w, clock_mhz, computing, resident = expected
    telemetry = watch_gpu(root, f"{card}-load", 20, pid=worker)

    conditions = telemetry.conditions()
    assert value_of(conditions.power_mean_w) == pytest.approx(power_w)
    assert (conditions.clock_mean_mhz, conditions.clock_spread_ratio) == (Known(value=clock_mhz), Known(value=0.0))
    assert conditions.throttle_shares == Known(value=())
    # Other processes of the same load, which compute and do not draw; the display server and a browser only draw.
    assert conditions.foreign_gpu_process_count == Known(value=computing)
    assert conditions.resident_gpu_process_count == Known(value=resident)
    assert codes(telemetry) == {"foreign-gpu-process"}


def test_power_is_the_instant_one_or_named_as_an_average(root: Path) -> None:
    card = Card()
    instant = conditions_of(root, card)
    card.fields.clear()
    average = conditions_of(root, card)
    card.answers["CudaComputeCapability"] = [8, 0]
    of_an_a100 = conditions_of(root, card)

    assert (instant.power_mean_w, instant.power_source) == (Known(value=300.0), Known(value="instant"))
    assert (average.power_mean_w, average.power_source) == (Known(value=290.0), Known(value="average over 1 s"))
    assert of_an_a100.power_source == Known(value="instant")


def test_a_p_state_that_the_driver_does_not_know_is_unknown(root: Path) -> None:
    state = conditions_of(root, Card(PerformanceState=32)).performance_state

    assert state == Unknown(reason="nvmlDeviceGetPerformanceState: the driver does not know it")


@pytest.mark.parametrize(("bits", "cause"), [(0, "the driver gave no reason"), (2, "a setting of the clocks held it")])
def test_a_steady_clock_far_below_the_maximum_is_a_warning_of_its_own(root: Path, bits: int, cause: str) -> None:
    locked = Card(ClockInfo=1890, MaxClockInfo=2625, CurrentClocksEventReasons=bits)
    telemetry = watch_gpu(root, Nvml(locked.call), 20)

    (warning,) = telemetry.warnings()
    assert warning.code == "gpu-clock-low"
    assert f"1890 of 2625 MHz, and {cause}" in warning.message
    assert telemetry.throttled() == Known(value=False)
    assert telemetry.conditions().clock_spread_ratio == Known(value=0.0)


@pytest.mark.parametrize(
    "answers",
    [
        {"ClockInfo": 2520, "MaxClockInfo": 3105},
        {"ClockInfo": 345, "MaxClockInfo": 1980, "UtilizationRates": {"gpu": 9, "memory": 1}},
    ],
)
def test_a_card_that_boosts_below_its_maximum_or_waits_for_the_host_is_no_low_clock(
    root: Path, answers: dict[str, Any]
) -> None:
    assert codes(watch_gpu(root, Nvml(Card(**answers).call), 20)) == set()


def test_processes_of_others_that_compute_are_counted_without_the_worker(root: Path) -> None:
    telemetry = watch_gpu(root, "foreign-process")

    assert columns(telemetry)["gpu_foreign_process_count"] == (2.0,) * 4
    conditions = telemetry.conditions()
    # One of them computes although it draws too; the other one only draws.
    assert (conditions.foreign_gpu_process_count, conditions.resident_gpu_process_count) == (
        Known(value=1),
        Known(value=1),
    )
    assert conditions.resident_gpu_process_bytes == Unknown(reason="NVML does not report the memory of this process")
    assert codes(telemetry) == {"foreign-gpu-process"}


def test_a_display_server_does_not_compute(root: Path) -> None:
    telemetry = watch_gpu(root, "desktop")

    conditions = telemetry.conditions()
    assert conditions.foreign_gpu_process_count == Known(value=0)
    assert conditions.resident_gpu_process_count == Known(value=1)
    assert conditions.resident_gpu_process_bytes == Known(value=4 * 2**20)
    assert codes(telemetry) == set()


def utilization(**shares: int) -> list[dict[str, int]]:
    garbage = {"pid": 1, "timeStamp": 0, "smUtil": 2**31, "memUtil": 0, "encUtil": 0, "decUtil": 0}
    return [garbage, *({"pid": int(name[1:]), "smUtil": share} for name, share in shares.items())]


@pytest.mark.parametrize(
    ("share", "computing", "resident"),
    [(40, 1, 1), (2, 1, 1), (1, 0, 2), (0, 0, 2)],
)
def test_what_a_process_computes_decides_not_on_which_list_it_stands(
    root: Path, share: int, computing: int, resident: int
) -> None:
    both = [{"pid": pid, "usedGpuMemory": 2**20} for pid in (PID, 900, 901)]
    card = Card(
        ComputeRunningProcesses=both,
        GraphicsRunningProcesses=both[1:],
        ProcessUtilization=utilization(p4242=95, p900=share),
    )
    conditions = conditions_of(root, card)

    assert conditions.foreign_gpu_process_count == Known(value=computing)
    assert conditions.resident_gpu_process_count == Known(value=resident)
    assert conditions.resident_gpu_process_bytes == Known(value=resident * 2**20)


@pytest.mark.parametrize("text", ["Not Found", "Success"])
def test_a_driver_that_has_seen_nobody_compute_says_so_in_an_error(root: Path, text: str) -> None:
    idle = [{"pid": pid, "usedGpuMemory": 2**20} for pid in (PID, 900)]
    card = Card(ComputeRunningProcesses=idle, ProcessUtilization=NvmlCallError(text))

    assert conditions_of(root, card).foreign_gpu_process_count == Known(value=0)


def test_work_of_others_outside_the_measured_stage_does_not_count(root: Path) -> None:
    others = [{"pid": pid, "usedGpuMemory": 2**20} for pid in (PID, 900)]
    card, clock = Card(ComputeRunningProcesses=others, ProcessUtilization=utilization(p900=80)), FakeClock()
    telemetry = open_telemetry(GPU_DEVICE, PID, clock, nvml=Nvml(card.call), root=root)
    sample(telemetry, clock, 15)
    card.answers["ProcessUtilization"] = utilization(p4242=99)
    telemetry.start_stage("measure")
    sample(telemetry, clock, 15)
    telemetry.start_stage("reference")

    conditions = telemetry.conditions()
    assert conditions.foreign_gpu_process_count == Known(value=0)
    assert conditions.resident_gpu_process_count == Known(value=1)
    assert columns(telemetry)["gpu_foreign_sm_ratio"][14:16] == (0.8, 0.0)


def test_the_template_and_the_supervisor_are_not_foreign(root: Path) -> None:
    plant(root, {f"proc/{PID}/stat": f"{PID} (a (b) c) S 77 1 1 0 -1 0 0 0 0 0 5 50 0 0 20 0 1 0 1\n"})
    ours = [{"pid": pid, "usedGpuMemory": 2**20} for pid in (PID, 77)]

    conditions = conditions_of(root, Card(ComputeRunningProcesses=ours))
    assert conditions.foreign_gpu_process_count == Known(value=0)
    assert conditions.resident_gpu_process_count == Known(value=0)


def test_a_list_without_our_own_worker_proves_nothing_about_others(root: Path) -> None:
    conditions = conditions_of(root, Card(ComputeRunningProcesses=[]))

    assert isinstance(conditions.foreign_gpu_process_count, Unknown)
    assert "our own worker" in conditions.foreign_gpu_process_count.reason
    others = Card(ComputeRunningProcesses=[{"pid": 900, "usedGpuMemory": 2**20}])
    assert conditions_of(root, others).foreign_gpu_process_count == Known(value=1)


def test_in_a_containers_namespace_others_are_unknown_although_the_list_is_empty(root: Path) -> None:
    (root / "proc/self/ns/pid").unlink()
    telemetry = watch_gpu(root, "healthy")

    assert "--pid=host" in telemetry.unknown()["gpu_foreign_process_count"]
    assert isinstance(telemetry.conditions().foreign_gpu_process_count, Unknown)
    assert codes(telemetry) == set()


def test_a_gpu_that_answers_nothing_is_unknown_column_by_column(root: Path) -> None:
    telemetry = watch_gpu(root, "not-supported")

    unknown = telemetry.unknown()
    assert len([name for name in unknown if name.startswith("gpu_")]) == 11
    assert unknown["gpu_power_w"] == "nvmlDeviceGetPowerUsage: Not Supported"
    assert isinstance(telemetry.throttled(), Unknown)


def test_a_sensor_that_fails_once_keeps_its_column(root: Path) -> None:
    card, clock = Card(), FakeClock()
    telemetry = open_telemetry(GPU_DEVICE, PID, clock, nvml=Nvml(card.call), root=root)
    telemetry.start_stage("measure")
    sample(telemetry, clock, 50)
    card.answers["ClockInfo"] = NvmlCallError("Unknown Error")
    sample(telemetry, clock, 1)
    card.answers["ClockInfo"] = 1980
    sample(telemetry, clock, 50)

    assert len(columns(telemetry)["gpu_sm_clock_mhz"]) == 101
    assert telemetry.unknown()["gpu_sm_clock_mhz"].startswith("1 of 101 readings failed")
    assert telemetry.conditions().clock_mean_mhz == Known(value=1980.0)


def test_a_sensor_lost_for_a_second_drops_its_column_alone(root: Path) -> None:
    telemetry = watch_gpu(root, "lost-midway", sample_count=14)

    expected = "nvmlDeviceGetPowerUsage: GPU is lost (after 2 readings)"
    assert telemetry.unknown()["gpu_power_w"] == expected
    assert telemetry.conditions().power_mean_w == Unknown(reason=expected)
    assert {len(samples) for samples in columns(telemetry).values()} == {14}


def test_without_a_driver_the_whole_gpu_is_unknown(root: Path) -> None:
    telemetry = watch_gpu(root, "driver-absent")

    assert telemetry.unknown()["gpu_power_w"] == "NVML Shared Library Not Found"
    assert telemetry.throttled() == Unknown(reason="NVML Shared Library Not Found")
    assert len(columns(telemetry)["time_s"]) == 4


def test_throttling_is_unknown_without_a_sample(root: Path) -> None:
    throttled = watch_gpu(root, "healthy", sample_count=0).throttled()

    assert throttled == Unknown(reason="0 readings in the measured stage: this needs 1")


def test_slow_quantities_are_asked_less_often_and_at_the_start_of_the_measured_stage(root: Path) -> None:
    asked: list[str] = []
    card, clock = Card(), FakeClock()

    def call(function: str, *arguments: Any) -> Any:
        asked.append(function)
        return card.call(function, *arguments)

    telemetry = open_telemetry(GPU_DEVICE, PID, clock, nvml=Nvml(call), root=root)
    sample(telemetry, clock, 25)
    telemetry.start_stage("measure")
    sample(telemetry, clock, 1)

    assert asked.count("nvmlDeviceGetUtilizationRates") == asked.count("nvmlDeviceGetPerformanceState") == 4
    assert asked.count("nvmlDeviceGetCurrentClocksEventReasons") == 14
    assert asked.count("nvmlDeviceGetComputeRunningProcesses") == 2 * 3  # once for the list, once for who computes
    assert asked.count("nvmlDeviceGetClockInfo") == 26 + 4
