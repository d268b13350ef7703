import json
import sys
from typing import Any

import pytest

from sdbench.probes.gpu import read_gpu_configuration, read_gpu_identity
from sdbench.probes.nvml import Nvml, NvmlCallError, PynvmlLibrary, open_nvml
from sdbench.schema.base import Known, Unknown
from sdbench.schema.fingerprint import GpuConfiguration
from tests.probes.replay import SNAPSHOTS, replay_nvml


def test_every_snapshot_says_where_it_comes_from() -> None:
    origins = {path.name: json.loads(path.read_text())["origin"] for path in SNAPSHOTS.glob("*.json")}

    assert len(origins) == 16
    assert all(
        origin.startswith(("written from the NVML documentation", "recorded on", "derived from"))
        for origin in origins.values()
    )


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
    assert configuration.application_clock_sm_mhz == Known(value=1410)
    assert configuration.compute_mode == Known(value="default")


def test_every_field_of_a_configuration_has_a_query_of_its_name() -> None:
    assert vars(Nvml).keys() >= GpuConfiguration.model_fields.keys() - {"index", "numa_node"}


def test_what_a_gpu_does_not_support_is_unknown_with_nvmls_reason() -> None:
    nvml = replay_nvml("not-supported")
    configuration = read_gpu_configuration(nvml, 0)
    identity = read_gpu_identity(nvml, 0, Known(value=b"s" * 32))

    assert configuration.power_limit_w == Unknown(reason="nvmlDeviceGetEnforcedPowerLimit: Not Supported")
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
        "nvmlDeviceGetMemoryInfo": lambda handle: pynvml.c_nvmlMemory_t(3, 2, 1),
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
    assert nvml.uuid(0) == Unknown(reason="nvmlDeviceGetUUID: GPU is lost")
    assert "do not fit" in str(nvml.utilization_ratio(0))
    processes = nvml.processes(0)
    assert isinstance(processes, Known)
    assert next(iter(processes.value)) == 7


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
