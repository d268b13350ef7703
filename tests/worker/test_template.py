import json
import os
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
BACKENDS = [
    pytest.param("pytorch", marks=pytest.mark.torch),
    pytest.param(
        "onnxruntime",
        marks=[
            pytest.mark.torch,
            pytest.mark.skipif(find_spec("onnxruntime") is None, reason="onnxruntime is not installed"),
        ],
    ),
]


@pytest.fixture(scope="session")
def cuda_stand_in(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a libcuda.so.1 that counts its initializations."""
    if shutil.which("gcc") is None:
        pytest.skip("gcc is not installed")
    folder = tmp_path_factory.mktemp("cuda")
    command = ["gcc", "-shared", "-fPIC", "-o", str(folder / "libcuda.so.1"), str(HERE / "cuda_stand_in.c")]
    subprocess.run(command, check=True)
    return folder


def run_python(*arguments: str | Path, **variables: str) -> str:
    environment = os.environ | {"PYTHONPATH": str(ROOT)} | variables
    command = [sys.executable, *map(str, arguments)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout


def fork_once(backend: str, folder: Path, log: Path) -> dict[str, Any]:
    log.touch()
    output = run_python(HERE / "fork_once.py", backend, CUDA_STAND_IN_LOG=str(log), LD_LIBRARY_PATH=str(folder))
    end: dict[str, Any] = json.loads(output.splitlines()[-1])
    return end


@pytest.mark.parametrize("backend", BACKENDS)
def test_template_with_real_libraries_is_safe_to_fork_and_its_worker_is_usable(
    backend: str, cuda_stand_in: Path, tmp_path: Path
) -> None:
    # With torch's CUDA build the stand-in is loaded, and the plain import of diffusers would initialize it.
    end = fork_once(backend, cuda_stand_in, tmp_path / "log")
    assert end["unsafe"] is None
    assert end["cuda_init_calls"] == 0
    # The worker got no request: that it is the reason shows that it is no unusable fork.
    assert end["event"]["event"] == "failure"
    assert end["event"]["error_type"] == "ValidationError"


def test_initialized_driver_is_noticed(cuda_stand_in: Path) -> None:
    program = """
import ctypes, pathlib
from sdbench.worker.template import cuda_is_initialized, reason_not_to_fork
read_maps = pathlib.Path("/proc/self/maps").read_text
print(cuda_is_initialized(read_maps()))
driver = ctypes.CDLL("libcuda.so.1")
print(cuda_is_initialized(read_maps()))
driver.cuInit(0)
print(cuda_is_initialized(read_maps()), reason_not_to_fork(0))
"""
    output = run_python("-c", program, LD_LIBRARY_PATH=str(cuda_stand_in))
    assert output.splitlines() == ["False", "False", "True a library initialized CUDA while it was imported"]


def test_thread_that_is_not_known_to_be_harmless_is_noticed() -> None:
    program = """
import threading
from sdbench.worker.template import reason_not_to_fork
print(reason_not_to_fork(0))
threading.Thread(target=threading.Event().wait, daemon=True).start()
print(reason_not_to_fork(0))
print(reason_not_to_fork(1))
"""
    output = run_python("-c", program)
    assert output.splitlines() == [
        "None",
        "library threads that still run after the import: 1, known to be harmless: 0",
        "None",
    ]
