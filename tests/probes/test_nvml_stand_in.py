"""The real nvidia-ml-py on a stand-in for the driver's library: cases that a replayed snapshot cannot show."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parent
SLICE = "MIG-00000000-0000-5000-8000-000000000001"
RTX_4090 = """\
count 1
driver 580.65.06
cuda 13000
name NVIDIA GeForce RTX 4090
uuid GPU-5a11ed00-1111-4222-8333-abcdefabcdef
memory_total 25769803776
memory_used 1073741824
memory_reserved 500000000
capability 8.9
pci_device_id 0x268410de
cores 16384
max_sm 3105
max_mem 10501
power_set_mw 400000
power_limit_mw 390000
power_default_mw 450000
reasons 0
clock_sm 2520
ecc 0
persistence 1
compute_mode 0
bar1_total 34359738368
remapped_rows 2
compute_procs none
graphics_procs none
"""
# What a container of one slice gets: the card's memory and energy are not for it.
A100_IN_MIG_MODE = """\
count 1
driver 580.65.06
cuda 13000
name NVIDIA A100-SXM4-80GB
uuid GPU-5a11ed00-1111-4222-8333-abcdefabcdef
capability 8.0
mig 1
memory_total !4
energy_mj !4
compute_procs !4
power_default_mw 400000
compute_mode 0
"""
ITS_SLICE = f"""\
mig_count 1
0.mig0.uuid {SLICE}
0.mig0.name NVIDIA A100-SXM4-80GB MIG 3g.40gb
0.mig0.memory_total 42144366592
0.mig0.multiprocessors 42
0.mig0.compute_procs none
"""
LOOK = """
import json, sys
from sdbench.errors import EnvironmentProblem
from sdbench.probes.devices import choose_device
from sdbench.probes.doctor import diagnose
from sdbench.probes.fingerprint import collect_fingerprint
from sdbench.probes.nvml import open_nvml
from sdbench.probes.readings import value_or
from sdbench.schema.base import Known
shown = {"doctor": {item.name: [item.level, item.value, item.hint] for item in diagnose()}}
for request in ("auto", "cuda"):
    try:
        device = choose_device(request, torch_cuda=Known(value="13.0"))
        shown[request] = device.to_json_dict()
        shown["fingerprint"] = collect_fingerprint(device).to_json_dict()
        shown["used"] = value_or(open_nvml().memory_used_bytes(device.address), None)
    except EnvironmentProblem as problem:
        shown[request] = str(problem)
print(json.dumps(shown))
"""


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    compiler = shutil.which("gcc")
    if compiler is None:
        pytest.skip("no gcc")
    folder = tmp_path_factory.mktemp("nvml")
    command = [compiler, "-shared", "-fPIC", "-o", str(folder / "libnvidia-ml.so.1"), str(HERE / "nvml_stand_in.c")]
    subprocess.run(command, check=True)
    return folder


@pytest.fixture
def look(library: Path, tmp_path: Path) -> Any:
    def look_under(answers: str, **environ: str) -> dict[str, Any]:
        (tmp_path / "answers.txt").write_text(answers)
        environ |= {"FAKE_NVML": str(tmp_path / "answers.txt"), "LD_LIBRARY_PATH": str(library)}
        environ = os.environ | environ | {"XDG_STATE_HOME": str(tmp_path)}
        done = subprocess.run([sys.executable, "-c", LOOK], env=environ, capture_output=True, text=True, check=True)
        shown: dict[str, Any] = json.loads(done.stdout)
        return shown

    return look_under


def test_a_healthy_card_is_read_through_the_real_library(look: Any) -> None:
    shown = look(RTX_4090)

    assert shown["auto"]["name"] == "NVIDIA GeForce RTX 4090"
    assert shown["auto"]["multiprocessor_count"]["value"] == 128
    assert shown["used"] == 1073741824  # without the reserved
    (configuration,) = shown["fingerprint"]["configuration"]["gpus"]["value"]
    (state,) = shown["fingerprint"]["state"]["gpus"]["value"]
    assert configuration["power_limit_w"]["value"] == 400.0
    assert configuration["bar1_total_bytes"]["value"] == 32 * 2**30
    assert state["power_limit_enforced_w"]["value"] == 390.0
    assert state["memory_reserved_bytes"]["value"] == 500_000_000
    assert (state["clock_sm_mhz"]["value"], state["throttle_bits"]["value"]) == (2520, 0)
    assert state["remapped_row_count"]["value"] == 2
    assert "5a11ed00" not in json.dumps(shown["fingerprint"])


def test_a_driver_older_than_torch_is_reported_in_one_line(look: Any) -> None:
    shown = look(RTX_4090.replace("cuda 13000", "cuda 12080").replace("580.65.06", "570.124.04"))

    assert shown["auto"] == (
        "the NVIDIA GPU of this machine cannot be used: torch with CUDA: torch is built for CUDA 13.0, the driver is "
        "made for CUDA 12.8; update the driver to 580 or newer; --device cpu measures the CPU"
    )
    assert "device 'cuda' is not available" in shown["cuda"]


def test_a_name_that_is_not_utf_8_is_unknown_and_nothing_stops(look: Any) -> None:
    shown = look(RTX_4090.replace("NVIDIA GeForce RTX 4090", "hex:f8ffa1c3c3"))

    assert shown["auto"]["name"] == "NVIDIA GPU 0"
    (identity,) = shown["fingerprint"]["hardware"]["gpus"]["value"]
    assert identity["name"] == {"status": "unknown", "reason": "nvmlDeviceGetName: the text is not UTF-8"}
    assert shown["doctor"]["NVIDIA driver"][0] == "ok"


@pytest.mark.parametrize(
    ("code", "reason", "hint"),
    [
        (18, "version mismatch", "reboot the host, or reload the module"),
        (999, "Unknown Error", ""),
        (4, "Insufficient Permissions", "ls -l /dev/nvidia*"),
    ],
)
def test_a_driver_that_answers_with_an_error_has_a_gpu_also_without_device_files(
    look: Any, code: int, reason: str, hint: str
) -> None:
    shown = look(f"init !{code}\n")

    assert shown["doctor"]["NVIDIA driver"][0] == "missing"
    for request in ("auto", "cuda"):
        assert reason in shown[request]
        assert hint in shown[request]


@pytest.mark.parametrize("environ", [{}, {"CUDA_VISIBLE_DEVICES": "0"}, {"CUDA_VISIBLE_DEVICES": SLICE}])
def test_a_container_that_shows_no_slice_is_refused_in_one_line(look: Any, environ: dict[str, str]) -> None:
    shown = look(A100_IN_MIG_MODE, **environ)

    for request in ("auto", "cuda"):
        assert "MIG" in shown[request]
        assert "slice" in shown[request]
        assert "\n" not in shown[request]


@pytest.mark.parametrize("environ", [{}, {"CUDA_VISIBLE_DEVICES": SLICE}])
def test_a_slice_is_opened_by_its_uuid(look: Any, environ: dict[str, str]) -> None:
    shown = look(A100_IN_MIG_MODE + ITS_SLICE, **environ)

    assert (shown["auto"]["uuid"], shown["auto"]["torch_name"]) == (SLICE, "cuda:0")
    (identity,) = shown["fingerprint"]["hardware"]["gpus"]["value"]
    assert identity["mig_profile"]["value"] == "3g.40gb"
    assert identity["memory_total_bytes"]["value"] == 42144366592
    assert identity["multiprocessor_count"]["value"] == 42
    assert identity["compute_capability"]["value"] == "8.0"
    (configuration,) = shown["fingerprint"]["configuration"]["gpus"]["value"]
    assert configuration["power_limit_default_w"]["value"] == 400.0
    assert SLICE[4:] not in json.dumps(shown["fingerprint"])


def test_a_lost_gpu_is_called_lost(look: Any) -> None:
    shown = look(RTX_4090 + "0.handle !15\n")

    assert shown["doctor"]["GPU"][:2] == ["missing", "the GPU is lost"]
    assert "the GPU is lost; look for Xid in 'sudo dmesg'" in shown["auto"]
