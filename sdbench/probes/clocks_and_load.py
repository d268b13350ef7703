"""What the machine is doing at this moment: never hashed."""

from pathlib import Path
from statistics import fmean

from sdbench.probes.devices import Device
from sdbench.probes.gpu import count_foreign_processes, read_gpu_state
from sdbench.probes.identity import hash_uuid
from sdbench.probes.nvml import Nvml
from sdbench.probes.readings import ReadingFailed, as_reading, known_values, value_of, value_or
from sdbench.probes.sysfs import ROOT, list_cpus, list_names, read_int, read_kib, read_text
from sdbench.schema.base import Known, Reading, Unknown
from sdbench.schema.fingerprint import State

# Where the kernel's drivers show temperatures: the folder, the files with the sensor's name and its value, and the
# names of processor sensors (Intel, AMD, AMD out of tree, Arm boards).
_SENSORS = (
    ("sys/class/hwmon", "name", "temp1_input", ("coretemp", "k10temp", "zenpower", "cpu_thermal")),
    ("sys/class/thermal", "type", "temp", ("x86_pkg_temp", "cpu-thermal", "cpu_thermal", "soc-thermal")),
)

# Other programs that keep a twentieth of the machine busy share caches, memory and boost with the worker.
BUSY_RATIO = 0.05


def read_state(device: Device, nvml: Nvml, salt: Reading[bytes], root: Path = ROOT) -> State:
    """Return the boot, load, free memory, clock, temperature and who else is on the GPU."""
    return State(
        boot_hmac=hash_uuid(read_text(root, "proc/sys/kernel/random/boot_id"), salt),
        load_average_1min=read_load(root),
        memory_available_bytes=read_kib(root, "proc/meminfo", "MemAvailable"),
        # Nothing of ours is on the GPU before the first worker starts.
        foreign_gpu_process_count=Unknown(reason="the device is the CPU")
        if device.address is None
        else count_foreign_processes(nvml, device.address, frozenset(), root),
        cpu_clock_mhz=_cpu_clock_mhz(root),
        temperature_c=_temperature_c(device, nvml, root),
        gpus=Known(value=() if device.address is None else (read_gpu_state(nvml, device.address),)),
        ceilings=Unknown(reason="a worker measures them when a run begins; sdbench ceilings does too"),
    )


@as_reading
def read_load(root: Path = ROOT) -> float:
    """Return the load average over one minute (runnable and waiting tasks)."""
    return float(value_of(read_text(root, "proc/loadavg")).split()[0])


def list_clock_files(root: Path = ROOT) -> tuple[str, ...]:
    """Return the files with each CPU's present clock (kHz), in the order of the CPUs."""
    files = (f"{folder}/cpufreq/scaling_cur_freq" for folder in list_cpus(root))
    return tuple(name for name in files if (root / name).exists())


@as_reading
def _cpu_clock_mhz(root: Path) -> float:
    clocks_khz = known_values(read_int(root, name) for name in list_clock_files(root))
    if not clocks_khz:
        raise ReadingFailed("no cpufreq files; on a virtual machine /proc/cpuinfo repeats the nominal clock")
    return fmean(clocks_khz) / 1000


@as_reading
def find_temperature_file(root: Path = ROOT) -> str:
    """Return the file with the processor's temperature (thousandths of a degree Celsius)."""
    for folder, kind, value, processors in _SENSORS:
        for name in value_or(list_names(root, folder), ()):
            sensor = value_or(read_text(root, f"{folder}/{name}/{kind}"), "")
            if sensor in processors and (root / folder / name / value).exists():
                return f"{folder}/{name}/{value}"
    raise ReadingFailed("no processor sensor under /sys/class/hwmon or /sys/class/thermal (usual on virtual machines)")


@as_reading
def _temperature_c(device: Device, nvml: Nvml, root: Path) -> float:
    if device.address is None:
        return value_of(read_int(root, value_of(find_temperature_file(root)))) / 1000
    return value_of(nvml.temperature_c(device.address))
