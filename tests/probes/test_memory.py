import os
from pathlib import Path

import pytest

from sdbench.probes.memory import HostMemoryProbe, read_device_memory
from sdbench.schema.base import Known, Unknown
from tests.probes.replay import CPU_DEVICE, GPU_DEVICE, plant, replay_nvml

MIB = 1024**2


def status(peak_mib: int, now_mib: int) -> dict[str, str]:
    lines = f"Name:\tpython\nVmHWM:\t{peak_mib * 1024} kB\nVmRSS:\t{now_mib * 1024} kB\n"
    return {"proc/self/status": lines + "RssAnon:\t40960 kB\nRssFile:\t10240 kB\n"}


@pytest.mark.skipif(not os.access("/proc/self/clear_refs", os.W_OK), reason="the kernel does not let the peak be reset")
def test_a_short_peak_of_this_process_is_seen_exactly() -> None:
    probe = HostMemoryProbe()
    probe.reset()
    before = probe.read()[0]
    block = bytearray(b"x") * (64 * MIB)
    del block
    after = probe.read()[0]
    probe.reset()
    again = probe.read()[0]

    assert isinstance(before, Known)
    assert isinstance(after, Known)
    assert isinstance(again, Known)
    assert 60 * MIB < after.value - before.value < 80 * MIB
    assert again.value < after.value - 50 * MIB


def test_the_peak_is_reset(tmp_path: Path) -> None:
    probe = HostMemoryProbe(plant(tmp_path, {**status(60, 50), "proc/self/clear_refs": ""}))
    probe.reset()

    assert (tmp_path / "proc/self/clear_refs").read_text() == "5"
    plant(tmp_path, status(70, 50))
    assert probe.read() == (Known(value=70 * MIB), Known(value=40 * MIB), Known(value=10 * MIB))


def test_a_peak_that_was_not_reset_is_unknown(tmp_path: Path) -> None:
    peak, anonymous, _ = HostMemoryProbe(plant(tmp_path, status(60, 50))).read()

    assert isinstance(peak, Unknown)
    assert anonymous == Known(value=40 * MIB)


def test_a_peak_that_cannot_be_reset_is_unknown_with_the_reason(tmp_path: Path) -> None:
    plant(tmp_path, {**status(60, 50), "proc/self/clear_refs/x": ""})
    probe = HostMemoryProbe(tmp_path)
    probe.reset()

    assert probe.read()[0] == Unknown(reason="/proc/self/clear_refs: Is a directory")


def test_a_kernel_that_takes_the_request_and_ignores_it_is_caught(tmp_path: Path) -> None:
    probe = HostMemoryProbe(plant(tmp_path, {**status(4000, 50), "proc/self/clear_refs": ""}))
    probe.reset()

    assert "did not reset the peak" in str(probe.read()[0])


def test_device_memory_of_this_process_and_of_all_are_apart() -> None:
    process, total = read_device_memory(GPU_DEVICE, 4242, nvml=replay_nvml("foreign-process"))

    assert (process, total) == (Known(value=3 * 2**30), Known(value=2**30))


def test_own_memory_on_the_gpu_is_found_by_the_own_pid_in_a_container_too() -> None:
    # Drivers since 535.113 list processes by their ids in the caller's namespace, and those outside it not at all.
    mine = [{"pid": os.getpid(), "usedGpuMemory": 5 * MIB}]
    process, _ = read_device_memory(GPU_DEVICE, nvml=replay_nvml("healthy", nvmlDeviceGetComputeRunningProcesses=mine))

    assert process == Known(value=5 * MIB)


def test_a_process_that_is_not_listed_is_mistaken_for_no_other() -> None:
    assert isinstance(read_device_memory(GPU_DEVICE, 1, nvml=replay_nvml("foreign-process"))[0], Unknown)


def test_without_a_gpu_or_driver_device_memory_is_unknown() -> None:
    assert all(isinstance(reading, Unknown) for reading in read_device_memory(CPU_DEVICE))
    absent = read_device_memory(GPU_DEVICE, nvml=replay_nvml("driver-absent"))
    assert absent == (Unknown(reason="NVML Shared Library Not Found"),) * 2
