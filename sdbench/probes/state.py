"""What the machine is doing at this moment: never hashed."""

import re
from pathlib import Path

from sdbench.probes.devices import Device
from sdbench.probes.files import ROOT, list_names, read_int, read_kib, read_text
from sdbench.probes.gpu import count_foreign_processes
from sdbench.probes.nvml import Nvml
from sdbench.probes.privacy import hash_uuid
from sdbench.schema.base import Known, Reading, Unknown
from sdbench.schema.fingerprint import State

_HWMON = "sys/class/hwmon"
_THERMAL = "sys/class/thermal"
# The kernel's drivers of processor temperature: Intel, AMD, AMD out of tree, Arm boards.
_CPU_SENSORS = ("coretemp", "k10temp", "zenpower", "cpu_thermal")
_CPU_ZONES = ("x86_pkg_temp", "cpu-thermal", "cpu_thermal", "soc-thermal")


def read_state(device: Device, nvml: Nvml | Unknown, salt: Reading[bytes], root: Path = ROOT) -> State:
    """Return the boot, load, free memory, clock, temperature and who else is on the GPU."""
    return State(
        boot_hmac=_boot_hmac(salt, root),
        load_average_1min=read_load(root),
        memory_available_bytes=read_kib(read_text(root, "proc/meminfo"), "MemAvailable", "proc/meminfo"),
        foreign_gpu_process_count=_foreign_count(device, nvml, root),
        cpu_clock_mhz=_cpu_clock_mhz(root),
        temperature_c=_temperature_c(device, nvml, root),
    )


def _boot_hmac(salt: Reading[bytes], root: Path) -> Reading[str]:
    text = read_text(root, "proc/sys/kernel/random/boot_id")
    if isinstance(text, Unknown):
        return text
    return hash_uuid(Known(value=text.value.strip()), salt)


def read_load(root: Path = ROOT) -> Reading[float]:
    """Return the load average over one minute (runnable and waiting tasks)."""
    text = read_text(root, "proc/loadavg")
    return text if isinstance(text, Unknown) else Known(value=float(text.value.split()[0]))


def _foreign_count(device: Device, nvml: Nvml | Unknown, root: Path) -> Reading[int]:
    if device.index is None:
        return Unknown(reason="the device is the CPU")
    if isinstance(nvml, Unknown):
        return nvml
    # Nothing of ours is on the GPU before the first worker starts.
    return count_foreign_processes(nvml, device.index, frozenset(), root)


def list_clock_files(root: Path = ROOT) -> tuple[str, ...]:
    """Return the files with each CPU's present clock (kHz), in the order of the CPUs."""
    names = list_names(root, "sys/devices/system/cpu")
    cpus = [name for name in (() if isinstance(names, Unknown) else names.value) if re.fullmatch(r"cpu\d+", name)]
    files = (
        f"sys/devices/system/cpu/{name}/cpufreq/scaling_cur_freq" for name in sorted(cpus, key=lambda cpu: int(cpu[3:]))
    )
    return tuple(name for name in files if (root / name).exists())


def _cpu_clock_mhz(root: Path) -> Reading[float]:
    """Return the mean clock (MHz) over the CPUs."""
    clocks_khz = [clock.value for name in list_clock_files(root) if isinstance(clock := read_int(root, name), Known)]
    if not clocks_khz:
        return Unknown(reason="no cpufreq files; on a virtual machine /proc/cpuinfo repeats the nominal clock")
    return Known(value=sum(clocks_khz) / len(clocks_khz) / 1000)


def find_temperature_file(root: Path = ROOT) -> Reading[str]:
    """Return the file with the processor's temperature (thousandths of a degree Celsius)."""
    for folder, kind, value, wanted in (
        (_HWMON, "name", "temp1_input", _CPU_SENSORS),
        (_THERMAL, "type", "temp", _CPU_ZONES),
    ):
        names = list_names(root, folder)
        for name in () if isinstance(names, Unknown) else names.value:
            found = read_text(root, f"{folder}/{name}/{kind}")
            if isinstance(found, Known) and found.value in wanted and (root / folder / name / value).exists():
                return Known(value=f"{folder}/{name}/{value}")
    return Unknown(
        reason="no processor sensor under /sys/class/hwmon or /sys/class/thermal (usual on virtual machines)"
    )


def _temperature_c(device: Device, nvml: Nvml | Unknown, root: Path) -> Reading[float]:
    """Return the temperature of the device that is measured (degrees Celsius)."""
    if device.index is not None:
        return nvml if isinstance(nvml, Unknown) else nvml.temperature_c(device.index)
    name = find_temperature_file(root)
    if isinstance(name, Unknown):
        return name
    millidegrees = read_int(root, name.value)
    return millidegrees if isinstance(millidegrees, Unknown) else Known(value=millidegrees.value / 1000)
