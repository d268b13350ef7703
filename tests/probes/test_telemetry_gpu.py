from pathlib import Path

import pytest

from sdbench.probes.telemetry import Telemetry, open_telemetry
from sdbench.schema.base import Known, Unknown
from sdbench.schema.warning_codes import WarningCode
from tests.probes.replay import GPU_DEVICE, FakeClock, enter_host_pid_namespace, plant, replay_nvml

PID = 4242


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return enter_host_pid_namespace(plant(tmp_path, {"proc/loadavg": "0.25 0.10 0.05 1/123 4567\n"}))


def columns(telemetry: Telemetry) -> dict[str, tuple[float, ...]]:
    return {series.name: series.samples for series in telemetry.series()}


def codes(telemetry: Telemetry) -> set[str]:
    return {warning.code for warning in telemetry.warnings()}


def watch_gpu(root: Path, snapshot: str, sample_count: int = 4) -> Telemetry:
    telemetry = open_telemetry(GPU_DEVICE, PID, FakeClock(), nvml=replay_nvml(snapshot), root=root)
    for _ in range(sample_count):
        telemetry.sample()
    return telemetry


def test_a_healthy_gpu_is_read_next_to_the_host(root: Path) -> None:
    telemetry = watch_gpu(root, "healthy", sample_count=2)

    read = columns(telemetry)
    assert read["gpu_sm_clock_mhz"] == (2520.0, 2520.0)
    assert read["gpu_memory_clock_mhz"] == (10501.0, 10501.0)
    assert read["gpu_power_w"] == (287.45, 287.45)
    assert read["gpu_temperature_c"] == (61.0, 61.0)
    assert read["gpu_utilization_ratio"] == (0.98, 0.98)
    assert read["gpu_throttle_reasons"] == (1.0, 0.0)
    assert read["gpu_foreign_process_count"] == (0.0, 0.0)
    assert telemetry.throttled() == Known(value=False)
    assert codes(telemetry) == set()


def test_heat_and_power_that_slowed_a_gpu_are_distinguished(root: Path) -> None:
    throttled, limited = watch_gpu(root, "throttling"), watch_gpu(root, "power-limit-only")

    assert throttled.throttled() == Known(value=True)
    assert codes(throttled) == {"gpu-throttled", "gpu-power-limit"}
    messages = {warning.code: warning.message for warning in throttled.warnings()}
    assert (
        "hardware slowdown in 25% of the samples, hardware thermal slowdown in 25%"
        in messages[WarningCode.GPU_THROTTLED]
    )
    assert "in 75% of the samples" in messages[WarningCode.GPU_POWER_LIMIT]
    assert limited.throttled() == Known(value=False)
    assert codes(limited) == {"gpu-power-limit"}


def test_processes_of_others_on_the_gpu_are_counted_without_the_worker(root: Path) -> None:
    telemetry = watch_gpu(root, "foreign-process")

    assert columns(telemetry)["gpu_foreign_process_count"] == (2.0,) * 4
    assert codes(telemetry) == {"foreign-gpu-process"}


def test_in_a_containers_namespace_the_worker_is_not_counted_as_foreign(root: Path) -> None:
    (root / "proc/self/ns/pid").unlink()
    telemetry = watch_gpu(root, "healthy")

    assert "container's process namespace" in telemetry.unknown()["gpu_foreign_process_count"]
    assert codes(telemetry) == set()


def test_a_gpu_that_answers_nothing_is_unknown_column_by_column(root: Path) -> None:
    telemetry = watch_gpu(root, "not-supported")

    unknown = telemetry.unknown()
    assert len([name for name in unknown if name.startswith("gpu_")]) == 8
    assert unknown["gpu_power_w"] == "nvmlDeviceGetPowerUsage: Not Supported"
    assert isinstance(telemetry.throttled(), Unknown)


def test_a_sensor_lost_midway_drops_its_column_alone(root: Path) -> None:
    telemetry = watch_gpu(root, "lost-midway")

    gpu = {name: reason for name, reason in telemetry.unknown().items() if name.startswith("gpu")}
    assert gpu == {"gpu_power_w": "nvmlDeviceGetPowerUsage: GPU is lost (after 2 samples)"}
    assert {len(samples) for samples in columns(telemetry).values()} == {4}


def test_without_a_driver_the_whole_gpu_is_unknown(root: Path) -> None:
    telemetry = watch_gpu(root, "driver-absent")

    assert telemetry.unknown()["gpu_power_w"] == "NVML Shared Library Not Found"
    assert telemetry.throttled() == Unknown(reason="NVML Shared Library Not Found")
    assert len(columns(telemetry)["time_s"]) == 4


def test_throttling_is_unknown_without_a_sample(root: Path) -> None:
    assert watch_gpu(root, "healthy", sample_count=0).throttled() == Unknown(reason="no sample was taken")
