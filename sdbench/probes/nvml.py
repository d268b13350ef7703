"""A thin layer over NVML: every query returns a reading and raises nothing.

The library is one function, ``call(function, *arguments)``, that takes GPUs by index, returns plain JSON types and
raises ``NvmlCallError``. So tests replay snapshots (function and arguments to value or error) without a GPU.
"""

from collections.abc import Callable
from functools import cache
from typing import Any, TypeVar

from sdbench.probes.readings import as_reading, value_of, value_or
from sdbench.schema.base import Known, Reading, Unknown

T = TypeVar("T")

# nvml.h: nvmlClockType_t and nvmlTemperatureSensors_t.
CLOCK_SM = 1
CLOCK_MEMORY = 2
TEMPERATURE_GPU = 0

POWER_LIMIT = "power limit"
# nvml.h: nvmlClocksEventReasonApplicationsClocksSetting.
CLOCK_SETTING = 0x02
# nvml.h: nvmlClocksEventReasons. Idle (0x1), application clocks (0x2), sync boost (0x10) and display clock (0x100) are
# settings or idleness and no throttling.
THROTTLE_REASONS = {
    0x04: POWER_LIMIT,
    0x08: "hardware slowdown",
    0x20: "software thermal slowdown",
    0x40: "hardware thermal slowdown",
    0x80: "hardware power brake",
}

# Time (ns) for which the power limit and heat have lowered the clocks. Hardware slowdowns have counters too, but their
# ids moved (251 to 253 in nvidia-ml-py 12.575, 269 to 271 in 13.615) and are power smoothing's in the other drivers.
_FIELD_POWER_LIMIT_NS = 74
_FIELD_THERMAL_NS = 75
_FIELD_POWER_INSTANT = 186
_FIELD_VALUES = "nvmlDeviceGetFieldValues"
_PROCESS_UTILIZATION = "nvmlDeviceGetProcessUtilization"
# nvml.h: nvmlValueType_t, in its order.
_FIELD_MEMBERS = ("dVal", "uiVal", "ulVal", "ullVal", "sllVal", "siVal", "usVal")
# nvml.h: NVML_PSTATE_UNKNOWN.
_STATE_UNKNOWN = 32

# nvml.h: nvmlComputeMode_t.
_COMPUTE_MODES = {0: "default", 1: "exclusive thread", 2: "prohibited", 3: "exclusive process"}


class NvmlCallError(Exception):
    """A call to NVML failed; the text is NVML's reason."""


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
        self._handle = cache(pynvml.nvmlDeviceGetHandleByIndex)
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
                arguments = (self._handle(arguments[0]), *arguments[1:])
            read = self._read_field if function == _FIELD_VALUES else getattr(self._pynvml, function)
            return _plain(read(*arguments))
        except self._pynvml.NVMLError as error:
            raise NvmlCallError(str(error)) from None
        except self._pynvml.NVMLLibraryMismatchError:
            raise NvmlCallError("nvidia-ml-py and the driver's NVML do not fit each other") from None

    def _read_field(self, handle: Any, field_id: int) -> Any:
        """Return the value of one field: NVML reports an error for each."""
        (field,) = self._pynvml.nvmlDeviceGetFieldValues(handle, [field_id])
        if field.nvmlReturn:
            raise self._pynvml.NVMLError(field.nvmlReturn)
        return getattr(field.value, _FIELD_MEMBERS[field.valueType])


def _plain(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, bytes):
        return value.decode(errors="replace")
    if fields := getattr(value, "_fields_", None):
        return {field[0]: _plain(getattr(value, field[0])) for field in fields}
    if isinstance(value, int | float | str) or value is None:
        return value
    return {key: _plain(item) for key, item in vars(value).items()}


def _query(function: str, convert: Callable[[Any], T], *arguments: int) -> Callable[["Nvml", int], Reading[T]]:
    """Return a method that gives the converted value of an NVML function for the GPU at an index."""
    return lambda nvml, index: nvml.query(function, convert, index, *arguments)


def _system_query(function: str, convert: Callable[[Any], T]) -> Callable[["Nvml"], Reading[T]]:
    """Return a method that gives the converted value of an NVML function that takes no GPU."""
    return lambda nvml: nvml.query(function, convert)


def _thousandth(value: int) -> float:
    return value / 1000


def _performance_state(state: int) -> int:
    if state == _STATE_UNKNOWN:
        raise NvmlCallError("the driver does not know it")
    return state


class Nvml:
    """The queries the probes use, most of them of the GPU at an index. What fails is unknown, with its reason.

    Without a library all of them fail; ``missing`` is why there is none.
    """

    def __init__(self, call: Callable[..., Any] | None, missing: str = "") -> None:
        self._call = call
        self.missing = missing

    def query(self, function: str, convert: Callable[[Any], T], *arguments: int) -> Reading[T]:
        """Return the converted value of an NVML function, or NVML's reason why not."""
        if self._call is None:
            return Unknown(reason=self.missing)
        try:
            return Known(value=convert(self._call(function, *arguments)))
        except NvmlCallError as error:
            return Unknown(reason=f"{function}: {error}")

    device_count = _system_query("nvmlDeviceGetCount", int)  # GPUs that the driver shows
    driver_version = _system_query("nvmlSystemGetDriverVersion", str)  # as "580.95.05"
    # The newest that the driver supports, as "13.0": NVML documents 1000 x major + 10 x minor.
    cuda_version = _system_query("nvmlSystemGetCudaDriverVersion_v2", lambda n: f"{n // 1000}.{n % 1000 // 10}")
    name = _query("nvmlDeviceGetName", str)  # the product
    uuid = _query("nvmlDeviceGetUUID", str)  # for hashing only, never to be written
    memory_total_bytes = _query("nvmlDeviceGetMemoryInfo", lambda memory: int(memory["total"]))
    memory_used_bytes = _query("nvmlDeviceGetMemoryInfo", lambda memory: int(memory["used"]))  # by all processes
    compute_capability = _query("nvmlDeviceGetCudaComputeCapability", lambda pair: f"{pair[0]}.{pair[1]}")  # as "9.0"
    # Vendor and device, as "10de:2335": the kind of card, not which card.
    pci_device_id = _query(
        "nvmlDeviceGetPciInfo_v3", lambda info: f"{info['pciDeviceId'] & 0xFFFF:04x}:{info['pciDeviceId'] >> 16:04x}"
    )
    # To find it in sysfs only, never to be written: "0000:3b:00.0", where NVML writes the domain with eight digits.
    pci_address = _query("nvmlDeviceGetPciInfo_v3", lambda info: str(info["busId"])[-12:].lower())
    core_count = _query("nvmlDeviceGetNumGpuCores", int)  # CUDA cores
    clock_sm_mhz = _query("nvmlDeviceGetClockInfo", int, CLOCK_SM)  # at present
    clock_memory_mhz = _query("nvmlDeviceGetClockInfo", int, CLOCK_MEMORY)  # at present
    clock_max_sm_mhz = _query("nvmlDeviceGetMaxClockInfo", int, CLOCK_SM)
    clock_max_memory_mhz = _query("nvmlDeviceGetMaxClockInfo", int, CLOCK_MEMORY)
    application_clock_sm_mhz = _query("nvmlDeviceGetApplicationsClock", int, CLOCK_SM)  # what applications are set to
    performance_state = _query("nvmlDeviceGetPerformanceState", _performance_state)  # 0 is the fastest
    # Over the last second; from a GA100 (A100) and older cards: drawn now.
    power_w = _query("nvmlDeviceGetPowerUsage", _thousandth)
    power_instant_w = _query(_FIELD_VALUES, _thousandth, _FIELD_POWER_INSTANT)  # drawn now
    power_limit_ns = _query(_FIELD_VALUES, int, _FIELD_POWER_LIMIT_NS)
    thermal_ns = _query(_FIELD_VALUES, int, _FIELD_THERMAL_NS)
    pcie_generation_now = _query("nvmlDeviceGetCurrPcieLinkGeneration", int)
    pcie_width_now = _query("nvmlDeviceGetCurrPcieLinkWidth", int)  # lanes
    power_limit_w = _query("nvmlDeviceGetEnforcedPowerLimit", _thousandth)  # in force
    power_limit_default_w = _query("nvmlDeviceGetPowerManagementDefaultLimit", _thousandth)  # what the card came with
    energy_j = _query("nvmlDeviceGetTotalEnergyConsumption", _thousandth)  # since the driver was loaded
    temperature_c = _query("nvmlDeviceGetTemperature", float, TEMPERATURE_GPU)  # of the die
    # The share of NVML's last sample period (0 to 1) in which a kernel ran.
    utilization_ratio = _query("nvmlDeviceGetUtilizationRates", lambda rates: float(rates["gpu"] / 100))
    ecc_enabled = _query("nvmlDeviceGetEccMode", lambda modes: bool(modes[0]))  # error correction of memory, now
    persistence_mode = _query("nvmlDeviceGetPersistenceMode", bool)  # whether the driver stays loaded without a client
    # How many processes may use the GPU.
    compute_mode = _query("nvmlDeviceGetComputeMode", lambda mode: _COMPUTE_MODES.get(mode, f"mode {mode}"))
    mig_mode = _query("nvmlDeviceGetMigMode", lambda modes: "on" if modes[0] else "off")  # whether cut into instances
    pcie_generation = _query("nvmlDeviceGetMaxPcieLinkGeneration", int)  # the most of card and slot: it falls when idle
    pcie_width = _query("nvmlDeviceGetMaxPcieLinkWidth", int)  # lanes: the most of card and slot

    def throttle_bits(self, index: int) -> Reading[int]:
        """Return the bit mask of why the clocks are not higher; old drivers have it under its old name."""
        reasons = self.query("nvmlDeviceGetCurrentClocksEventReasons", int, index)
        if isinstance(reasons, Known):
            return reasons
        return self.query("nvmlDeviceGetCurrentClocksThrottleReasons", int, index)

    @as_reading
    def sm_ratios(self, index: int, since_us: int) -> dict[int, float]:
        """Return the share of the SMs (0 to 1) that each process computed on since a time (us, of the epoch).

        Where the driver does not report it, that is 1 for a process which it lists as computing and not as drawing.
        """
        samples = self.query(_PROCESS_UTILIZATION, list, index, since_us)
        if isinstance(samples, Known):
            ratios = {sample["pid"]: sample["smUtil"] / 100 for sample in samples.value}
            # Some drivers leave garbage where there is no sample.
            return {pid: ratio for pid, ratio in ratios.items() if ratio <= 1}
        # No process has computed since then; nvidia-ml-py raises Success for an empty list.
        if samples.reason in (f"{_PROCESS_UTILIZATION}: Not Found", f"{_PROCESS_UTILIZATION}: Success"):
            return {}
        compute = value_of(self.query("nvmlDeviceGetComputeRunningProcesses", list, index))
        graphics = value_or(self.query("nvmlDeviceGetGraphicsRunningProcesses", list, index), [])
        return dict.fromkeys({entry["pid"] for entry in compute} - {entry["pid"] for entry in graphics}, 1.0)

    @as_reading
    def processes(self, index: int) -> dict[int, Reading[int]]:
        """Return the memory (bytes) of each process that computes or draws on the GPU, by the host's process id."""
        compute = value_of(self.query("nvmlDeviceGetComputeRunningProcesses", list, index))
        # Drawing processes are not listed on cards without a display engine; the computing ones are what counts.
        graphics = value_or(self.query("nvmlDeviceGetGraphicsRunningProcesses", list, index), [])
        unknown = Unknown(reason="NVML does not report the memory of this process")
        used = {entry["pid"]: entry["usedGpuMemory"] for entry in reversed([*compute, *graphics])}
        return {pid: unknown if used[pid] is None else Known(value=used[pid]) for pid in sorted(used)}


@cache
def open_nvml() -> Nvml:
    """Return NVML of this process. It is opened once: each opening counts in the driver."""
    try:
        return Nvml(PynvmlLibrary().call)
    except NvmlCallError as error:
        return Nvml(None, str(error))
