import json
import os
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from sdbench.errors import EnvironmentProblem, UserError
from sdbench.probes import devices
from sdbench.probes.devices import Device, check_card, choose_device, worker_environment
from sdbench.probes.gpu import read_gpu_identity
from sdbench.probes.nvml import Nvml
from sdbench.probes.torch_build import read_cudnn, read_torch_cuda
from sdbench.schema.base import Known, Unknown
from tests.probes.replay import (
    BARE_METAL,
    SNAPSHOTS,
    ReplayedLibrary,
    missing_nvml,
    nvml_error,
    plant,
    replay_nvml,
)

WITH_CUDA = Known(value="13.0")
WITHOUT_CUDA = Known(value="none")


ON_PCI = {
    "sys/bus/pci/devices/0000:01:00.0/vendor": "0x10de\n",
    "sys/bus/pci/devices/0000:01:00.0/class": "0x030200\n",
}


@pytest.fixture
def choose(tmp_path: Path) -> Any:
    root = plant(tmp_path / "root", BARE_METAL)

    def choose_here(request: str, driver: str | Nvml, torch_cuda: Any = WITH_CUDA, **environ: str) -> Device:
        environ["XDG_STATE_HOME"] = str(tmp_path / "state")
        nvml = replay_nvml(driver) if isinstance(driver, str) else driver
        return choose_device(request, nvml=nvml, torch_cuda=torch_cuda, root=root, environ=environ)

    return choose_here


def test_auto_takes_the_gpu_where_torch_can_use_it(choose: Any) -> None:
    device = choose("auto", "healthy")

    assert (device.kind, device.index, device.torch_name, device.worker_name) == ("cuda", 0, "cuda:0", "cuda:0")
    assert device.name == "NVIDIA GeForce RTX 4090"
    assert device.memory_total_bytes == Known(value=24 * 2**30)
    assert device.compute_capability == Known(value="8.9")
    assert device.multiprocessor_count == Known(value=128)
    assert device.clock_max_sm_mhz == Known(value=3105)
    assert (device.choice, device.warnings) == ("", ())


def test_a_worker_sees_only_its_card(choose: Any) -> None:
    device = choose("cuda:1", "two-gpus")

    assert (device.torch_name, device.worker_name) == ("cuda:1", "cuda:0")
    uuid = "GPU-0ddba115-4444-4555-8666-fedcbafedcba"
    assert worker_environment(device) == {"CUDA_DEVICE_ORDER": "PCI_BUS_ID", "CUDA_VISIBLE_DEVICES": uuid}
    # What it chooses there is the same card, and the one that NVML is asked about.
    in_worker = choose(device.worker_name, "two-gpus", CUDA_VISIBLE_DEVICES=uuid)
    assert (in_worker.address, in_worker.name, in_worker.torch_name) == (uuid, device.name, "cuda:0")


def test_a_card_whose_uuid_is_unknown_is_shown_by_its_index(choose: Any) -> None:
    assert worker_environment(choose("cuda", "not-supported"))["CUDA_VISIBLE_DEVICES"] == "0"


def test_auto_takes_the_cpu_where_there_is_no_nvidia_gpu(choose: Any) -> None:
    device = choose("auto", "driver-absent")

    assert (device.kind, device.index, device.torch_name, device.lock_key) == ("cpu", None, "cpu", "cpu")
    assert device.name == "Intel(R) Xeon(R) Platinum 8480+"
    assert device.memory_total_bytes == Known(value=16000 * 1024)
    assert worker_environment(device) == {}


MISMATCH = "RM has detected an NVML/RM version mismatch."


@pytest.mark.parametrize("request_", ["auto", "cuda"])
@pytest.mark.parametrize(
    ("driver", "torch_cuda", "environ", "hints"),
    [
        (
            "healthy",
            WITHOUT_CUDA,
            {},
            ("built without CUDA; install its CUDA build (from a checkout: TORCH_BUILD=cuda make bench); ",),
        ),
        ("healthy", Unknown(reason="torch is not installed"), {}, ("torch is not installed; install",)),
        (missing_nvml(MISMATCH), WITH_CUDA, {}, ("version mismatch; ", "reboot the host, or reload the module")),
        (missing_nvml("Insufficient Permissions"), WITH_CUDA, {}, ("ls -l /dev/nvidia*",)),
        (missing_nvml("Unknown Error"), WITH_CUDA, {"container": "docker"}, ("start it again",)),
        (missing_nvml("Unknown Error"), WITH_CUDA, {}, ("see 'nvidia-smi' and 'sudo dmesg'",)),
        ("healthy", WITH_CUDA, {"CUDA_VISIBLE_DEVICES": ""}, ("shows 0 of 1 GPUs; change or unset it",)),
        ("healthy", WITH_CUDA, {"CUDA_VISIBLE_DEVICES": "-1"}, ("shows 0 of 1",)),
        ("two-gpus", WITH_CUDA, {"CUDA_VISIBLE_DEVICES": "GPU-"}, ("shows 0 of 2",)),
        ("healthy", WITH_CUDA, {"CUDA_VISIBLE_DEVICES": "MIG-0"}, ("names a MIG slice that NVML does not show here",)),
        (
            replay_nvml("healthy", nvmlSystemGetCudaDriverVersion_v2=12080),
            WITH_CUDA,
            {},
            ("torch is built for CUDA 13.0, the driver is made for CUDA 12.8; update the driver to 580 or newer",),
        ),
        (
            replay_nvml("healthy", nvmlDeviceGetCudaComputeCapability=[7, 0]),
            WITH_CUDA,
            {},
            ("compute capability: 7.0; torch for CUDA 13.0 has kernels from 7.5 on",),
        ),
        (
            replay_nvml("healthy", nvmlDeviceGetCudaComputeCapability=[6, 1]),
            Known(value="12.8"),
            {},
            ("has kernels from 7.0 on",),
        ),
        (
            replay_nvml("healthy", nvmlDeviceGetComputeMode=2),
            WITH_CUDA,
            {},
            ("prohibited", "sudo nvidia-smi -c DEFAULT"),
        ),
        (replay_nvml("healthy", nvmlDeviceGetMigMode=[1, 1]), WITH_CUDA, {}, ("none of its slices is visible",)),
        (
            replay_nvml("healthy", nvmlDeviceGetMemoryInfo=nvml_error("GPU is lost")),
            WITH_CUDA,
            {},
            ("the GPU is lost; look for Xid in 'sudo dmesg'",),
        ),
    ],
)
def test_a_gpu_that_is_there_and_cannot_be_used_is_never_replaced_by_the_cpu(
    choose: Any, request_: str, driver: str | Nvml, torch_cuda: Any, environ: dict[str, str], hints: tuple[str, ...]
) -> None:
    with pytest.raises(EnvironmentProblem) as caught:
        choose(request_, driver, torch_cuda, **environ)

    text = str(caught.value)
    assert all(hint in text for hint in hints), text
    assert text.startswith("the NVIDIA GPU of this machine" if request_ == "auto" else "device 'cuda' is not available")
    assert "\n" not in text


@pytest.mark.parametrize(
    ("request_", "snapshot", "environ", "hint"),
    [
        ("cuda", "driver-absent", {}, "no NVIDIA GPU (NVML Shared Library Not Found); use --device cpu"),
        ("cuda:2", "two-gpus", {}, "there are 2 GPUs, so use cuda:0 to cuda:1"),
        ("cuda:1", "healthy", {}, "there is one GPU, so use cuda:0"),
        ("cuda:1", "two-gpus", {"CUDA_VISIBLE_DEVICES": "1"}, "CUDA_VISIBLE_DEVICES='1' shows 1 of 2"),
    ],
)
def test_cuda_that_is_not_here_is_refused_with_its_own_hint(
    choose: Any, request_: str, snapshot: str, environ: dict[str, str], hint: str
) -> None:
    with pytest.raises(EnvironmentProblem) as caught:
        choose(request_, snapshot, **environ)

    assert hint in str(caught.value)
    assert repr(request_) in str(caught.value)


@pytest.mark.parametrize(
    ("reason", "hint"),
    [
        ("Driver Not Loaded", "load the kernel module: sudo modprobe nvidia"),
        ("NVML Shared Library Not Found", "install the NVIDIA driver, or in a container pass the GPU through"),
        ("the Python package nvidia-ml-py is not installed", "pip install nvidia-ml-py"),
    ],
)
@pytest.mark.parametrize("request_", ["auto", "cuda"])
def test_each_reason_of_a_gpu_without_its_driver_has_its_own_hint(
    tmp_path: Path, request_: str, reason: str, hint: str
) -> None:
    with pytest.raises(EnvironmentProblem, match=re.escape(hint)):
        choose_device(
            request_, nvml=missing_nvml(reason), torch_cuda=WITH_CUDA, root=plant(tmp_path, ON_PCI), environ={}
        )


def test_of_several_gpus_the_largest_usable_one_is_taken_and_named(choose: Any) -> None:
    device = choose("auto", "two-gpus")

    assert (device.torch_name, device.name) == ("cuda:1", "NVIDIA A100-SXM4-80GB")
    assert device.description == "cuda:1 (NVIDIA A100-SXM4-80GB), the largest usable of 2 GPUs"
    assert choose("cuda", "two-gpus") == device
    assert choose("cuda:0", "two-gpus").description == "cuda:0 (NVIDIA GeForce RTX 4090)"


def test_a_larger_gpu_that_cannot_be_used_is_passed_over(choose: Any) -> None:
    calls = json.loads((SNAPSHOTS / "two-gpus.json").read_text())["calls"]
    old = {"function": "nvmlDeviceGetCudaComputeCapability", "arguments": [1], "value": [6, 0]}

    assert choose("auto", Nvml(ReplayedLibrary([*calls, old], {}).call)).torch_name == "cuda:0"


def test_persistence_mode_that_is_off_is_a_warning(choose: Any) -> None:
    (warning,) = choose("cuda", "rtx-2080-super-idle").warnings

    assert warning == "persistence mode is off: the driver stops between launches; on the host: sudo nvidia-smi -pm 1"


@pytest.mark.parametrize("name", [path.stem for path in SNAPSHOTS.glob("*-idle.json")])
def test_every_captured_card_is_taken(choose: Any, name: str) -> None:
    assert choose("auto", name).kind == "cuda"


SLICE = "MIG-00000000-0000-5000-8000-000000000001"
CARD = "GPU-5a11ed00-1111-4222-8333-abcdefabcdef"


@pytest.fixture
def divided() -> Nvml:
    """Return an A100 in MIG mode with two visible slices, as NVML's documentation has the answers."""
    calls = json.loads((SNAPSHOTS / "healthy.json").read_text())["calls"]
    answers: dict[tuple[Any, ...], Any] = {
        ("nvmlDeviceGetMigMode", 0): [1, 1],
        ("nvmlDeviceGetMaxMigDeviceCount", 0): 7,
        ("nvmlDeviceGetMigDeviceHandleByIndex", 0, 0): SLICE,
        ("nvmlDeviceGetMigDeviceHandleByIndex", 0, 1): SLICE[:-1] + "2",
        ("nvmlDeviceGetUUID", SLICE): SLICE,
        ("nvmlDeviceGetName", SLICE): "NVIDIA A100-SXM4-80GB MIG 3g.40gb",
        ("nvmlDeviceGetMemoryInfo", SLICE): {"total": 40 * 2**30, "free": 0, "used": 2**30},
        ("nvmlDeviceGetAttributes", SLICE): {"multiprocessorCount": 42},
        ("nvmlDeviceGetDeviceHandleFromMigDeviceHandle", SLICE): CARD,
    }
    added = [
        {"function": function, "arguments": given, "value": answers[function, *given]} for function, *given in answers
    ]
    return Nvml(ReplayedLibrary([*calls, *added], {}).call)


@pytest.mark.parametrize("environ", [{}, {"CUDA_VISIBLE_DEVICES": SLICE}, {"CUDA_VISIBLE_DEVICES": "0"}])
def test_a_mig_slice_is_measured_as_what_it_is(choose: Any, divided: Nvml, environ: dict[str, str]) -> None:
    device = choose("auto", divided, **environ)

    assert (device.address, device.lock_key, device.torch_name) == (SLICE, SLICE, "cuda:0")
    assert worker_environment(device)["CUDA_VISIBLE_DEVICES"] == SLICE
    assert device.memory_total_bytes == Known(value=40 * 2**30)
    assert device.multiprocessor_count == Known(value=42)
    assert device.compute_capability == Known(value="8.9")
    identity = read_gpu_identity(divided, SLICE, Known(value=b"s" * 32))
    assert identity.mig_profile == Known(value="3g.40gb")
    assert identity.memory_total_bytes == Known(value=40 * 2**30)
    assert identity.uuid_hmac != read_gpu_identity(divided, 0, Known(value=b"s" * 32)).uuid_hmac


def test_cuda_shows_one_slice_and_no_more(choose: Any, divided: Nvml) -> None:
    with pytest.raises(EnvironmentProblem, match="there is one GPU, so use cuda:0"):
        choose("cuda:1", divided)


def test_what_is_of_the_whole_card_is_unknown_of_a_slice(divided: Nvml) -> None:
    for read in (divided.power_w, divided.energy_j, divided.clock_sm_mhz, divided.utilization_ratio):
        assert "of the whole card, not of this MIG slice" in str(read(SLICE))
    assert divided.power_limit_default_w(SLICE) == Known(value=450.0)


class _Torch:
    def __init__(self, uuid: str | None) -> None:
        self.cuda = self
        self.uuid = uuid

    def get_device_properties(self, name: str) -> Any:
        assert name == "cuda:0"
        return SimpleNamespace(name="a GPU") if self.uuid is None else SimpleNamespace(uuid=self.uuid)


def test_a_worker_on_another_card_than_the_chosen_one_fails(choose: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    device = choose("cuda:1", "two-gpus")

    check_card(device, _Torch("0ddba115-4444-4555-8666-fedcbafedcba"))
    # torch before 2.4 does not give it.
    check_card(device, _Torch(None))
    with pytest.raises(EnvironmentProblem, match="torch computes on another GPU than the chosen NVIDIA A100") as caught:
        check_card(device, _Torch("5a11ed00-1111-4222-8333-abcdefabcdef"))
    assert "5a11ed00" not in str(caught.value)
    assert "0ddba115" not in str(caught.value)


@pytest.mark.parametrize("shown", [SLICE, CARD])
def test_a_slice_is_known_by_its_own_uuid_or_its_cards(
    choose: Any, divided: Nvml, monkeypatch: pytest.MonkeyPatch, shown: str
) -> None:
    monkeypatch.setattr(devices, "open_nvml", lambda: divided)
    device = choose("cuda", divided)

    check_card(device, _Torch(shown.partition("-")[2]))
    with pytest.raises(EnvironmentProblem):
        check_card(device, _Torch("0ddba115-4444-4555-8666-fedcbafedcba"))


@pytest.mark.parametrize("nonsense", ["", "gpu", "cuda:", "cuda:x", "cuda:-1", "cpu:0", "cuda:99999", "cuda0"])
def test_nonsense_is_the_users_error(nonsense: str) -> None:
    with pytest.raises(UserError, match="write auto, cpu, cuda or cuda:N"):
        choose_device(nonsense)


@pytest.mark.parametrize(
    ("variable", "index"), [("1", 1), ("1,0", 1), (" 1 , 0", 1), ("GPU-0ddba115", 1), ("GPU-5a11ed00-1111", 0)]
)
def test_torchs_first_gpu_is_the_first_visible_one(choose: Any, variable: str, index: int) -> None:
    device = choose("cuda:0", "two-gpus", CUDA_VISIBLE_DEVICES=variable)

    assert (device.index, device.torch_name) == (index, "cuda:0")


def test_an_entry_cuda_cannot_resolve_ends_the_visible_list(choose: Any) -> None:
    assert choose("cuda:0", "two-gpus", CUDA_VISIBLE_DEVICES="0,7,1").index == 0
    with pytest.raises(EnvironmentProblem, match="shows 1 of 2"):
        choose("cuda:1", "two-gpus", CUDA_VISIBLE_DEVICES="0,7,1")


def test_the_lock_is_keyed_by_card_alike_for_all_users(choose: Any) -> None:
    keys = {choose(name, "two-gpus").lock_key for name in ("cuda:0", "cuda:1")}

    assert len(keys) == 2
    assert choose("cuda:0", "two-gpus").lock_key in keys


def test_a_card_whose_uuid_is_unknown_is_locked_by_index(choose: Any) -> None:
    assert choose("cuda", "not-supported").lock_key == "cuda-0"


def test_torchs_cuda_is_read_from_its_version_file(tmp_path: Path) -> None:
    def build(line: str) -> Any:
        (tmp_path / "version.py").write_text(f"__version__ = '2.13.0'\ndebug = False\n{line}\nhip = None\n")
        return read_torch_cuda(tmp_path)

    assert build("cuda: Optional[str] = '13.0'") == Known(value="13.0")
    assert build('cuda = "12.8"') == Known(value="12.8")
    assert build("cuda: Optional[str] = None") == Known(value="none")
    assert isinstance(build("nothing = 1"), Unknown)


def test_cudnn_of_a_build_without_cuda_is_none_and_of_no_torch_unknown() -> None:
    assert read_cudnn(WITHOUT_CUDA) == Known(value="none")
    assert read_cudnn(Unknown(reason="torch is not installed")) == Unknown(reason="torch is not installed")
    assert isinstance(read_cudnn(Known(value="3.2")), Unknown)


def test_looking_at_the_machine_imports_no_torch(tmp_path: Path) -> None:
    code = (
        "import sys; from sdbench.probes.devices import choose_device; choose_device('auto'); "
        "from sdbench.probes.doctor import diagnose; diagnose(); "
        "from sdbench.probes.fingerprint import collect_fingerprint; collect_fingerprint(choose_device('cpu')); "
        "sys.exit(any(name in sys.modules for name in ('torch', 'diffusers', 'transformers', 'numpy', 'open_clip')))"
    )
    environ = {**os.environ, "XDG_STATE_HOME": str(tmp_path)}

    assert subprocess.run([sys.executable, "-c", code], env=environ).returncode == 0
