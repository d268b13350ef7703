import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from sdbench.probes import doctor
from sdbench.probes.doctor import Diagnosis, diagnose
from sdbench.probes.nvml import Nvml
from sdbench.schema.base import Known
from tests.probes.replay import BARE_METAL, enter_host_pid_namespace, missing_nvml, nvml_error, plant, replay_nvml


@pytest.fixture
def look(tmp_path: Path) -> Any:
    root = enter_host_pid_namespace(plant(tmp_path / "root", BARE_METAL))

    def look_here(driver: str | Nvml = "driver-absent", **files: str) -> dict[str, Diagnosis]:
        plant(root, {name.replace("__", "/"): text for name, text in files.items()})
        environ = {"XDG_STATE_HOME": str(tmp_path / "state"), "PATH": str(tmp_path)}
        environ["SDBENCH_CACHE"] = str(tmp_path / "cache")
        return {
            diagnosis.name: diagnosis
            for diagnosis in diagnose(
                nvml=replay_nvml(driver) if isinstance(driver, str) else driver, root=root, environ=environ
            )
        }

    return look_here


def test_every_diagnosis_that_is_not_well_has_a_hint(look: Any) -> None:
    diagnoses = [*look().values(), *look("foreign-process").values(), *look("not-supported").values()]

    assert all(bool(diagnosis.hint) == (diagnosis.level != "ok") for diagnosis in diagnoses)
    assert all("\n" not in diagnosis.value + diagnosis.hint for diagnosis in diagnoses)


@pytest.mark.torch
def test_installed_libraries_are_detected_without_importing_them(look: Any) -> None:
    diagnoses = look()

    names = ("python", "torch", "diffusers", "transformers", "CLIP vocabulary", "report")
    assert {diagnoses[name].level for name in names} == {"ok"}


def test_what_is_not_installed_is_missing_with_the_command(look: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "installed_versions", dict)
    monkeypatch.setattr(doctor, "find_spec", lambda name: None)
    diagnoses = look()

    for name in ("torch", "diffusers", "transformers", "CLIP vocabulary", "report"):
        assert diagnoses[name].level == "missing"
    assert "sdbench[report]" in diagnoses["report"].hint
    assert "jinja2, altair, vl-convert-python" in diagnoses["report"].value


def test_a_machine_without_a_gpu_is_well(look: Any) -> None:
    diagnosis = look()["NVIDIA driver"]

    assert diagnosis.level == "ok"
    assert "runs measure the CPU" in diagnosis.value


@pytest.mark.parametrize(
    ("driver", "name", "value", "hint"),
    [
        (missing_nvml("Driver Not Loaded"), "NVIDIA driver", "Driver Not Loaded", "sudo modprobe nvidia"),
        (missing_nvml("NVML Shared Library Not Found"), "NVIDIA driver", "Not Found", "install the NVIDIA driver"),
        (
            missing_nvml("RM has detected an NVML/RM version mismatch."),
            "NVIDIA driver",
            "mismatch",
            "reboot the host, or reload the module",
        ),
        (missing_nvml("Unknown Error"), "NVIDIA driver", "Unknown Error", "start it again"),
        (missing_nvml("Insufficient Permissions"), "NVIDIA driver", "Permissions", "ls -l /dev/nvidia*"),
        (
            missing_nvml("the Python package nvidia-ml-py is not installed"),
            "NVIDIA driver",
            "nvidia-ml-py is not installed",
            "pip install nvidia-ml-py",
        ),
        (
            replay_nvml("healthy", nvmlSystemGetCudaDriverVersion_v2=12080),
            "torch with CUDA",
            "torch is built for CUDA 13.0, the driver is made for CUDA 12.8",
            "update the driver to 580 or newer",
        ),
        (
            replay_nvml("healthy", nvmlDeviceGetMemoryInfo=nvml_error("GPU is lost")),
            "GPU",
            "the GPU is lost",
            "look for Xid",
        ),
        (
            replay_nvml("healthy", nvmlDeviceGetMigMode=[1, 1]),
            "MIG",
            "none of its slices is visible",
            "pass one to the container",
        ),
        (
            replay_nvml("healthy", nvmlDeviceGetComputeMode=2),
            "compute mode",
            "prohibited",
            "sudo nvidia-smi -c DEFAULT",
        ),
        (
            replay_nvml("healthy", nvmlDeviceGetCudaComputeCapability=[6, 1]),
            "compute capability",
            "6.1; torch for CUDA 13.0 has kernels from 7.5 on",
            "use a newer GPU",
        ),
    ],
)
def test_what_prevents_measuring_a_gpu_is_missing_with_its_own_hint(
    look: Any, monkeypatch: pytest.MonkeyPatch, driver: Nvml, name: str, value: str, hint: str
) -> None:
    monkeypatch.setattr(doctor, "read_torch_cuda", lambda: Known(value="13.0"))
    diagnosis = look(driver, dev__nvidia0="", **{".dockerenv": ""})[name]

    assert diagnosis.level == "missing"
    assert value in diagnosis.value
    assert hint in diagnosis.hint


def test_a_healthy_gpu_passes_every_check(look: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "read_torch_cuda", lambda: Known(value="13.0"))
    diagnoses = look("healthy")

    names = (
        "NVIDIA driver",
        "torch with CUDA",
        "compute capability",
        "compute mode",
        "persistence mode",
    )
    assert {diagnoses[name].level for name in names} == {"ok"}
    assert diagnoses["NVIDIA driver"].value == "driver 580.65.06: NVIDIA GeForce RTX 4090"


def test_each_of_several_gpus_is_checked(look: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "read_torch_cuda", lambda: Known(value="13.0"))
    diagnoses = look("two-gpus")

    assert diagnoses["cuda:0 compute capability"].value.startswith("8.9")
    assert diagnoses["cuda:1 compute capability"].value.startswith("8.0")


def test_a_driver_that_stops_between_launches_is_a_warning(look: Any) -> None:
    diagnosis = look("rtx-2080-super-idle")["persistence mode"]

    assert (diagnosis.level, diagnosis.hint) == ("warning", "on the host: sudo nvidia-smi -pm 1")


def test_a_torch_without_cuda_next_to_a_gpu_is_missing(look: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "read_torch_cuda", lambda: Known(value="none"))

    assert look("healthy")["torch with CUDA"].level == "missing"
    assert "torch with CUDA" not in look()


def test_other_processes_on_the_gpu_are_a_warning(look: Any) -> None:
    assert look("two-gpus")["GPU to itself"].level == "ok"
    assert look("foreign-process")["GPU to itself"].level == "warning"
    assert look("not-supported")["GPU to itself"].level == "warning"


def test_from_inside_a_container_nobody_claims_the_gpu_to_be_alone(look: Any, tmp_path: Path) -> None:
    (tmp_path / "root/proc/self/ns/pid").unlink()
    alone = look(replay_nvml("healthy", nvmlDeviceGetComputeRunningProcesses=[]))["GPU to itself"]
    assert alone.level == "warning"
    assert "cannot be seen from this process namespace" in alone.value
    in_wsl = look(replay_nvml("healthy", nvmlDeviceGetComputeRunningProcesses=[]), dev__dxg="")["GPU to itself"]
    assert in_wsl.level == "warning"
    assert "WSL2" in in_wsl.value


def test_too_little_memory_for_the_full_size_model_is_a_warning(look: Any) -> None:
    plenty = f"MemTotal: {64 * 2**20} kB\nMemAvailable: {60 * 2**20} kB\n"
    group = {"sys__fs__cgroup__user.slice__memory.max": str(64 * 2**30)}

    assert look()["memory"].level == "warning"
    assert look(proc__meminfo=plenty, **group)["memory"].level == "ok"
    assert look(**{**group, "sys__fs__cgroup__user.slice__memory.max": str(2**30)})["memory"].level == "warning"


def test_a_governor_that_is_not_performance_is_a_warning(look: Any) -> None:
    assert look()["CPU governor"].level == "warning"
    governor = "sys__devices__system__cpu__cpu{}__cpufreq__scaling_governor"
    assert look(**{governor.format(1): "performance\n"})["CPU governor"].level == "ok"


def test_other_load_is_a_warning(look: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 4)

    assert look(proc__loadavg="0.19 1 1 1/1 1\n")["other load"].level == "ok"
    assert look(proc__loadavg="0.21 1 1 1/1 1\n")["other load"].level == "warning"


@pytest.mark.parametrize(
    ("quota_us", "text", "level"),
    [
        (765_000, "limited to 7.65 CPUs' time: 7 threads by default", "ok"),
        (50_000, "limited to 0.5 CPUs' time: 1 threads by default", "warning"),
    ],
)
def test_a_cpu_limit_is_reported_with_the_threads_that_fit_into_it(
    look: Any, monkeypatch: pytest.MonkeyPatch, quota_us: int, text: str, level: str
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(8)))
    limited = look(**{"sys/fs/cgroup/user.slice/cpu.max": f"{quota_us} 100000\n"})["CPUs"]

    assert limited.value.endswith(text)
    assert limited.level == level


@pytest.mark.parametrize(("free_gib", "level"), [(0.5, "missing"), (3.0, "warning"), (50.0, "ok")])
def test_disk_that_is_nearly_full_is_reported(
    look: Any, monkeypatch: pytest.MonkeyPatch, free_gib: float, level: str
) -> None:
    usage = type("usage", (), {"free": free_gib * 2**30})
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)

    assert look()["disk"].level == level


def test_energy_counters_are_looked_for_in_processor_and_gpu(look: Any) -> None:
    assert look()["energy counters"].level == "warning"
    assert "NVML" in look("healthy")["energy counters"].value
    zone = "sys__class__powercap__intel-rapl:0__"
    rapl = {zone + "name": "package-0\n", zone + "energy_uj": "1\n"}
    assert look(**rapl)["energy counters"].value == "RAPL, 1 packages"
    assert look("healthy")["energy counters"].value == "NVML for the GPU; RAPL, 1 packages"


def test_a_peak_that_cannot_be_reset_is_a_warning(look: Any) -> None:
    assert look()["memory peak"].level == "warning"
    status = "VmHWM: 10 kB\nVmRSS: 10 kB\n"
    assert look(proc__self__clear_refs="", proc__self__status=status)["memory peak"].level == "ok"


def test_docker_is_optional(look: Any, tmp_path: Path) -> None:
    assert look()["docker (optional)"].level == "warning"
    client = tmp_path / "docker"
    client.write_text("")
    client.chmod(0o755)
    assert look()["docker (optional)"].level == "ok"


def test_weights_cache_is_measured_and_its_limit_checked(tmp_path: Path, look: Any) -> None:
    assert look()["weights cache"].value == f"synthetic weights take 0.0 B of at most 64.0 GiB in {tmp_path / 'cache'}"
    (tmp_path / "weights").mkdir()
    (tmp_path / "weights" / "a.safetensors").write_bytes(bytes(2048))
    environ = {"SDBENCH_CACHE": str(tmp_path)}
    assert doctor._weights_cache(environ)[0].startswith("synthetic weights take 2.00 KiB of at most")
    value, hint = doctor._weights_cache(environ | {"SDBENCH_CACHE_GIB": "many"})
    assert value == "invalid SDBENCH_CACHE_GIB 'many': expected a number of GiB, such as 64 or 0"
    assert hint
