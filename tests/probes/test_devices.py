import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from sdbench.errors import EnvironmentProblem, UserError
from sdbench.probes.devices import Device, choose_device, worker_environment
from sdbench.probes.torch_build import read_cudnn, read_torch_cuda
from sdbench.schema.base import Known, Unknown
from tests.probes.replay import BARE_METAL, plant, replay_nvml

WITH_CUDA = Known(value="13.0")
WITHOUT_CUDA = Known(value="none")


@pytest.fixture
def choose(tmp_path: Path) -> Any:
    root = plant(tmp_path / "root", BARE_METAL)

    def choose_here(request: str, snapshot: str, torch_cuda: Any = WITH_CUDA, **environ: str) -> Device:
        environ["XDG_STATE_HOME"] = str(tmp_path / "state")
        return choose_device(request, nvml=replay_nvml(snapshot), torch_cuda=torch_cuda, root=root, environ=environ)

    return choose_here


def test_auto_takes_the_gpu_where_torch_can_use_it(choose: Any) -> None:
    device = choose("auto", "healthy")

    assert (device.kind, device.index, device.torch_name) == ("cuda", 0, "cuda:0")
    assert device.name == "NVIDIA GeForce RTX 4090"
    assert device.memory_total_bytes == Known(value=24 * 2**30)
    assert worker_environment(device) == {"CUDA_DEVICE_ORDER": "PCI_BUS_ID"}


@pytest.mark.parametrize(
    ("snapshot", "torch_cuda"),
    [("healthy", WITHOUT_CUDA), ("driver-absent", WITH_CUDA), ("healthy", Unknown(reason="torch is not installed"))],
)
def test_auto_falls_back_to_the_cpu(choose: Any, snapshot: str, torch_cuda: Any) -> None:
    device = choose("auto", snapshot, torch_cuda)

    assert (device.kind, device.index, device.torch_name, device.lock_key) == ("cpu", None, "cpu", "cpu")
    assert device.name == "Intel(R) Xeon(R) Platinum 8480+"
    assert device.memory_total_bytes == Known(value=16000 * 1024)
    assert worker_environment(device) == {}


@pytest.mark.parametrize(
    ("request_", "snapshot", "torch_cuda", "environ", "hint"),
    [
        ("cuda", "driver-absent", WITH_CUDA, {}, "no NVIDIA GPU: use --device cpu"),
        ("cuda", "healthy", WITHOUT_CUDA, {}, "built without CUDA; install the CUDA lock file"),
        ("cuda", "healthy", Unknown(reason="torch is not installed"), {}, "torch is not installed; install"),
        ("cuda:2", "two-gpus", WITH_CUDA, {}, "there are 2 GPUs, so use cuda:0 to cuda:1"),
        ("cuda:1", "two-gpus", WITH_CUDA, {"CUDA_VISIBLE_DEVICES": "1"}, "CUDA_VISIBLE_DEVICES='1' shows 1 of 2"),
        ("cuda", "healthy", WITH_CUDA, {"CUDA_VISIBLE_DEVICES": ""}, "shows 0 of 1"),
        ("cuda", "healthy", WITH_CUDA, {"CUDA_VISIBLE_DEVICES": "-1"}, "shows 0 of 1"),
        ("cuda", "two-gpus", WITH_CUDA, {"CUDA_VISIBLE_DEVICES": "GPU-"}, "shows 0 of 2"),
    ],
)
def test_cuda_that_cannot_be_had_is_refused_with_its_own_remedy(
    choose: Any, request_: str, snapshot: str, torch_cuda: Any, environ: dict[str, str], hint: str
) -> None:
    with pytest.raises(EnvironmentProblem) as caught:
        choose(request_, snapshot, torch_cuda, **environ)

    assert hint in str(caught.value)
    assert repr(request_) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_gpu_without_its_driver_asks_for_the_driver(tmp_path: Path) -> None:
    folder = "sys/bus/pci/devices/0000:01:00.0"
    root = plant(tmp_path, {f"{folder}/vendor": "0x10de\n", f"{folder}/class": "0x030200\n"})

    with pytest.raises(EnvironmentProblem, match="install the NVIDIA driver"):
        choose_device("cuda", nvml=replay_nvml("driver-not-loaded"), torch_cuda=WITH_CUDA, root=root, environ={})


@pytest.mark.parametrize("nonsense", ["", "gpu", "cuda:", "cuda:x", "cuda:-1", "cpu:0", "cuda:99999", "cuda0"])
def test_nonsense_is_the_users_error(nonsense: str) -> None:
    with pytest.raises(UserError, match="write auto, cpu, cuda or cuda:N"):
        choose_device(nonsense)


@pytest.mark.parametrize(
    ("variable", "index"), [("1", 1), ("1,0", 1), (" 1 , 0", 1), ("GPU-0ddba115", 1), ("GPU-5a11ed00-1111", 0)]
)
def test_torchs_first_gpu_is_the_first_visible_one(choose: Any, variable: str, index: int) -> None:
    device = choose("cuda", "two-gpus", CUDA_VISIBLE_DEVICES=variable)

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
