import json
import sys
from typing import Any

import pytest

from sdbench.probes.gpu import read_gpu_configuration, read_gpu_identity, read_gpu_state
from sdbench.probes.nvml import Nvml, open_nvml
from sdbench.probes.nvml_library import NvmlCallError, NvmlCode, PynvmlLibrary
from sdbench.schema.base import Known, Unknown
from sdbench.schema.fingerprint import GpuConfiguration, GpuState
from tests.probes.replay import SNAPSHOTS, replay_nvml


def test_every_snapshot_says_where_it_comes_from() -> None:
    origins = {path.name: json.loads(path.read_text())["origin"] for path in SNAPSHOTS.glob("*.json")}

    captured = "derived from utkuozdemir/nvidia_gpu_exporter, internal/captures, MIT"
    own = "written from the NVML documentation"
    assert all(origin.startswith((own, captured)) for origin in origins.values()), origins


class _FieldLibrary:
    """The real nvidia-ml-py, with a library below it that knows some fields, each by its kind of value."""

    def __init__(self, pynvml: Any) -> None:
        self._pynvml = pynvml

    def __call__(self, _handle: Any, count: Any, values: Any) -> int:
        fields = {186: (1, "uiVal", 588_000), 74: (3, "ullVal", 2**40)}
        for field in values._obj[: count.value]:
            field.nvmlReturn = 0 if field.fieldId in fields else self._pynvml.NVML_ERROR_NOT_SUPPORTED
            field.valueType, member, number = fields.get(field.fieldId, (0, "dVal", 0.0))
            setattr(field.value, member, number)
        return 0


def test_fields_are_read_by_their_type_and_each_has_its_own_error(monkeypatch: pytest.MonkeyPatch) -> None:
    pynvml = pytest.importorskip("pynvml")
    monkeypatch.setattr(pynvml, "nvmlInit", lambda: None)
    monkeypatch.setattr(pynvml, "nvmlDeviceGetHandleByIndex", lambda index: index)
    monkeypatch.setattr(pynvml, "_nvmlGetFunctionPointer", lambda _name: _FieldLibrary(pynvml))
    nvml = Nvml(PynvmlLibrary().call)

    assert nvml.power_instant_w(0) == Known(value=588.0)
    assert nvml.power_limit_ns(0) == Known(value=2**40)
    assert nvml.thermal_ns(0) == Unknown(reason="nvmlDeviceGetFieldValues: Not Supported")


def test_a_healthy_gpu_is_read_in_si_units() -> None:
    nvml = replay_nvml("healthy")

    assert nvml.power_w(0) == Known(value=287.45)
    assert nvml.power_limit_w(0) == Known(value=450.0)
    assert nvml.energy_j(0) == Known(value=812345.678)
    assert nvml.utilization_ratio(0) == Known(value=0.98)
    assert (nvml.memory_total_bytes(0), nvml.memory_used_bytes(0)) == (Known(value=24 * 2**30), Known(value=2**30))
    assert nvml.cuda_version() == Known(value="13.0")
    assert nvml.clock_sm_mhz(0) == Known(value=2520)


def test_identity_names_the_kind_of_card_and_hides_which_one() -> None:
    identity = read_gpu_identity(replay_nvml("healthy"), 0, Known(value=b"s" * 32))

    assert identity.pci_device_id == Known(value="10de:2684")
    assert identity.compute_capability == Known(value="8.9")
    assert identity.multiprocessor_count == Known(value=128)
    assert isinstance(identity.uuid_hmac, Known)
    assert "5a11ed00" not in identity.model_dump_json()


def test_configuration_of_a_data_centre_card_is_read() -> None:
    configuration = read_gpu_configuration(replay_nvml("throttling"), 0)

    assert configuration.power_limit_w == Known(value=300.0)
    assert configuration.power_limit_default_w == Known(value=400.0)
    assert configuration.ecc_enabled == Known(value=True)
    assert configuration.mig_mode == Known(value="off")
    assert configuration.compute_mode == Known(value="default")


def test_every_field_of_a_configuration_has_a_query_of_its_name() -> None:
    assert vars(Nvml).keys() >= (GpuConfiguration.model_fields.keys() | GpuState.model_fields.keys()) - {"numa_node"}


def test_what_a_gpu_does_not_support_is_unknown_with_nvmls_reason() -> None:
    nvml = replay_nvml("not-supported")
    configuration = read_gpu_configuration(nvml, 0)
    identity = read_gpu_identity(nvml, 0, Known(value=b"s" * 32))

    assert configuration.power_limit_w == Unknown(reason="nvmlDeviceGetPowerManagementLimit: Not Supported")
    assert identity.uuid_hmac == Unknown(reason="nvmlDeviceGetUUID: Insufficient Permissions")
    assert identity.name == Known(value="NVIDIA GRID T4-8Q")
    assert isinstance(nvml.throttle_bits(0), Unknown)
    assert isinstance(nvml.processes(0), Unknown)


def test_multiprocessors_of_an_unheard_of_capability_are_unknown() -> None:
    def answer(function: str, *_: Any) -> Any:
        return 1000 if "Cores" in function else [99, 0]

    identity = read_gpu_identity(Nvml(_only(answer, "NumGpuCores", "ComputeCapability")), 0, Unknown(reason="no salt"))

    assert isinstance(identity.multiprocessor_count, Unknown)
    assert "99.0" in identity.multiprocessor_count.reason


def test_processes_that_compute_and_draw_are_listed_once() -> None:
    processes = replay_nvml("foreign-process").processes(0)

    assert isinstance(processes, Known)
    assert list(processes.value) == [777, 900, 4242]
    assert isinstance(processes.value[900], Unknown)
    assert processes.value[777] == Known(value=9 * 2**30)


CAPTURES = ("rtx-2080-super", "h100", "l40s")


@pytest.mark.parametrize("load", ["idle", "load"])
@pytest.mark.parametrize("card", CAPTURES)
def test_what_real_cards_answered_is_read_in_si_units(card: str, load: str) -> None:
    nvml = replay_nvml(f"{card}-{load}")
    name, memory_bytes, limit_w, clock_mhz, capability = {
        "rtx-2080-super": ("NVIDIA GeForce RTX 2080 SUPER", 8 * 2**30, 250.0, 2145, "7.5"),
        "h100": ("NVIDIA H100 80GB HBM3", 81559 * 2**20, 700.0, 1980, "9.0"),
        "l40s": ("NVIDIA L40S", 46068 * 2**20, 350.0, 2520, "8.9"),
    }[card]
    configuration, state = read_gpu_configuration(nvml, 0), read_gpu_state(nvml, 0)

    assert nvml.name(0) == Known(value=name)
    assert nvml.memory_total_bytes(0) == Known(value=memory_bytes)
    assert nvml.compute_capability(0) == Known(value=capability)
    assert configuration.power_limit_default_w == Known(value=limit_w)
    assert configuration.clock_max_sm_mhz == Known(value=clock_mhz)
    assert state.power_limit_enforced_w == Known(value=limit_w)
    assert isinstance(state.memory_reserved_bytes, Unknown)
    power, temperature, clock = nvml.power_w(0), nvml.temperature_c(0), nvml.clock_sm_mhz(0)
    assert isinstance(power, Known)
    assert isinstance(temperature, Known)
    assert isinstance(clock, Known)
    assert 10 < power.value < limit_w
    assert 20 < temperature.value < 90
    assert 200 < clock.value <= clock_mhz
    assert isinstance(nvml.processes(0), Known)


def test_what_the_driver_reserves_is_not_counted_as_used() -> None:
    # Version 1 of the same moment, 479 MiB of an idle H100, holds both.
    answer = {"total": 81559, "reserved": 478, "free": 81080, "used": 1}
    nvml = replay_nvml("h100-idle", nvmlDeviceGetMemoryInfo=answer)

    assert nvml.memory_used_bytes(0) == Known(value=1)
    assert read_gpu_state(nvml, 0).memory_reserved_bytes == Known(value=478)


def test_a_driver_without_version_2_of_memory_says_that_what_is_reserved_is_unknown() -> None:
    nvml = replay_nvml("h100-idle")

    assert isinstance(nvml.memory_used_bytes(0), Known)
    assert nvml.memory_reserved_bytes(0) == Unknown(reason="nvmlDeviceGetMemoryInfo: Function Not Found")


def test_a_moving_limit_or_a_counter_of_errors_does_not_change_the_configuration() -> None:
    calm = replay_nvml("throttling")
    moved = replay_nvml("throttling", nvmlDeviceGetEnforcedPowerLimit=61_000, nvmlDeviceGetTotalEccErrors=7)

    assert read_gpu_configuration(moved, 0) == read_gpu_configuration(calm, 0)
    assert read_gpu_state(moved, 0).power_limit_enforced_w == Known(value=61.0)
    assert read_gpu_state(moved, 0).ecc_corrected_count == Known(value=7)


def test_a_gpu_is_asked_by_its_uuid_as_by_its_index() -> None:
    nvml = replay_nvml("two-gpus")
    uuid = nvml.uuid(1)

    assert isinstance(uuid, Known)
    assert nvml.name(uuid.value) == nvml.name(1) != nvml.name(0)


def test_an_absent_driver_is_unknown_with_its_reason() -> None:
    assert replay_nvml("driver-absent").device_count() == Unknown(reason="NVML Shared Library Not Found")


def test_opening_nvml_without_its_library_gives_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    pynvml = pytest.importorskip("pynvml")

    def fail() -> None:
        raise pynvml.NVMLError(pynvml.NVML_ERROR_DRIVER_NOT_LOADED)

    monkeypatch.setattr(pynvml, "nvmlInit", fail)
    open_nvml.cache_clear()
    try:
        assert open_nvml().missing == "Driver Not Loaded"
        assert open_nvml().missing_code == NvmlCode.DRIVER_NOT_LOADED
    finally:
        open_nvml.cache_clear()


def test_opening_nvml_without_the_python_package_gives_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", None)

    with pytest.raises(NvmlCallError, match="nvidia-ml-py is not installed"):
        PynvmlLibrary()


def test_the_real_librarys_structures_come_back_as_the_snapshots_have_them(monkeypatch: pytest.MonkeyPatch) -> None:
    pynvml = pytest.importorskip("pynvml")
    friendly = pynvml.nvmlFriendlyObject({"pid": 7, "usedGpuMemory": None})
    answers = {
        "nvmlInit": lambda: None,
        "nvmlDeviceGetHandleByIndex": lambda index: f"handle {index}",
        "nvmlDeviceGetMemoryInfo": lambda handle, version=None: pynvml.c_nvmlMemory_t(3, 2, 1),
        "nvmlDeviceGetComputeRunningProcesses": lambda handle: [friendly],
        "nvmlDeviceGetGraphicsRunningProcesses": lambda handle: [],
        "nvmlDeviceGetCudaComputeCapability": lambda handle: (9, 0),
        "nvmlDeviceGetPciInfo_v3": lambda handle: pynvml.nvmlPciInfo_t(b"x", 0, 1, 0, 0x233510DE, 0, b"y"),
        "nvmlDeviceGetName": lambda handle: handle,
        "nvmlDeviceGetUUID": _raiser(pynvml.NVMLError(pynvml.NVML_ERROR_GPU_IS_LOST)),
        "nvmlDeviceGetUtilizationRates": _raiser(pynvml.NVMLLibraryMismatchError()),
    }
    for name, answer in answers.items():
        monkeypatch.setattr(pynvml, name, answer)
    nvml = Nvml(PynvmlLibrary().call)

    assert (nvml.memory_total_bytes(0), nvml.memory_used_bytes(0)) == (Known(value=3), Known(value=1))
    assert nvml.compute_capability(0) == Known(value="9.0")
    assert nvml.pci_device_id(0) == Known(value="10de:2335")
    assert nvml.name(1) == Known(value="handle 1")
    assert nvml.code_of(0) == 0
    assert nvml.uuid(0) == Unknown(reason="nvmlDeviceGetUUID: GPU is lost")
    assert "do not fit" in str(nvml.utilization_ratio(0))
    processes = nvml.processes(0)
    assert isinstance(processes, Known)
    assert next(iter(processes.value)) == 7


@pytest.mark.parametrize(
    "error",
    [
        UnicodeDecodeError("utf-8", b"\xf8", 0, 1, "invalid start byte"),
        AttributeError("absent"),
        TypeError("a"),
        ValueError("b"),
    ],
)
def test_whatever_nvidia_ml_py_stumbles_over_is_a_reading(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    pynvml = pytest.importorskip("pynvml")
    monkeypatch.setattr(pynvml, "nvmlInit", lambda: None)
    monkeypatch.setattr(pynvml, "nvmlDeviceGetHandleByIndex", lambda index: index)
    monkeypatch.setattr(pynvml, "nvmlDeviceGetName", _raiser(error))

    assert isinstance(Nvml(PynvmlLibrary().call).name(0), Unknown)


def _raiser(error: Exception) -> Any:
    def fail(*_: Any) -> None:
        raise error

    return fail


def _only(answer: Any, *parts: str) -> Any:
    def call(function: str, *arguments: Any) -> Any:
        if any(part in function for part in parts):
            return answer(function, *arguments)
        raise NvmlCallError("Not Supported")

    return call
