"""A thin seam over NVML: every query gives a reading, never an exception.

The library is one method, ``call(function, *arguments)``, with GPUs by index and plain JSON types back. So tests
replay snapshots (function and arguments to value or error) without a GPU.
"""

from functools import cache
from typing import Any, Protocol

from sdbench.schema.base import Known, Model, Reading, Unknown

# nvml.h: nvmlClockType_t and nvmlTemperatureSensors_t.
CLOCK_SM = 1
CLOCK_MEMORY = 2
TEMPERATURE_GPU = 0

POWER_LIMIT = "power limit"
# nvml.h: nvmlClocksEventReasons. Idle (0x1), application clocks (0x2), sync boost (0x10) and display clock (0x100) are
# settings or idleness and no throttling.
THROTTLE_REASONS = {
    0x04: POWER_LIMIT,
    0x08: "hardware slowdown",
    0x20: "software thermal slowdown",
    0x40: "hardware thermal slowdown",
    0x80: "hardware power brake",
}

# nvml.h: nvmlComputeMode_t.
_COMPUTE_MODES = {0: "default", 1: "exclusive thread", 2: "prohibited", 3: "exclusive process"}


class NvmlCallError(Exception):
    """A call to NVML failed; the text is NVML's reason."""


class NvmlLibrary(Protocol):
    """What the probes need of NVML."""

    def call(self, function: str, *arguments: Any) -> Any:
        """Return the value of an NVML function as JSON types; a GPU argument is its index.

        Raises:
            NvmlCallError: NVML reported an error.
        """


class PynvmlLibrary:
    """The real library, through nvidia-ml-py."""

    def __init__(self) -> None:
        """Load the library.

        Raises:
            NvmlCallError: nvidia-ml-py or NVML is not there, or the driver is not loaded.
        """
        try:
            import pynvml
        except ImportError:
            raise NvmlCallError("the Python package nvidia-ml-py is not installed") from None
        self._pynvml: Any = pynvml
        self._handles: dict[int, Any] = {}
        try:
            pynvml.nvmlInit()
        except pynvml.NVMLError as error:
            raise NvmlCallError(str(error)) from None

    def call(self, function: str, *arguments: Any) -> Any:
        """Return the value of an NVML function as JSON types; a GPU argument is its index.

        Raises:
            NvmlCallError: NVML reported an error.
        """
        try:
            if function.startswith("nvmlDevice") and arguments:
                index, *rest = arguments
                return _plain(getattr(self._pynvml, function)(self._handle(index), *rest))
            return _plain(getattr(self._pynvml, function)(*arguments))
        except self._pynvml.NVMLError as error:
            raise NvmlCallError(str(error)) from None
        except self._pynvml.NVMLLibraryMismatchError:
            raise NvmlCallError("nvidia-ml-py and the driver's NVML do not fit each other") from None

    def _handle(self, index: int) -> Any:
        if index not in self._handles:
            self._handles[index] = self._pynvml.nvmlDeviceGetHandleByIndex(index)
        return self._handles[index]


def _plain(value: Any) -> Any:
    """Turn NVML's structures into dictionaries of JSON types."""
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, bytes):
        return value.decode(errors="replace")
    if fields := getattr(value, "_fields_", None):
        return {field[0]: _plain(getattr(value, field[0])) for field in fields}
    if isinstance(value, int | float | str) or value is None:
        return value
    return {key: _plain(item) for key, item in vars(value).items()}


class GpuProcess(Model):
    """A process on a GPU, by its id in the host's process namespace."""

    pid: int
    used_bytes: Reading[int]


class DeviceMemory(Model):
    """Memory of a GPU over all processes (bytes)."""

    total_bytes: int
    used_bytes: int


class Nvml:
    """The queries the probes use. A query that fails is unknown, with NVML's reason."""

    def __init__(self, library: NvmlLibrary) -> None:
        self._library = library

    def query(self, function: str, *arguments: Any) -> Reading[Any]:
        """Return what an NVML function gives, or NVML's reason why not."""
        try:
            return Known(value=self._library.call(function, *arguments))
        except NvmlCallError as error:
            return Unknown(reason=f"{function}: {error}")

    def device_count(self) -> Reading[int]:
        """Return how many GPUs the driver shows."""
        return self.query("nvmlDeviceGetCount")

    def driver_version(self) -> Reading[str]:
        """Return the version of the kernel driver as NVML reports it."""
        return self.query("nvmlSystemGetDriverVersion")

    def cuda_version(self) -> Reading[str]:
        """Return the newest CUDA version the driver supports, as ``13.0``."""
        version = self.query("nvmlSystemGetCudaDriverVersion_v2")
        # NVML documents 1000 x major + 10 x minor.
        return _mapped(version, lambda number: f"{number // 1000}.{number % 1000 // 10}")

    def name(self, index: int) -> Reading[str]:
        """Return the product name."""
        return self.query("nvmlDeviceGetName", index)

    def uuid(self, index: int) -> Reading[str]:
        """Return the GPU's UUID: for hashing only, never to be written."""
        return self.query("nvmlDeviceGetUUID", index)

    def memory(self, index: int) -> Reading[DeviceMemory]:
        """Return the memory of the GPU and what of it is used by all processes together (bytes)."""
        memory = self.query("nvmlDeviceGetMemoryInfo", index)
        return _mapped(memory, lambda found: DeviceMemory(total_bytes=found["total"], used_bytes=found["used"]))

    def compute_capability(self, index: int) -> Reading[str]:
        """Return the compute capability, as ``9.0``."""
        found = self.query("nvmlDeviceGetCudaComputeCapability", index)
        return _mapped(found, lambda pair: f"{pair[0]}.{pair[1]}")

    def pci_device_id(self, index: int) -> Reading[str]:
        """Return vendor and device, as ``10de:2335``: the kind of card, not which card."""
        found = self.query("nvmlDeviceGetPciInfo_v3", index)
        return _mapped(found, lambda info: f"{info['pciDeviceId'] & 0xFFFF:04x}:{info['pciDeviceId'] >> 16:04x}")

    def core_count(self, index: int) -> Reading[int]:
        """Return the number of CUDA cores."""
        return self.query("nvmlDeviceGetNumGpuCores", index)

    def clock_mhz(self, index: int, clock: int) -> Reading[int]:
        """Return the present clock (MHz) of ``CLOCK_SM`` or ``CLOCK_MEMORY``."""
        return self.query("nvmlDeviceGetClockInfo", index, clock)

    def clock_max_mhz(self, index: int, clock: int) -> Reading[int]:
        """Return the highest clock (MHz) of ``CLOCK_SM`` or ``CLOCK_MEMORY``."""
        return self.query("nvmlDeviceGetMaxClockInfo", index, clock)

    def application_clock_mhz(self, index: int, clock: int) -> Reading[int]:
        """Return the clock (MHz) applications are set to run at."""
        return self.query("nvmlDeviceGetApplicationsClock", index, clock)

    def power_w(self, index: int) -> Reading[float]:
        """Return the power drawn (W)."""
        return _mapped(self.query("nvmlDeviceGetPowerUsage", index), _thousandth)

    def power_limit_w(self, index: int) -> Reading[float]:
        """Return the power limit in force (W)."""
        return _mapped(self.query("nvmlDeviceGetEnforcedPowerLimit", index), _thousandth)

    def power_limit_default_w(self, index: int) -> Reading[float]:
        """Return the power limit the card came with (W)."""
        return _mapped(self.query("nvmlDeviceGetPowerManagementDefaultLimit", index), _thousandth)

    def energy_j(self, index: int) -> Reading[float]:
        """Return the energy drawn since the driver was loaded (J)."""
        return _mapped(self.query("nvmlDeviceGetTotalEnergyConsumption", index), _thousandth)

    def temperature_c(self, index: int) -> Reading[float]:
        """Return the temperature of the GPU's die (degrees Celsius)."""
        return _mapped(self.query("nvmlDeviceGetTemperature", index, TEMPERATURE_GPU), float)

    def utilization_ratio(self, index: int) -> Reading[float]:
        """Return the share of NVML's last sample period (0 to 1) in which a kernel ran."""
        return _mapped(self.query("nvmlDeviceGetUtilizationRates", index), lambda rates: rates["gpu"] / 100)

    def throttle_bits(self, index: int) -> Reading[int]:
        """Return the bit mask of why the clocks are not higher; an old driver knows it by its old name."""
        found = self.query("nvmlDeviceGetCurrentClocksEventReasons", index)
        return self.query("nvmlDeviceGetCurrentClocksThrottleReasons", index) if isinstance(found, Unknown) else found

    def ecc_enabled(self, index: int) -> Reading[bool]:
        """Return whether memory is error corrected now."""
        return _mapped(self.query("nvmlDeviceGetEccMode", index), lambda modes: bool(modes[0]))

    def persistence_mode(self, index: int) -> Reading[bool]:
        """Return whether the driver stays loaded without a client."""
        return _mapped(self.query("nvmlDeviceGetPersistenceMode", index), bool)

    def compute_mode(self, index: int) -> Reading[str]:
        """Return how many processes may use the GPU: ``default``, ``exclusive process``, ``prohibited``."""
        found = self.query("nvmlDeviceGetComputeMode", index)
        return _mapped(found, lambda mode: _COMPUTE_MODES.get(mode, f"mode {mode}"))

    def mig_mode(self, index: int) -> Reading[str]:
        """Return whether the GPU is cut into instances: ``on`` or ``off``."""
        return _mapped(self.query("nvmlDeviceGetMigMode", index), lambda modes: "on" if modes[0] else "off")

    def pcie_generation(self, index: int) -> Reading[int]:
        """Return the highest PCIe generation of card and slot; the present one falls when idle."""
        return self.query("nvmlDeviceGetMaxPcieLinkGeneration", index)

    def pcie_width(self, index: int) -> Reading[int]:
        """Return the most PCIe lanes of card and slot."""
        return self.query("nvmlDeviceGetMaxPcieLinkWidth", index)

    def processes(self, index: int) -> Reading[tuple[GpuProcess, ...]]:
        """Return the processes that compute or draw on the GPU, each once."""
        compute = self.query("nvmlDeviceGetComputeRunningProcesses", index)
        if isinstance(compute, Unknown):
            return compute
        # Drawing processes are not listed on cards without a display engine; the computing ones are what counts.
        graphics = self.query("nvmlDeviceGetGraphicsRunningProcesses", index)
        entries = [*compute.value, *([] if isinstance(graphics, Unknown) else graphics.value)]
        by_pid = {entry["pid"]: _gpu_process(entry) for entry in reversed(entries)}
        return Known(value=tuple(by_pid[pid] for pid in sorted(by_pid)))


def _gpu_process(entry: dict[str, Any]) -> GpuProcess:
    used = entry["usedGpuMemory"]
    unknown = Unknown(reason="NVML does not tell the memory of this process")
    return GpuProcess(pid=entry["pid"], used_bytes=unknown if used is None else Known(value=used))


def _mapped(reading: Reading[Any], convert: Any) -> Reading[Any]:
    return reading if isinstance(reading, Unknown) else Known(value=convert(reading.value))


def _thousandth(value: int) -> float:
    """Return milliwatts in W, or millijoules in J."""
    return value / 1000


@cache
def open_nvml() -> Nvml | Unknown:
    """Return NVML of this process, or why there is none. It is opened once: each opening counts in the driver."""
    try:
        return Nvml(PynvmlLibrary())
    except NvmlCallError as error:
        return Unknown(reason=str(error))
