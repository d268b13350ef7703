"""Which CUDA image is taken for a host, by its driver and GPU, and that it is asked for its GPU."""

import os
import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import docker
import pytest

from sdbench.containers import run_images
from sdbench.containers.build import build_image, choose_cuda
from sdbench.containers.engine import Engine
from sdbench.containers.run_images import ImageRequest
from sdbench.errors import EnvironmentProblem, UserError
from sdbench.plan.make_plan import PlanRequest

ROOT = Path(__file__).resolve().parents[2]
CONTAINERS = ROOT / "containers"
CLOSED = "NVRM version: NVIDIA UNIX x86_64 Kernel Module  {}  Sun Jul 20 01:00:00 UTC 2025\nGCC version:  gcc 12.3.0\n"
OPEN = "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  {}  Release Build  (dvs-builder@U22)\n"
OLD = "driver 570.124.06 is older than 580, which CUDA 13 needs"
# Answers as nvidia-smi does for one query; anything else that it prints, it prints on a failure.
NVIDIA_SMI = """#!/bin/sh
case "$*" in
*driver_version*) echo "$DRIVER" ;;
*--id=1*compute_cap* | *compute_cap*--id=1*) echo 7.0 ;;
*compute_cap*) echo "$CAPABILITY" ;;
esac
"""
# An engine that notes what it is asked, has every image, and runs every container to its end at once.
DOCKER = """#!/bin/sh
echo "$*" >>"$NOTES"
case "$*" in
--version) echo "Docker version 28.0" ;;
*.State.ExitCode*) echo "0 false" ;;
*.State.Running*) echo false ;;
create*) echo an-id ;;
build*) [ -z "$FAIL" ] || { echo "out of luck"; exit 1; } ;;
*) echo '{}' ;;
esac
"""


@pytest.fixture
def programs(tmp_path: Path) -> dict[str, str]:
    """Return an environment with stand-ins for nvidia-smi and docker, and a driver that only nvidia-smi shows."""
    for name, text in (("nvidia-smi", NVIDIA_SMI), ("docker", DOCKER)):
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
    own = {"NOTES": str(tmp_path / "notes"), "FAIL": "", "DRIVER": "", "CAPABILITY": "8.9", "HOME": str(tmp_path)}
    cleared = {name: value for name, value in os.environ.items() if name not in ("CUDA", "GPUS", "IMAGE", "DOCKER")}
    return cleared | own | {"PATH": f"{tmp_path}:{os.environ['PATH']}", "OUT": str(tmp_path / "out")}


def run(environ: dict[str, str], script: str, *arguments: object) -> "subprocess.CompletedProcess[str]":
    return subprocess.run([CONTAINERS / script, *map(str, arguments)], env=environ, capture_output=True, text=True)


without_driver = pytest.mark.skipif(Path("/proc/driver/nvidia/version").exists(), reason="this host has a driver")


@pytest.mark.parametrize("line", [CLOSED, OPEN])
@pytest.mark.parametrize(
    ("driver", "answer"),
    [
        ("610.43", "13 driver 610.43 runs it"),
        ("580.65.06", "13 driver 580.65.06 runs it"),
        ("570.124.06", f"12 {OLD}"),
        ("525.60.13", "12 driver 525.60.13 is older than 580, which CUDA 13 needs"),
    ],
)
def test_newest_cuda_that_the_driver_runs_is_taken(
    line: str, driver: str, answer: str, tmp_path: Path, programs: dict[str, str]
) -> None:
    (tmp_path / "version").write_text(line.format(driver))
    done = run(programs, "choose_cuda.sh", tmp_path / "version")
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{answer}\n", "")


@without_driver
def test_driver_that_only_nvidia_smi_shows_counts_as_under_wsl(programs: dict[str, str]) -> None:
    done = run(programs | {"DRIVER": "570.124.06"}, "choose_cuda.sh")
    assert done.stdout == f"12 {OLD}\n"


@without_driver
@pytest.mark.parametrize(
    ("capability", "gpus", "cuda"),
    [
        ("7.0", "all", "12"),
        ("7.5", "all", "13"),
        ("12.0", "", "13"),
        ("7.0\n8.0", "all", "13"),
        ("8.0", "device=1", "12"),
    ],
)
def test_gpu_that_cuda_13_does_not_know_gets_cuda_12(
    capability: str, gpus: str, cuda: str, programs: dict[str, str]
) -> None:
    environ = programs | {"DRIVER": "580.65.06", "CAPABILITY": capability, "GPUS": gpus}
    answer = run(environ, "choose_cuda.sh").stdout
    assert answer.partition(" ")[0] == cuda
    assert ("compute capability 7.0 is too old for CUDA 13" in answer) == (cuda == "12")


@without_driver
@pytest.mark.parametrize(
    ("driver", "capability", "why"),
    [
        ("470.256.02", "8.6", "driver 470.256.02 is older than 525, which CUDA 12 needs: update it, "),
        ("580.65.06", "6.1", "a GPU of compute capability 6.1 is too old for CUDA 12: "),
        ("", "", "no NVIDIA driver is loaded"),
        (
            "NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver.",
            "",
            "no NVIDIA driver is loaded",
        ),
    ],
)
def test_gpu_that_no_image_can_use_is_an_error_with_a_hint(
    driver: str, capability: str, why: str, programs: dict[str, str]
) -> None:
    done = run(programs | {"DRIVER": driver, "CAPABILITY": capability}, "choose_cuda.sh")
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (3, "", 1)
    assert why in done.stderr
    assert "make bench-cpu" in done.stderr


def test_user_decides(programs: dict[str, str]) -> None:
    assert run(programs | {"CUDA": "12", "DRIVER": "580.65.06"}, "choose_cuda.sh").stdout == "12\n"
    done = run(programs | {"CUDA": "11"}, "choose_cuda.sh")
    assert (done.returncode, done.stderr) == (2, "sdbench: invalid CUDA '11': expected 12 or 13\n")


@without_driver
def test_script_builds_the_image_that_the_driver_runs_and_says_why(programs: dict[str, str]) -> None:
    done = run(programs | {"DRIVER": "570.124.06", "FAIL": "1"}, "bench.sh", "cuda", ROOT / "manifests/quick.yaml")
    assert f"sdbench: {OLD}: using the CUDA 12 image\n" in done.stderr
    (build,) = (line for line in Path(programs["NOTES"]).read_text().splitlines() if line.startswith("build"))
    assert "--build-arg CUDA=12" in build
    assert "-f Dockerfile.cuda -t sdbench:cuda12" in build


@without_driver
def test_script_without_a_driver_builds_nothing(programs: dict[str, str]) -> None:
    done = run(programs, "bench.sh", "cuda", ROOT / "manifests/quick.yaml")
    assert done.returncode == 3
    assert "no NVIDIA driver is loaded" in done.stderr
    assert "build" not in Path(programs["NOTES"]).read_text()


def test_image_of_another_processor_is_not_built(programs: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "uname").write_text("#!/bin/sh\necho aarch64\n")
    (tmp_path / "uname").chmod(0o755)
    done = run(programs | {"FAIL": "1"}, "build.sh", "cuda13", "sdbench:cuda13")
    assert (done.returncode, "its locked packages are for x86_64, this is aarch64" in done.stderr) == (3, True)
    client: Any = SimpleNamespace(info=lambda: {"Architecture": "aarch64"})
    with pytest.raises(EnvironmentProblem, match="for x86_64, that host is aarch64"):
        build_image(client, "cuda13", print)


@pytest.mark.parametrize(
    ("kind", "options", "command"),
    [
        ("cuda", (), "--out results --device=cuda"),
        ("cuda", ("--device", "cuda:1"), "--out results --device=cuda --device cuda:1"),
        ("cpu", (), "--out results --device=cpu"),
    ],
)
def test_script_asks_a_container_for_its_device(
    kind: str, options: tuple[str, ...], command: str, programs: dict[str, str]
) -> None:
    done = run(programs | {"IMAGE": "any/image"}, "bench.sh", kind, ROOT / "manifests/quick.yaml", *options)
    assert done.returncode == 0, done.stderr
    *_, created = (line for line in Path(programs["NOTES"]).read_text().splitlines() if line.startswith("create"))
    assert created.endswith(f"any/image run /input/quick.yaml {command}")


def test_bench_gpu_is_minutes_unless_a_night_is_asked_for() -> None:
    def command(*settings: str) -> str:
        return subprocess.run(
            ["make", "-n", "-C", ROOT, "bench-gpu", *settings], capture_output=True, text=True, check=True
        ).stdout

    assert "containers/bench.sh cuda manifests/quick.yaml" in command()
    night = command("MANIFEST=manifests/lambda-2022.yaml", "BUDGET=1h", "ARGS=--only latency")
    assert "containers/bench.sh cuda manifests/lambda-2022.yaml --budget 1h --only latency" in night


def client_of(driver: str | None) -> Any:
    """Return a stand-in for an engine whose host has a driver; without one, its file is missing."""

    def run_container(image: str, command: list[str], **options: Any) -> bytes:
        assert options["network_mode"] == "none"
        if driver is None:
            raise docker.errors.ContainerError(image, 1, command, image, b"No such file or directory")
        return CLOSED.format(driver).encode()

    return SimpleNamespace(containers=SimpleNamespace(run=run_container))


def test_driver_of_another_host_decides_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUDA", raising=False)
    lines: list[str] = []
    assert choose_cuda(client_of("570.124.06"), "ssh://ann@box", lines.append) == "cuda12"
    assert lines == [f"{OLD}: using the CUDA 12 image"]
    assert choose_cuda(client_of("590.48.01"), "ssh://ann@box", lines.append) == "cuda13"
    with pytest.raises(EnvironmentProblem, match=r"^ssh://box: no NVIDIA driver"):
        choose_cuda(client_of(None), "ssh://ann@box", lines.append)


def test_variable_decides_for_images_too(monkeypatch: pytest.MonkeyPatch) -> None:
    lines: list[str] = []
    monkeypatch.setenv("CUDA", "13")
    assert choose_cuda(client_of("570.124.06"), "ssh://ann@box", lines.append) == "cuda13"
    assert lines == []
    monkeypatch.setenv("CUDA", "11")
    with pytest.raises(UserError, match="invalid CUDA '11'"):
        choose_cuda(client_of("570.124.06"), None, lines.append)


@pytest.mark.parametrize(
    ("label", "gpus", "device", "expected"),
    [
        ("cuda12", "", "auto", ("all", "cuda")),
        ("cuda12", "device=1", "auto", ("device=1", "cuda")),
        ("cuda12", "all", "cuda:1", ("all", "cuda:1")),
        ("cuda12", "", "cpu", ("", "cpu")),
        ("cpu", "", "auto", ("", "cpu")),
        ("", "", "auto", ("", "auto")),
    ],
)
def test_container_is_given_and_asked_for_the_device_of_its_image(
    label: str, gpus: str, device: str, expected: tuple[str, str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    image = SimpleNamespace(id="sha256:1", labels={"sdbench.kind": label})
    client = SimpleNamespace(
        ping=lambda: True, version=dict, images=SimpleNamespace(get=lambda _name: image), containers=None
    )
    monkeypatch.setattr(docker, "from_env", lambda **_: client)
    monkeypatch.setattr(Engine, "prepare_locks", lambda *_: None)
    request = PlanRequest(ROOT / "manifests/smoke.yaml", device=device)
    where = ImageRequest(("any/image",), gpus=gpus)
    (host,) = run_images._prepare(ROOT / "manifests/smoke.yaml", request, where, tmp_path, print)
    (job,) = host.jobs
    assert (job.gpus, job.arguments[-1]) == (expected[0], f"--device={expected[1]}")
