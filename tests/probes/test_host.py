import os
from pathlib import Path

import pytest

from sdbench.probes.clocks_and_load import read_state
from sdbench.probes.configuration import read_configuration, read_container
from sdbench.probes.gpu import has_nvidia_gpu, read_gpu_configuration
from sdbench.probes.hardware import read_hardware, read_virtualization
from sdbench.probes.numa import read_affinity_nodes
from sdbench.probes.sysfs import read_int, read_text
from sdbench.schema.base import Known, Unknown
from tests.probes.replay import (
    BARE_METAL,
    CPU_DEVICE,
    GPU_DEVICE,
    enter_host_pid_namespace,
    missing_nvml,
    plant,
    replay_nvml,
)

ABSENT = replay_nvml("driver-absent")
NO_SALT = Unknown(reason="no salt")
NVIDIA_ON_PCI = {
    "sys/bus/pci/devices/0000:01:00.0/vendor": "0x10de\n",
    "sys/bus/pci/devices/0000:01:00.0/class": "0x030200\n",
}


def test_hardware_of_a_bare_metal_machine_is_read(tmp_path: Path) -> None:
    hardware = read_hardware(ABSENT, None, NO_SALT, plant(tmp_path, BARE_METAL))

    assert hardware.cpu_model == Known(value="Intel(R) Xeon(R) Platinum 8480+")
    assert hardware.cpu_family_model_stepping == Known(value="family 6, model 143, stepping 8")
    assert hardware.cpu_flags == Known(value=("amx_bf16", "avx2", "fpu", "sse2"))
    assert hardware.physical_core_count == Known(value=2)
    assert hardware.logical_cpu_count == Known(value=3)
    assert hardware.socket_count == Known(value=2)
    assert hardware.numa_node_count == Known(value=2)
    assert hardware.cache_bytes == Known(value=("L1 data 49152", "L3 unified 110100480"))
    assert hardware.memory_total_bytes == Known(value=16000 * 1024)


def test_configuration_of_a_bare_metal_machine_is_read(tmp_path: Path) -> None:
    configuration = read_configuration(ABSENT, None, {}, plant(tmp_path, BARE_METAL))

    assert configuration.cpu_governor == Known(value="performance,powersave")
    assert configuration.cpu_scaling_driver == Known(value="intel_pstate")
    assert configuration.cpu_energy_preference == Known(value="balance_performance,performance")
    assert configuration.numa_balancing == Known(value=1)
    assert configuration.memory_policy == Known(value="interleave:0-1")
    assert configuration.cpu_boost == Known(value="on")
    assert configuration.cpu_clock_max_khz == Known(value=3_800_000)
    assert configuration.microcode == Known(value="0x2b000590")
    assert configuration.smt == Known(value="on")
    assert configuration.transparent_hugepage == Known(value="madvise")
    assert configuration.swap_total_bytes == Known(value=2000 * 1024)
    assert configuration.vulnerabilities_mitigated == Known(value=("retbleed: Enhanced IBRS",))
    assert configuration.container == Known(value="none")
    assert configuration.affinity_cpu_count == Known(value=len(os.sched_getaffinity(0)))


def test_an_empty_machine_is_unknown_everywhere_and_says_why(tmp_path: Path) -> None:
    hardware = read_hardware(ABSENT, None, NO_SALT, tmp_path)
    configuration = read_configuration(ABSENT, None, {}, tmp_path)

    readings = [*dict(hardware).values(), *dict(configuration).values()]
    unknown = [reading for reading in readings if isinstance(reading, Unknown)]
    known = {name for part in (hardware, configuration) for name, reading in part if isinstance(reading, Known)}
    # The architecture and the affinity come from system calls, which an empty folder does not hide.
    assert known == {"gpus", "container", "architecture", "affinity_cpu_count"}
    assert len(unknown) == 27
    assert not any(str(tmp_path) in reading.reason for reading in unknown)


@pytest.mark.parametrize(
    ("reason", "files", "present"),
    [
        ("NVML Shared Library Not Found", {}, False),
        ("Driver Not Loaded", {}, False),
        ("the Python package nvidia-ml-py is not installed", {}, False),
        ("NVML Shared Library Not Found", NVIDIA_ON_PCI, True),
        ("NVML Shared Library Not Found", {"dev/nvidia0": ""}, True),
        # A sound chip of NVIDIA's, and WSL2 with another maker's GPU.
        ("NVML Shared Library Not Found", dict.fromkeys(NVIDIA_ON_PCI, "0x040300\n"), False),
        ("NVML Shared Library Not Found", {"dev/dxg": ""}, False),
        ("NVML Shared Library Not Found", {"dev/dxg": "", "usr/lib/wsl/lib/libcuda.so.1": ""}, True),
        # A driver that answers with a mismatch has a GPU, whatever /dev shows.
        ("RM has detected an NVML/RM version mismatch.", {}, True),
        ("Unknown Error", {}, True),
        ("Insufficient Permissions", {}, True),
    ],
)
def test_an_nvidia_gpu_is_known_by_its_driver_or_its_hardware(
    tmp_path: Path, reason: str, files: dict[str, str], present: bool
) -> None:
    assert has_nvidia_gpu(missing_nvml(reason), plant(tmp_path, files)) is present


def test_only_the_measured_gpu_is_in_the_fingerprint(tmp_path: Path) -> None:
    # GPUS=device=1 and --device cuda:1 on a host of two, and that card alone, are the same hardware.
    nvml, root = replay_nvml("two-gpus"), plant(tmp_path, BARE_METAL)
    hardware, configuration = read_hardware(nvml, 1, NO_SALT, root), read_configuration(nvml, 1, {}, root)

    assert isinstance(hardware.gpus, Known)
    assert isinstance(configuration.gpus, Known)
    assert [(gpu.name, gpu.multiprocessor_count) for gpu in hardware.gpus.value] == [
        (Known(value="NVIDIA A100-SXM4-80GB"), Known(value=108))
    ]
    assert len(configuration.gpus.value) == 1
    assert "index" not in hardware.gpus.value[0].model_dump()
    assert read_hardware(nvml, None, NO_SALT, root).gpus == Known(value=())


@pytest.mark.parametrize(("cpus", "nodes"), [({0}, (0,)), ({9}, (1,)), ({0, 11}, (0, 1)), ({5}, ())])
def test_a_process_is_on_the_nodes_of_its_cpus(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cpus: set[int], nodes: tuple[int, ...]
) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda _pid: cpus)
    lists = {"node0": "0-3\n", "node1": "8,10-11,9\n"}
    root = plant(tmp_path, {f"sys/devices/system/node/{name}/cpulist": text for name, text in lists.items()})

    assert read_affinity_nodes(root) == Known(value=nodes)


def test_the_node_of_a_gpu_is_found_by_its_address_which_is_not_kept(tmp_path: Path) -> None:
    nvml = replay_nvml("healthy")
    (unknown,) = (read_gpu_configuration(nvml, 0, tmp_path).numa_node,)
    plant(tmp_path, {"sys/bus/pci/devices/0000:01:00.0/numa_node": "-1\n"})
    assert isinstance(read_gpu_configuration(nvml, 0, tmp_path).numa_node, Unknown)
    plant(tmp_path, {"sys/bus/pci/devices/0000:01:00.0/numa_node": "1\n"})
    known = read_gpu_configuration(nvml, 0, tmp_path)

    assert known.numa_node == Known(value=1)
    assert isinstance(unknown, Unknown)
    assert "01:00" not in unknown.reason + known.model_dump_json()


def test_linux_on_windows_is_named_as_such(tmp_path: Path) -> None:
    root = plant(tmp_path, {"proc/version": "Linux version 5.15.153.1-microsoft-standard-WSL2 (root@x) (gcc) #1 SMP\n"})
    assert read_virtualization(root) == Known(value="WSL2")


@pytest.mark.parametrize(
    ("files", "environ", "kind"),
    [
        ({".dockerenv": ""}, {}, "docker"),
        ({"run/.containerenv": ""}, {}, "podman"),
        ({".dockerenv": ""}, {"KUBERNETES_SERVICE_HOST": "10.0.0.1"}, "kubernetes"),
        ({"run/systemd/container": "lxc\n"}, {}, "lxc"),
        ({}, {"container": "systemd-nspawn"}, "systemd-nspawn"),
        ({}, {"APPTAINER_CONTAINER": "/secret/image.sif"}, "apptainer"),
        ({}, {}, "none"),
    ],
)
def test_containers_are_known_by_their_marks(
    tmp_path: Path, files: dict[str, str], environ: dict[str, str], kind: str
) -> None:
    assert read_container(environ, plant(tmp_path, files)) == Known(value=kind)


def test_a_virtual_machine_is_named_by_its_firmware(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    root = plant(tmp_path, {"proc/cpuinfo": "processor: 0\nflags: fpu hypervisor\n"})
    assert read_virtualization(root) == Known(value="unnamed hypervisor")

    plant(root, {"sys/class/dmi/id/sys_vendor": "QEMU\n", "sys/class/dmi/id/product_name": "Standard PC\n"})
    assert read_virtualization(root) == Known(value="QEMU Standard PC")

    plant(root, {"proc/cpuinfo": "processor: 0\nflags: fpu\n"})
    assert read_virtualization(root) == Known(value="none")

    monkeypatch.setattr("platform.machine", lambda: "aarch64")
    assert isinstance(read_virtualization(root), Unknown)


def test_an_arm_processor_is_described_by_its_own_lines(tmp_path: Path) -> None:
    lines = (
        "processor: 0\nFeatures: fp asimd\nCPU implementer: 0x41\n"
        "CPU architecture: 8\nCPU part: 0xd4f\nCPU revision: 0\n"
    )
    hardware = read_hardware(ABSENT, None, NO_SALT, plant(tmp_path, {"proc/cpuinfo": lines}))

    assert hardware.cpu_vendor == Known(value="0x41")
    assert hardware.cpu_family_model_stepping == Known(value="architecture 8, part 0xd4f, revision 0")
    assert isinstance(hardware.cpu_model, Unknown)
    assert isinstance(hardware.physical_core_count, Unknown)


def test_state_speaks_of_the_device_that_is_measured(tmp_path: Path) -> None:
    root = enter_host_pid_namespace(plant(tmp_path, BARE_METAL))

    cpu = read_state(CPU_DEVICE, ABSENT, NO_SALT, root)
    gpu = read_state(GPU_DEVICE, replay_nvml("foreign-process"), NO_SALT, root)

    assert cpu.temperature_c == Known(value=56.5)
    assert cpu.cpu_clock_mhz == Known(value=2500.0)
    assert cpu.load_average_1min == Known(value=0.25)
    assert isinstance(cpu.foreign_gpu_process_count, Unknown)
    assert gpu.temperature_c == Known(value=61.0)
    # Nothing of ours runs yet: the process that will be the worker's in other tests computes too.
    assert gpu.foreign_gpu_process_count == Known(value=2)


@pytest.mark.parametrize(("card", "count"), [("rtx-2080-super", 2), ("h100", 0), ("l40s", 0)])
def test_what_is_on_a_card_at_rest_does_not_compute(tmp_path: Path, card: str, count: int) -> None:
    nvml = replay_nvml(f"{card}-idle")
    users = nvml.processes(0)
    state = read_state(GPU_DEVICE, nvml, NO_SALT, enter_host_pid_namespace(tmp_path))

    assert isinstance(users, Known)
    assert len(users.value) == count
    assert state.foreign_gpu_process_count == Known(value=0)


def test_in_a_container_nobody_is_known_to_be_on_the_gpu_before_the_run(tmp_path: Path) -> None:
    count = read_state(GPU_DEVICE, replay_nvml("h100-idle"), NO_SALT, tmp_path).foreign_gpu_process_count

    assert isinstance(count, Unknown)
    assert "--pid=host" in count.reason


def test_a_file_that_cannot_be_read_gives_its_path_and_reason(tmp_path: Path) -> None:
    plant(tmp_path, {"proc/empty": "", "proc/word": "many\n", "proc/folder/x": "1"})

    assert read_text(tmp_path, "proc/none") == Unknown(reason="/proc/none: not there")
    assert read_text(tmp_path, "proc/empty") == Unknown(reason="/proc/empty: empty")
    assert read_int(tmp_path, "proc/word") == Unknown(reason="/proc/word: 'many' is not an integer")
    assert read_text(tmp_path, "proc/folder") == Unknown(reason="/proc/folder: Is a directory")
