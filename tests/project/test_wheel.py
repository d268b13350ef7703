"""The wheel is the product for whoever has no checkout."""

import os
import shutil
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pydantic
import pytest

ROOT = Path(__file__).parents[2]
REFERENCES = ROOT / "reports" / "reference"
DATA = (
    "sdbench/py.typed",
    "sdbench/manifests/quick.yaml",
    "sdbench/manifests/lambda-2022.yaml",
    "sdbench/containers/engine_errors.tsv",
    "sdbench/models/pipelines/pipelines.yaml",
    "sdbench/models/pipelines/facts.json",
    "sdbench/models/pipelines/tiny-sd/model_index.json",
    "sdbench/models/pipelines/tiny-sd/unet/config.json",
    "sdbench/publish/published_fields.txt",
    "sdbench/report/templates/page.html.j2",
)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    source.mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    for name in ("sdbench", "manifests", "reports/reference"):
        shutil.copytree(ROOT / name, source / name, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
    command = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--no-deps",
        "--no-build-isolation",
        "--no-index",
        "-w",
        str(folder),
    ]
    subprocess.run([*command, str(source)], check=True, capture_output=True)
    (path,) = folder.glob("*.whl")
    return path


def test_wheel_holds_its_data(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    assert set(DATA) <= names
    shipped = {f"sdbench/manifests/{path.name}" for path in (ROOT / "manifests").glob("*.yaml")}
    shipped |= {f"sdbench/references/{path.parent.name}/record.json" for path in REFERENCES.glob("*/record.json")}
    assert {name for name in names if name.startswith(("sdbench/manifests/", "sdbench/references/"))} == shipped


def test_installed_wheel_runs_a_shipped_manifest_by_name(wheel: Path, tmp_path: Path) -> None:
    venv.create(tmp_path / "venv")
    (packages,) = (tmp_path / "venv" / "lib").glob("python3*/site-packages")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(packages)
    (packages / "others.pth").write_text(f"{Path(pydantic.__file__).parents[1]}\n")
    empty = tmp_path / "empty"
    empty.mkdir()
    environ = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}

    def sdbench(*arguments: str) -> str:
        command = [str(tmp_path / "venv" / "bin" / "python"), "-m", "sdbench", *arguments]
        return subprocess.run(command, cwd=empty, env=environ, check=True, capture_output=True, text=True).stdout

    assert "A first look" in sdbench("plan", "quick")
    virtual = ("--set", "backend=virtual", "--set", "protocol.launches_max=2", "--device", "cpu")
    assert "record " in sdbench("run", "smoke", *virtual)
    assert list((empty / "results").glob("smoke-*/record.json"))
