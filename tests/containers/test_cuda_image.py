"""In the CUDA images, without a GPU: a template must not initialize CUDA, or what it forks could not use the GPU."""

import json
import os
import subprocess
from pathlib import Path

import pytest

pytestmark = pytest.mark.docker
ROOT = Path(__file__).resolve().parents[2]
DOCKER = os.environ.get("DOCKER") or "docker"
IMAGES = ("sdbench:cuda12", "sdbench:cuda13")
# What a plain import does, which shows that the stand-in counts.
PLAIN = """
import os, diffusers.models.unets.unet_2d_condition
print(len(open(os.environ["CUDA_STAND_IN_LOG"]).readlines()))
"""


@pytest.fixture(scope="module", params=IMAGES)
def image(request: pytest.FixtureRequest) -> str:
    """Return an image that is there; CI builds those whose inputs changed."""
    name: str = request.param
    if subprocess.run([DOCKER, "image", "inspect", name], capture_output=True).returncode != 0:
        pytest.skip(f"there is no image {name}; make image-{name.partition(':')[2]} builds it")
    return name


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with the stand-in for libcuda; it is for everybody, since the images run as another user."""
    made = tmp_path_factory.mktemp("stand-in")
    source = ROOT / "tests" / "worker" / "cuda_stand_in.c"
    subprocess.run(["gcc", "-shared", "-fPIC", "-o", str(made / "libcuda.so.1"), str(source)], check=True)
    for parent in (made, *made.parents[:3]):
        parent.chmod(0o755)
    return made


def run_in_image(image: str, folder: Path, *arguments: str) -> str:
    log = folder / "log"
    log.write_text("")
    log.chmod(0o666)
    variables = {"LD_LIBRARY_PATH": "/stand-in", "CUDA_STAND_IN_LOG": "/stand-in/log", "PYTHONPATH": "/checkout"}
    command = [DOCKER, "run", "--rm", "--network=none", "--entrypoint=python"]
    command += [f"--volume={folder}:/stand-in", f"--volume={ROOT}:/checkout:ro"]
    command += [f"--env={name}={value}" for name, value in variables.items()]
    done = subprocess.run([*command, image, *arguments], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()[-1]


@pytest.mark.parametrize("backend", ["pytorch", "onnxruntime"])
def test_template_in_the_cuda_image_initializes_no_cuda(image: str, folder: Path, backend: str) -> None:
    end = json.loads(run_in_image(image, folder, "/checkout/tests/worker/fork_once.py", backend))
    assert end["cuda_init_calls"] == 0
    assert end["unsafe"] is None
    assert end["event"]["event"] == "failure"  # the worker had no request; an unusable fork would be another event


def test_plain_import_in_the_cuda_image_initializes_cuda(image: str, folder: Path) -> None:
    assert run_in_image(image, folder, "-c", PLAIN) == "1"


LIBRARIES = """
import json, onnxruntime, torch
from onnxruntime.capi.build_and_package_info import cuda_version
onnxruntime.preload_dlls()
print(json.dumps([torch.version.cuda, cuda_version, torch._C._cuda_getArchFlags().split()]))
"""


def test_libraries_of_an_image_are_built_for_the_cuda_of_its_name(image: str, folder: Path) -> None:
    torch_cuda, onnxruntime_cuda, architectures = json.loads(run_in_image(image, folder, "-c", LIBRARIES))
    major = image[-2:]
    assert torch_cuda.startswith(f"{major}.")
    assert onnxruntime_cuda.startswith(f"{major}.")
    # As containers/choose_cuda.sh has it.
    assert architectures[0] == {"12": "sm_70", "13": "sm_75"}[major]
