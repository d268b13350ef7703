"""Images that this checkout builds: which of them a host's NVIDIA driver runs, and the build itself."""

import os
import re
import subprocess
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from sdbench.containers.engine_errors import as_problem, docker_problems
from sdbench.errors import EnvironmentProblem, UserError
from sdbench.exit_codes import USER_ERROR
from sdbench.privacy import strip_credentials

ROOT = Path(__file__).resolve().parents[2]
# The kinds of image that this project builds.
KINDS = ("cpu", "cuda12", "cuda13")
# Stands for the newest of them that the driver runs.
CUDA = "cuda"
# Every container sees this file of its host.
_DRIVER_FILE = "/proc/driver/nvidia/version"
_SCRIPTS = ROOT / "containers"


def choose_cuda(client: Any, host: str | None, emit: Callable[[str], None]) -> str:
    """Return the kind of CUDA image that the NVIDIA driver of an engine's host runs, and report why.

    Raises:
        UserError: the variable CUDA is neither 12 nor 13.
        EnvironmentProblem: that host shows no driver, or one that is too old.
    """
    if host is None:
        answer = _run_script("choose_cuda.sh")
    else:
        try:
            answer = _run_script("choose_cuda.sh", "/dev/stdin", text=_read_driver(client))
        except EnvironmentProblem as problem:
            raise EnvironmentProblem(f"{strip_credentials(host)}: {problem}") from None
    cuda, _, why = answer.partition(" ")
    if why:
        emit(f"{why}: using the CUDA {cuda} image")
    return f"{CUDA}{cuda}"


def _read_driver(client: Any) -> str:
    from docker.errors import ContainerError

    pinned = re.search(r"^ARG BASE_IMAGE=(\S+)", (ROOT / "Dockerfile.cuda").read_text(encoding="utf-8"), re.MULTILINE)
    base = os.environ.get("BASE_IMAGE") or (pinned[1] if pinned else "")
    isolated = {"network_mode": "none", "cap_drop": ["ALL"], "read_only": True}
    with docker_problems("the driver's version cannot be read"), suppress(ContainerError):  # it has no such file
        return str(client.containers.run(base, ["cat", _DRIVER_FILE], remove=True, **isolated), "utf-8")
    return ""


def build_image(client: Any, kind: str, emit: Callable[[str], None]) -> str:
    """Build the image of this checkout of a kind, and return its tag.

    Raises:
        EnvironmentProblem: it cannot be built.
    """
    lines = _run_script("build_args.sh", kind).splitlines()
    tag = f"sdbench:{kind}"
    if (architecture := client.info().get("Architecture")) != "x86_64":
        raise EnvironmentProblem(f"{tag} is not built: its locked packages are for x86_64, that host is {architecture}")
    emit(f"building {tag}; the first time this takes minutes")
    output = ""
    with docker_problems(f"{tag} is not built"):
        for part in client.api.build(
            path=str(ROOT),
            dockerfile=f"Dockerfile.{kind.rstrip('0123456789')}",
            tag=tag,
            buildargs=dict(line.split("=", 1) for line in lines),
            network_mode="none" if (ROOT / "requirements" / "wheels").is_dir() else None,
            decode=True,
            rm=True,
        ):
            output = output[-20_000:] + str(part.get("stream", ""))
            if "error" in part:
                raise as_problem(f"{tag} is not built", output + str(part["error"]))
    return tag


def _run_script(name: str, *arguments: str, text: str | None = None) -> str:
    script = _SCRIPTS / name
    if not script.is_file():
        raise EnvironmentProblem("cpu and cuda are built from a checkout of sdbench; name an image to pull")
    done = subprocess.run([script, *arguments], input=text, capture_output=True, text=True)
    if done.returncode:
        problem = UserError if done.returncode == USER_ERROR else EnvironmentProblem
        raise problem(done.stderr.strip().removeprefix("sdbench: "))
    return done.stdout.strip()
