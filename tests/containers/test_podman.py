"""Podman that answers as ``docker`` is refused in one line."""

import os
import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import docker
import pytest

from sdbench.containers.engine import Engine
from sdbench.errors import EnvironmentProblem

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("name", ["docker", "podman"])
@pytest.mark.parametrize("kind", ["cpu", "cuda"])
def test_script_refuses_podman_in_one_line(name: str, kind: str, tmp_path: Path) -> None:
    program = tmp_path / name
    program.write_text("#!/bin/sh\n[ \"$1\" = --version ] && echo 'podman version 4.3.1'\n")
    program.chmod(0o755)
    done = subprocess.run(
        ["sh", ROOT / "containers" / "bench.sh", kind, ROOT / "manifests" / "smoke.yaml"],
        env=os.environ
        | {"PATH": f"{tmp_path}:{os.environ['PATH']}", "OUT": str(tmp_path / "out"), "IMAGE": "any/image"}
        | {"DOCKER": name},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 3
    assert f"'{name}' is Podman, which is not supported: install Docker" in done.stderr
    assert done.stderr.count("\n") == 1


def engine_of(version: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> Engine:
    client = SimpleNamespace(ping=lambda: True, version=lambda: version)
    monkeypatch.setattr(docker, "from_env", lambda **_: client)
    return Engine(None)


def test_sdk_refuses_podman(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(EnvironmentProblem, match="is Podman, which is not supported"):
        engine_of({"Components": [{"Name": "Podman Engine", "Version": "4.3.1"}]}, monkeypatch)


def test_sdk_takes_docker(monkeypatch: pytest.MonkeyPatch) -> None:
    assert engine_of({"Components": [{"Name": "Engine", "Version": "28.0"}]}, monkeypatch).host is None


def test_password_of_a_host_that_does_not_answer_is_not_shown() -> None:
    with pytest.raises(EnvironmentProblem) as caught:
        Engine("ssh://user:CANARY@127.0.0.1:9")
    assert "CANARY" not in str(caught.value)
