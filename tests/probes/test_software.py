import subprocess
from pathlib import Path

import pytest

from sdbench.privacy import Redactor
from sdbench.probes.software import find_libcudas, read_environment, read_libcuda, read_own_commit, read_software
from sdbench.schema.base import Known, Reading, Unknown
from sdbench.schema.fingerprint import Software
from tests.probes.replay import BARE_METAL, plant, replay_nvml

DIGEST = "sha256:" + "ab" * 32
NVRM = "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.65.06  Release Build\nGCC version: gcc 12.2.0\n"


def read(root: Path, snapshot: str = "driver-absent", **environ: str) -> Software:
    return read_software(replay_nvml(snapshot), Redactor(root, environ), environ, root)


@pytest.mark.torch
def test_system_and_libraries_are_named_with_versions(tmp_path: Path) -> None:
    software = read(plant(tmp_path, BARE_METAL))

    assert isinstance(software.packages, Known)
    names = [package.name for package in software.packages.value]
    assert software.os_name == Known(value="Debian GNU/Linux 12 (bookworm)")
    assert software.kernel == Known(value="6.12.9-amd64")
    assert isinstance(software.python, Known)
    assert software.python.value.startswith("CPython 3.11")
    assert {"torch", "diffusers", "transformers", "pydantic"} <= set(names)
    assert names == sorted(names)
    assert "pytest" not in names


def test_kernel_driver_and_user_mode_driver_are_read_apart(tmp_path: Path) -> None:
    maps = (
        "7f00-7f10 r--p 00000000 08:01 12 /usr/lib/x86_64-linux-gnu/libcudart.so.13.0.48\n"
        "7f10-7f20 r-xp 00000000 08:01 13 /usr/local/cuda-13.0/compat/libcuda.so.575.57.08\n"
    )
    root = plant(tmp_path, {**BARE_METAL, "proc/driver/nvidia/version": NVRM, "proc/self/maps": maps})

    assert read(root, "healthy").gpu_kernel_driver == Known(value="580.65.06")
    assert read_libcuda(root, load=str) == Known(value="575.57.08")


def test_a_libcuda_without_a_version_in_its_name_is_unknown(tmp_path: Path) -> None:
    root = plant(tmp_path, {"proc/self/maps": "7f00-7f10 r--p 0 08:01 12 /usr/lib/wsl/lib/libcuda.so.1\n"})

    assert isinstance(read_libcuda(root, load=str), Unknown)

    def refuse(name: str) -> None:
        raise OSError(name)

    assert read_libcuda(root, load=refuse) == Known(value="none")


def test_the_driver_is_asked_of_nvml_where_proc_does_not_show_it(tmp_path: Path) -> None:
    software = read(plant(tmp_path, BARE_METAL), "healthy")

    assert software.gpu_kernel_driver == Known(value="580.65.06")
    assert software.gpu_driver_cuda == Known(value="13.0")


def test_no_driver_is_none_without_a_gpu_and_unknown_with_one(tmp_path: Path) -> None:
    without = read(plant(tmp_path, BARE_METAL))
    plant(tmp_path, {"dev/nvidia0": ""})
    with_gpu = read(tmp_path)

    assert without.gpu_kernel_driver == without.gpu_driver_cuda == Known(value="none")
    assert isinstance(with_gpu.gpu_kernel_driver, Unknown)
    assert with_gpu.gpu_driver_cuda == Unknown(reason="NVML Shared Library Not Found")


@pytest.mark.parametrize(
    ("declared", "expected"),
    [
        ({"SDBENCH_IMAGE_DIGEST": DIGEST}, Known(value=DIGEST)),
        ({"SDBENCH_IMAGE_DIGEST": f"registry.example/team/sdbench@{DIGEST}"}, Known(value=DIGEST)),
        (
            {"SDBENCH_IMAGE_DIGEST": "latest"},
            Unknown(reason="SDBENCH_IMAGE_DIGEST is not a digest (sha256:...)"),
        ),
        ({}, Unknown(reason="not in a container")),
    ],
)
def test_the_image_is_known_by_its_digest_alone(
    tmp_path: Path, declared: dict[str, str], expected: Reading[str]
) -> None:
    assert read(plant(tmp_path, BARE_METAL), **declared).image_digest == expected


def test_variables_that_affect_speed_are_kept_and_secrets_never(tmp_path: Path) -> None:
    environ = {
        "OMP_NUM_THREADS": "4",
        "LD_PRELOAD": "/home/anneliese/lib/libjemalloc.so",
        # Which GPU it is stands in the hardware: how it was chosen changes no result, and no hash.
        "CUDA_VISIBLE_DEVICES": "GPU-5a11ed00-1111-4222-8333-abcdefabcdef",
        "CUDA_DEVICE_ORDER": "PCI_BUS_ID",
        "NVIDIA_VISIBLE_DEVICES": "void",
        "TORCHINDUCTOR_FREEZING": "1",
        "NVIDIA_API_KEY": "nvapi-very-secret",
        "HF_TOKEN": "hf_verysecretvalue",
        "PATH": "/usr/bin",
        "OMPI_SOMETHING": "1",
    }

    kept = {variable.name: variable.value for variable in read_environment(environ, Redactor(tmp_path, environ))}

    assert kept == {
        "OMP_NUM_THREADS": "4",
        "LD_PRELOAD": "~/lib/libjemalloc.so",
        "TORCHINDUCTOR_FREEZING": "1",
    }


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    folder = plant(tmp_path / "repository", {"sdbench/__init__.py": "", ".gitignore": "*.pyc\n"}) / "sdbench"
    for command in (
        "git init -q",
        "git add .",
        "git -c user.name=t -c user.email=t@example.org -c commit.gpgsign=false commit -q -m start",
    ):
        subprocess.run(command.split(), cwd=folder.parent, check=True)
    return folder


def test_a_checkout_tells_its_commit_and_whether_its_code_was_changed(checkout: Path) -> None:
    commit, dirty = read_own_commit({"SDBENCH_COMMIT": "0" * 40}, checkout)
    assert isinstance(commit, Known)
    assert len(commit.value) == 40
    assert commit.value != "0" * 40
    assert dirty == Known(value=False)

    (checkout / "new.py").write_text("")
    assert read_own_commit({}, checkout)[1] == Known(value=True)


def test_an_installation_inside_somebodys_repository_is_no_checkout(checkout: Path) -> None:
    installed = plant(checkout.parent / "venv", {"sdbench/__init__.py": ""}) / "sdbench"

    commit, dirty = read_own_commit({}, installed)
    assert isinstance(commit, Unknown)
    assert isinstance(dirty, Unknown)
    assert read_own_commit({"SDBENCH_COMMIT": "c0ffee0"}, installed) == (Known(value="c0ffee0"), Known(value=False))


@pytest.mark.parametrize(
    ("declared", "commit", "dirty"),
    [
        ("c0ffee0c0ffee0", Known(value="c0ffee0c0ffee0"), Known(value=False)),
        ("c0ffee0-dirty", Known(value="c0ffee0"), Known(value=True)),
    ],
)
def test_outside_a_checkout_the_image_says_which_commit(
    tmp_path: Path, declared: str, commit: Known[str], dirty: Known[bool]
) -> None:
    assert read_own_commit({"SDBENCH_COMMIT": declared}, tmp_path) == (commit, dirty)


def test_a_commit_that_is_none_stays_unknown(tmp_path: Path) -> None:
    commit, dirty = read_own_commit({"SDBENCH_COMMIT": "main"}, tmp_path)

    assert isinstance(commit, Unknown)
    assert isinstance(dirty, Unknown)


def test_every_libcuda_that_could_be_loaded_is_found(tmp_path: Path) -> None:
    plant(
        tmp_path,
        {
            "usr/lib/x86_64-linux-gnu/libcuda.so.570.86.15": "",
            "usr/lib/x86_64-linux-gnu/libcuda.so.1": "",
            "usr/local/cuda-13.0/compat/libcuda.so.580.65.06": "",
        },
    )
    assert find_libcudas(tmp_path) == Known(value=("570.86.15", "580.65.06"))
