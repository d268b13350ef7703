import subprocess
import sysconfig
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
HADOLINT = Path(sysconfig.get_path("scripts")) / "hadolint"


def lint(dockerfile: Path) -> "subprocess.CompletedProcess[str]":
    return subprocess.run([HADOLINT, "--no-color", dockerfile], capture_output=True, text=True)


@pytest.mark.parametrize("kind", ["cpu", "cuda"])
def test_hadolint_finds_nothing(kind: str) -> None:
    done = lint(ROOT / f"Dockerfile.{kind}")
    assert (done.returncode, done.stdout) == (0, "")


def test_hadolint_would_find_something(tmp_path: Path) -> None:
    bad = tmp_path / "Dockerfile"
    bad.write_text("FROM debian:latest\nRUN cd /tmp\n")
    assert "DL3007" in lint(bad).stdout
