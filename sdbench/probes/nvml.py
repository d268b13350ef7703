"""A thin layer over NVML: every query returns a reading and raises nothing.

The library is one function, ``call`` of nvml_library.py: tests replay snapshots of it without a GPU.
"""

from collections.abc import Callable
from functools import cache
from typing import Any, TypeVar

from sdbench.probes.nvml_library import FIELD_VALUES, Address, NvmlCallError, PynvmlLibrary
from sdbench.probes.readings import as_reading, known_values, value_of, value_or
from sdbench.schema.base import Known, Reading, Unknown

T = TypeVar("T")

# nvml.h: nvmlClockType_t and nvmlTemperatureSensors_t.
CLOCK_SM = 1
CLOCK_MEMORY = 2
TEMPERATURE_GPU = 0
ECC_CORRECTED, ECC_UNCORRECTED = 0, 1
ECC_SINCE_LOADED = 0
# nvml.h: nvmlMemory_v2, the version of a structure that holds what is reserved apart from what is used.
MEMORY_V2 = 0x02000028

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
_PROCESS_UTILIZATION = "nvmlDeviceGetProcessUtilization"
# nvml.h: NVML_PSTATE_UNKNOWN.
_STATE_UNKNOWN = 32

# nvml.h: nvmlComputeMode_t.
_COMPUTE_MODES = {0: "default", 1: "exclusive thread", 2: "prohibited", 3: "exclusive process"}


# Of a MIG slice NVML answers these itself; those of the second list hold for each slice of the card, which is asked.
# What else there is to ask (clocks, power, energy, utilization, ...) is of the whole card, others' work included.
_OF_SLICE = {
    "nvmlDeviceGetName",
    "nvmlDeviceGetUUID",
    "nvmlDeviceGetMemoryInfo",
    "nvmlDeviceGetAttributes",
    "nvmlDeviceGetDeviceHandleFromMigDeviceHandle",
    "nvmlDeviceGetComputeRunningProcesses",
}
_OF_ITS_CARD = {
    "nvmlDeviceGetCudaComputeCapability",
    "nvmlDeviceGetPciInfo_v3",
    "nvmlDeviceGetMaxClockInfo",
    "nvmlDeviceGetPowerManagementLimit",
    "nvmlDeviceGetPowerManagementDefaultLimit",
    "nvmlDeviceGetEccMode",
    "nvmlDeviceGetPersistenceMode",
    "nvmlDeviceGetComputeMode",
    "nvmlDeviceGetMigMode",
    "nvmlDeviceGetMaxPcieLinkGeneration",
    "nvmlDeviceGetMaxPcieLinkWidth",
    "nvmlDeviceGetBAR1MemoryInfo",
}
_WHOLE_CARD = "of the whole card, not of this MIG slice"


def _query(
    function: str, convert: Callable[[Any], T], *arguments: int, older: tuple[Any, ...] = ()
) -> Callable[["Nvml", Address], Reading[T]]:
    """Return a method that gives the converted value of an NVML function for a GPU.

    ``older`` is the function, with its arguments, of drivers that do not have this one.
    """

    def read(nvml: "Nvml", address: Address) -> Reading[T]:
        reading = nvml.query(function, convert, address, *arguments)
        if older and isinstance(reading, Unknown):
            return nvml.query(older[0], convert, address, *older[1:])
        return reading

    return read


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
    """The queries the probes use, most of them of a GPU. What fails is unknown, with its reason.

    Without a library all of them fail; ``missing`` is why there is none, ``missing_code`` NVML's code for it.
    """

    def __init__(self, call: Callable[..., Any] | None, missing: str = "", missing_code: int = 0) -> None:
        self._call = call
        self.missing = missing
        self.missing_code = missing_code

    def query(self, function: str, convert: Callable[[Any], T], *arguments: Any) -> Reading[T]:
        """Return the converted value of an NVML function, or NVML's reason why not."""
        if self._call is None:
            return Unknown(reason=self.missing)
        if arguments and is_slice(arguments[0]) and function not in _OF_SLICE:
            card = self.card(arguments[0]) if function in _OF_ITS_CARD else Unknown(reason=_WHOLE_CARD)
            if isinstance(card, Unknown):
                return Unknown(reason=f"{function}: {card.reason}")
            arguments = (card.value, *arguments[1:])
        try:
            return Known(value=convert(self._call(function, *arguments)))
        except NvmlCallError as error:
            return Unknown(reason=f"{function}: {error}")

    def code_of(self, address: Address) -> int:
        """Return NVML's code for the state of a GPU, 0 where it answers: the driver is asked, not a copy."""
        try:
            if self._call is not None:
                self._call("nvmlDeviceGetMemoryInfo", address)
        except NvmlCallError as error:
            return error.code
        return 0

    device_count = _system_query("nvmlDeviceGetCount", int)  # GPUs that the driver shows
    driver_version = _system_query("nvmlSystemGetDriverVersion", str)  # as "580.95.05"
    # The newest that the driver supports, as "13.0": NVML documents 1000 x major + 10 x minor.
    cuda_version = _system_query("nvmlSystemGetCudaDriverVersion_v2", lambda n: f"{n // 1000}.{n % 1000 // 10}")
    name = _query("nvmlDeviceGetName", str)  # the product
    uuid = _query("nvmlDeviceGetUUID", str)  # for hashing only, never to be written
    memory_total_bytes = _query("nvmlDeviceGetMemoryInfo", lambda memory: int(memory["total"]))
    # By all processes. Drivers without version 2 count what they reserve for themselves as used.
    memory_used_bytes = _query(
        "nvmlDeviceGetMemoryInfo", lambda m: int(m["used"]), MEMORY_V2, older=("nvmlDeviceGetMemoryInfo",)
    )
    memory_reserved_bytes = _query("nvmlDeviceGetMemoryInfo", lambda memory: int(memory["reserved"]), MEMORY_V2)
    bar1_total_bytes = _query("nvmlDeviceGetBAR1MemoryInfo", lambda memory: int(memory["bar1Total"]))
    compute_capability = _query("nvmlDeviceGetCudaComputeCapability", lambda pair: f"{pair[0]}.{pair[1]}")  # as "9.0"
    # Vendor and device, as "10de:2335": the kind of card, not which card.
    pci_device_id = _query(
        "nvmlDeviceGetPciInfo_v3", lambda info: f"{info['pciDeviceId'] & 0xFFFF:04x}:{info['pciDeviceId'] >> 16:04x}"
    )
    # To find it in sysfs only, never to be written: "0000:3b:00.0", where NVML writes the domain with eight digits.
    pci_address = _query("nvmlDeviceGetPciInfo_v3", lambda info: str(info.get("busId", ""))[-12:].lower())
    core_count = _query("nvmlDeviceGetNumGpuCores", int)  # CUDA cores
    clock_sm_mhz = _query("nvmlDeviceGetClockInfo", int, CLOCK_SM)  # at present
    clock_memory_mhz = _query("nvmlDeviceGetClockInfo", int, CLOCK_MEMORY)  # at present
    clock_max_sm_mhz = _query("nvmlDeviceGetMaxClockInfo", int, CLOCK_SM)
    clock_max_memory_mhz = _query("nvmlDeviceGetMaxClockInfo", int, CLOCK_MEMORY)
    performance_state = _query("nvmlDeviceGetPerformanceState", _performance_state)  # 0 is the fastest
    # Over the last second; from a GA100 (A100) and older cards: drawn now.
    power_w = _query("nvmlDeviceGetPowerUsage", _thousandth)
    power_instant_w = _query(FIELD_VALUES, _thousandth, _FIELD_POWER_INSTANT)  # drawn now
    power_limit_ns = _query(FIELD_VALUES, int, _FIELD_POWER_LIMIT_NS)
    thermal_ns = _query(FIELD_VALUES, int, _FIELD_THERMAL_NS)
    pcie_generation_now = _query("nvmlDeviceGetCurrPcieLinkGeneration", int)
    pcie_width_now = _query("nvmlDeviceGetCurrPcieLinkWidth", int)  # lanes
    power_limit_w = _query("nvmlDeviceGetPowerManagementLimit", _thousandth)  # as set
    # In force: a laptop moves it with its heat and its other parts.
    power_limit_enforced_w = _query("nvmlDeviceGetEnforcedPowerLimit", _thousandth)
    power_limit_default_w = _query("nvmlDeviceGetPowerManagementDefaultLimit", _thousandth)  # what the card came with
    energy_j = _query("nvmlDeviceGetTotalEnergyConsumption", _thousandth)  # since the driver was loaded
    temperature_c = _query(  # of the die
        "nvmlDeviceGetTemperatureV", float, TEMPERATURE_GPU, older=("nvmlDeviceGetTemperature", TEMPERATURE_GPU)
    )
    # The share of NVML's last sample period (0 to 1) in which a kernel ran.
    utilization_ratio = _query("nvmlDeviceGetUtilizationRates", lambda rates: float(rates["gpu"] / 100))
    ecc_enabled = _query("nvmlDeviceGetEccMode", lambda modes: bool(modes[0]))  # error correction of memory, now
    persistence_mode = _query("nvmlDeviceGetPersistenceMode", bool)  # whether the driver stays loaded without a client
    # How many processes may use the GPU.
    compute_mode = _query("nvmlDeviceGetComputeMode", lambda mode: _COMPUTE_MODES.get(mode, f"mode {mode}"))
    mig_mode = _query("nvmlDeviceGetMigMode", lambda modes: "on" if modes[0] else "off")  # whether cut into instances
    pcie_generation = _query("nvmlDeviceGetMaxPcieLinkGeneration", int)  # the most of card and slot: it falls when idle
    pcie_width = _query("nvmlDeviceGetMaxPcieLinkWidth", int)  # lanes: the most of card and slot

    display_attached = _query("nvmlDeviceGetDisplayMode", bool)
    display_active = _query("nvmlDeviceGetDisplayActive", bool)
    # Of memory, since the driver was loaded.
    ecc_corrected_count = _query("nvmlDeviceGetTotalEccErrors", int, ECC_CORRECTED, ECC_SINCE_LOADED)
    ecc_uncorrected_count = _query("nvmlDeviceGetTotalEccErrors", int, ECC_UNCORRECTED, ECC_SINCE_LOADED)
    remapped_row_count = _query("nvmlDeviceGetRemappedRows", lambda rows: int(rows[0]) + int(rows[1]))
    slice_multiprocessor_count = _query("nvmlDeviceGetAttributes", lambda it: int(it["multiprocessorCount"]))
    # The card that a MIG slice is of.
    card = _query("nvmlDeviceGetDeviceHandleFromMigDeviceHandle", str)
    # The bit mask of why the clocks are not higher.
    throttle_bits = _query(
        "nvmlDeviceGetCurrentClocksEventReasons", int, older=("nvmlDeviceGetCurrentClocksThrottleReasons",)
    )

    @as_reading
    def slices(self, address: Address) -> tuple[str, ...]:
        """Return the UUIDs of the MIG slices of a card that this process may see."""
        count = value_of(self.query("nvmlDeviceGetMaxMigDeviceCount", int, address))
        places = (self.query("nvmlDeviceGetMigDeviceHandleByIndex", str, address, place) for place in range(count))
        return tuple(known_values(places))

    @as_reading
    def sm_ratios(self, address: Address, since_us: int) -> dict[int, float]:
        """Return the share of the SMs (0 to 1) that each process computed on since a time (us, of the epoch).

        Where the driver does not report it, that is 1 for a process which it lists as computing and not as drawing.
        """
        samples = self.query(_PROCESS_UTILIZATION, list, address, since_us)
        if isinstance(samples, Known):
            ratios = {sample["pid"]: sample["smUtil"] / 100 for sample in samples.value}
            # Some drivers leave garbage where there is no sample.
            return {pid: ratio for pid, ratio in ratios.items() if ratio <= 1}
        # No process has computed since then; nvidia-ml-py raises Success for an empty list.
        if samples.reason in (f"{_PROCESS_UTILIZATION}: Not Found", f"{_PROCESS_UTILIZATION}: Success"):
            return {}
        compute = value_of(self.query("nvmlDeviceGetComputeRunningProcesses", list, address))
        graphics = value_or(self.query("nvmlDeviceGetGraphicsRunningProcesses", list, address), [])
        return dict.fromkeys({entry["pid"] for entry in compute} - {entry["pid"] for entry in graphics}, 1.0)

    @as_reading
    def processes(self, address: Address) -> dict[int, Reading[int]]:
        """Return the memory (bytes) of each process that computes or draws on the GPU, by its id in our namespace.

        Since drivers 535.113 and 545.23 that is the caller's own process namespace, and no process outside it is listed
        (open-gpu-kernel-modules: kernel-open/nvidia/os-interface.c, src/nvidia/src/kernel/gpu/gpu_rmapi.c).
        """
        compute = value_of(self.query("nvmlDeviceGetComputeRunningProcesses", list, address))
        # Drawing processes are not listed on cards without a display engine; the computing ones are what counts.
        graphics = value_or(self.query("nvmlDeviceGetGraphicsRunningProcesses", list, address), [])
        unknown = Unknown(reason="NVML does not report the memory of this process")
        used = {entry["pid"]: entry["usedGpuMemory"] for entry in reversed([*compute, *graphics])}
        return {pid: unknown if used[pid] is None else Known(value=used[pid]) for pid in sorted(used)}


@cache
def open_nvml() -> Nvml:
    """Return NVML of this process. It is opened once: each opening counts in the driver."""
    try:
        return Nvml(PynvmlLibrary().call)
    except NvmlCallError as error:
        return Nvml(None, str(error), error.code)


def is_slice(address: Address) -> bool:
    """Return whether an address is of a MIG slice, not of a card."""
    return isinstance(address, str) and address.startswith("MIG-")
