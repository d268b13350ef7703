"""Replays NVML snapshots and small trees of /proc and /sys."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pynvml

from sdbench.probes.devices import Device
from sdbench.probes.nvml import Nvml
from sdbench.probes.nvml_library import NvmlCallError
from sdbench.schema.base import Known, Unknown

SNAPSHOTS = Path(__file__).parent / "snapshots"

CPUINFO = """\
processor\t: 0
vendor_id\t: GenuineIntel
cpu family\t: 6
model\t\t: 143
model name\t: Intel(R) Xeon(R) Platinum 8480+
stepping\t: 8
microcode\t: 0x2b000590
physical id\t: 0
core id\t\t: 0
flags\t\t: fpu sse2 avx2 amx_bf16

processor\t: 1
vendor_id\t: GenuineIntel
model name\t: Intel(R) Xeon(R) Platinum 8480+
physical id\t: 0
core id\t\t: 0
flags\t\t: fpu sse2 avx2 amx_bf16

processor\t: 2
physical id\t: 1
core id\t\t: 0
"""

MEMINFO = "MemTotal:       16000 kB\nMemAvailable:   12000 kB\nSwapTotal:       2000 kB\n"

BARE_METAL = {
    "proc/cpuinfo": CPUINFO,
    "proc/meminfo": MEMINFO,
    "proc/loadavg": "0.25 0.10 0.05 1/123 4567\n",
    "proc/self/cgroup": "0::/user.slice/run\n",
    "sys/fs/cgroup/cgroup.controllers": "cpu memory\n",
    "sys/fs/cgroup/user.slice/cpu.max": "300000 100000\n",
    "sys/fs/cgroup/user.slice/memory.max": "8000000\n",
    "sys/fs/cgroup/user.slice/memory.current": "3000000\n",
    "sys/fs/cgroup/user.slice/memory.stat": "anon 1\ninactive_file 1000000\n",
    "sys/fs/cgroup/user.slice/run/cpu.max": "max 100000\n",
    "sys/fs/cgroup/user.slice/run/memory.max": "max\n",
    "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor": "performance\n",
    "sys/devices/system/cpu/cpu1/cpufreq/scaling_governor": "powersave\n",
    "sys/devices/system/cpu/cpu0/cpufreq/scaling_max_freq": "3800000\n",
    "sys/devices/system/cpu/cpu0/cpufreq/scaling_cur_freq": "2000000\n",
    "sys/devices/system/cpu/cpu1/cpufreq/scaling_cur_freq": "3000000\n",
    "sys/devices/system/cpu/cpu0/cache/index0/level": "1\n",
    "sys/devices/system/cpu/cpu0/cache/index0/type": "Data\n",
    "sys/devices/system/cpu/cpu0/cache/index0/size": "48K\n",
    "sys/devices/system/cpu/cpu0/cache/index3/level": "3\n",
    "sys/devices/system/cpu/cpu0/cache/index3/type": "Unified\n",
    "sys/devices/system/cpu/cpu0/cache/index3/size": "105M\n",
    "sys/devices/system/cpu/cpu0/thermal_throttle/core_throttle_count": "3\n",
    "sys/devices/system/cpu/cpu0/thermal_throttle/package_throttle_count": "4\n",
    "sys/devices/system/cpu/intel_pstate/no_turbo": "0\n",
    "sys/devices/system/cpu/smt/control": "on\n",
    "sys/devices/system/cpu/vulnerabilities/meltdown": "Not affected\n",
    "sys/devices/system/cpu/vulnerabilities/retbleed": "Mitigation: Enhanced IBRS\n",
    "sys/devices/system/cpu/vulnerabilities/mds": "Vulnerable\n",
    "sys/devices/system/cpu/cpu0/cpufreq/scaling_driver": "intel_pstate\n",
    "sys/devices/system/cpu/cpu0/cpufreq/energy_performance_preference": "balance_performance\n",
    "sys/devices/system/cpu/cpu1/cpufreq/energy_performance_preference": "performance\n",
    "proc/sys/kernel/numa_balancing": "1\n",
    "proc/self/numa_maps": "55f6c5a9e000 interleave:0-1 file=/usr/bin/python3 mapped=2 N0=2\n7ff0 default stack\n",
    "sys/devices/system/node/node0/cpulist": "0-1\n",
    "sys/devices/system/node/node1/cpulist": "2\n",
    "sys/kernel/mm/transparent_hugepage/enabled": "always [madvise] never\n",
    "sys/class/hwmon/hwmon0/name": "nvme\n",
    "sys/class/hwmon/hwmon0/temp1_input": "31000\n",
    "sys/class/hwmon/hwmon1/name": "coretemp\n",
    "sys/class/hwmon/hwmon1/temp1_input": "56500\n",
    "etc/os-release": 'NAME="Debian"\nPRETTY_NAME="Debian GNU/Linux 12 (bookworm)"\n',
    "proc/sys/kernel/osrelease": "6.12.9-amd64\n",
}

NOT_ASKED = Unknown(reason="not asked in this test")
CPU_DEVICE = Device(
    kind="cpu",
    index=None,
    uuid=None,
    name="a CPU",
    memory_total_bytes=Known(value=1),
    compute_capability=NOT_ASKED,
    multiprocessor_count=NOT_ASKED,
    clock_max_sm_mhz=NOT_ASKED,
    lock_key="cpu",
    torch_name="cpu",
    choice="",
    warnings=(),
)
GPU_DEVICE = CPU_DEVICE.model_copy(
    update={"kind": "cuda", "index": 0, "name": "a GPU", "lock_key": "0123", "torch_name": "cuda:0"}
)

# nvml.h: nvmlReturn_t, by the texts of nvidia-ml-py.
CODES = {
    "Not Supported": 3,
    "Insufficient Permissions": 4,
    "Driver Not Loaded": 9,
    "NVML Shared Library Not Found": 12,
    "Function Not Found": 13,
    "GPU is lost": 15,
    "RM has detected an NVML/RM version mismatch.": 18,
    "Unknown Error": 999,
    "the Python package nvidia-ml-py is not installed": -1,
}


def nvml_error(text: str) -> NvmlCallError:
    return NvmlCallError(text, CODES.get(text, 0))


class ReplayedLibrary:
    """Answers as the snapshot says; a list under ``values`` is used up call by call, its last again and again.

    A GPU is known by its index and by its UUID. A function of NVML's that is not in the snapshot is one that the driver
    does not have. ``changes`` are answers instead of the snapshot's, by function: a value, or an error.
    """

    def __init__(self, calls: list[dict[str, Any]], changes: Mapping[str, Any]) -> None:
        self._calls = {(call["function"], *call["arguments"]): call for call in calls}
        self._changes = changes
        uuids = [call for call in calls if call["function"] == "nvmlDeviceGetUUID" and "value" in call]
        self._index_of = {call["value"]: call["arguments"][0] for call in uuids}
        self._turns: dict[tuple[Any, ...], int] = {}

    def call(self, function: str, *arguments: Any) -> Any:
        if not hasattr(pynvml, function):
            raise AssertionError(f"nvidia-ml-py has no {function}")
        if function in self._changes:
            if isinstance(self._changes[function], NvmlCallError):
                raise self._changes[function]
            return self._changes[function]
        # The process utilization is the same since whatever time.
        asked = arguments[:1] if function == "nvmlDeviceGetProcessUtilization" else arguments
        key = (function, *(self._index_of.get(argument, argument) for argument in asked))
        if key not in self._calls:
            raise nvml_error("Function Not Found")
        call = self._calls[key]
        if "error" in call:
            raise nvml_error(call["error"])
        if "values" not in call:
            return call["value"]
        position = self._turns.get(key, 0)
        self._turns[key] = position + 1
        if position >= len(call["values"]) and "then_error" in call:
            raise nvml_error(call["then_error"])
        return call["values"][min(position, len(call["values"]) - 1)]


def replay_nvml(name: str, **changes: Any) -> Nvml:
    snapshot = json.loads((SNAPSHOTS / f"{name}.json").read_text())
    if "library_error" in snapshot:
        return missing_nvml(snapshot["library_error"])
    return Nvml(ReplayedLibrary(snapshot["calls"], changes).call)


def missing_nvml(reason: str) -> Nvml:
    return Nvml(None, reason, CODES[reason])


def plant(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def enter_host_pid_namespace(root: Path) -> Path:
    link = root / "proc/self/ns/pid"
    link.parent.mkdir(parents=True, exist_ok=True)
    link.symlink_to("pid:[4026531836]")
    return root


class FakeClock:
    def __init__(self) -> None:
        self.time_s = 100.0

    def __call__(self) -> float:
        return self.time_s
