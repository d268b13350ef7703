"""Environments of arms, cloned from a small stand-in of the running environment and changed by pip, without network."""

import os
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from sdbench.errors import UserError
from sdbench.probes.other_python import read_software_of
from sdbench.runner import environments
from sdbench.runner.environments import CannotInstall, check_imports, open_environment, write_steps
from sdbench.schema.base import Known


def make_wheel(folder: Path, name: str, version: str, requires: str = "") -> Path:
    """A wheel with one module, which knows its version; 2.0 and later have not the module ``only_old``."""
    folder.mkdir(exist_ok=True)
    path = folder / f"{name}-{version}-py3-none-any.whl"
    info = f"{name}-{version}.dist-info"
    files = {f"{name}/__init__.py": f"version = {version!r}\n"}
    if version < "2":
        files[f"{name}/only_old.py"] = ""
    metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
    files[f"{info}/METADATA"] = metadata + (f"Requires-Dist: {requires}\n" if requires else "")
    files[f"{info}/WHEEL"] = "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    files[f"{info}/RECORD"] = "".join(f"{file},,\n" for file in (*files, f"{info}/RECORD"))
    with zipfile.ZipFile(path, "w") as archive:
        for file, content in files.items():
            archive.writestr(file, content)
    return path


@pytest.fixture
def base(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The running environment's packages: alpha 1.0, and beta 1.0 that needs it; pip finds others in a folder."""
    site = tmp_path / "site"
    for name, requires in (("alpha", ""), ("beta", "alpha<3")):
        with zipfile.ZipFile(make_wheel(tmp_path / "old", name, "1.0", requires)) as archive:
            archive.extractall(site)
    for version in ("1.0", "2.0", "3.0"):
        make_wheel(tmp_path / "index", "alpha", version)
    make_wheel(tmp_path / "index", "beta", "1.0", "alpha<3")
    make_wheel(tmp_path / "index", "beta", "2.0", "alpha>=3")
    monkeypatch.setattr(environments, "_site_folders", lambda: (site,))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "index"))
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    yield site
    # Whatever became of the clones, the original is as it was.
    assert (site / "alpha" / "__init__.py").read_text() == "version = '1.0'\n"
    assert (site / "alpha" / "only_old.py").is_file()
    assert (site / "alpha-1.0.dist-info").is_dir()


def write(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.write_text(text)
    return path


def packages_of(python: Path) -> Path:
    return next((python.parents[1] / "lib").glob("python3.*")) / "site-packages"


def test_lock_replaces_a_package_in_a_clone_and_leaves_nothing_of_the_old_one(base: Path, tmp_path: Path) -> None:
    lock = write(tmp_path, "lock.txt", "alpha==2.0\n")
    environment = open_environment(f"packages={lock}", tmp_path / "cache")
    site = packages_of(environment.executable)
    assert (site / "alpha" / "__init__.py").read_text() == "version = '2.0'\n"
    assert not (site / "alpha" / "only_old.py").exists()
    assert not (site / "alpha-1.0.dist-info").exists()
    # What the lock does not name is a link, and takes no room.
    assert (site / "beta" / "__init__.py").stat().st_ino == (base / "beta" / "__init__.py").stat().st_ino
    assert environment.names == ("alpha",)
    made = environment.executable.parents[1].stat().st_mtime_ns
    assert open_environment(f"packages={lock}", tmp_path / "cache") == environment
    assert environment.executable.parents[1].stat().st_mtime_ns == made


def test_package_that_a_step_has_not_is_removed(base: Path, tmp_path: Path) -> None:
    lock = write(tmp_path, "lock.txt", "# without: beta\nalpha==2.0\n")
    site = packages_of(open_environment(f"packages={lock}", tmp_path / "cache").executable)
    assert not (site / "beta").exists()
    assert (base / "beta").is_dir()


@pytest.mark.usefixtures("base")
@pytest.mark.parametrize(
    ("pins", "message"),
    [
        ("alpha==9.9\n", "cannot install: ERROR: No matching distribution found for alpha==9.9"),
        ("alpha==3.0\n", "beta 1.0 has requirement alpha<3, but you have alpha 3.0; change what does not fit"),
    ],
)
def test_what_pip_cannot_install_or_does_not_fit_has_a_reason_and_leaves_no_folder(
    tmp_path: Path, pins: str, message: str
) -> None:
    lock = write(tmp_path, "lock.txt", pins)
    with pytest.raises(CannotInstall, match=message):
        open_environment(f"packages={lock}", tmp_path / "cache")
    assert not [path for path in (tmp_path / "cache" / "environments").iterdir() if path.is_dir()]


@pytest.mark.usefixtures("base")
def test_wheels_of_a_folder_replace_what_is_installed(tmp_path: Path) -> None:
    make_wheel(tmp_path / "nightly", "alpha", "2.0")
    environment = open_environment(f"wheels={tmp_path / 'nightly'}", tmp_path / "cache")
    assert "2.0" in (packages_of(environment.executable) / "alpha" / "__init__.py").read_text()
    assert environment.names == ("alpha",)
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="has no wheel"):
        open_environment(f"wheels={tmp_path / 'empty'}", tmp_path / "cache")


def test_steps_lead_from_one_lock_to_the_other_with_what_must_change_together(
    monkeypatch: pytest.MonkeyPatch, base: Path, tmp_path: Path
) -> None:
    good = write(tmp_path, "good.txt", "alpha==1.0\nbeta==1.0\n")
    bad = write(tmp_path, "bad.txt", "alpha==3.0\nbeta==2.0\n")
    # The stand-in has not what this sdbench imports.
    monkeypatch.setattr(
        environments.PythonEnvironment,
        "variables",
        property(lambda _: {"PYTHONPATH": os.pathsep.join((os.environ["PYTHONPATH"], *sys.path[1:]))}),
    )
    del base
    steps = write_steps(good, bad, tmp_path / "steps", tmp_path / "cache")
    assert [path.name for path in steps] == ["01-good.txt", "02-alpha-3.0+beta-2.0.txt"]
    with pytest.raises(UserError, match="pin the same packages"):
        write_steps(good, good, tmp_path / "steps", tmp_path / "cache")


def test_software_of_a_record_is_read_by_the_interpreter_of_the_arm() -> None:
    software = read_software_of(Path(sys.executable), os.environ | {"OMP_NUM_THREADS": "3"}, ["pytest"])
    assert isinstance(software.packages, Known)
    names = {package.name for package in software.packages.value}
    assert {"pytest", "numpy"} <= names
    assert "pip" not in names
    assert isinstance(software.environment, Known)
    assert ("OMP_NUM_THREADS", "3") in [(item.name, item.value) for item in software.environment.value]


def test_environment_that_cannot_import_a_backend_has_a_reason(tmp_path: Path) -> None:
    broken = tmp_path / "python"
    broken.write_text("#!/bin/sh\necho 'ImportError: no libcudart' >&2\nexit 1\n")
    broken.chmod(0o755)
    with pytest.raises(CannotInstall, match="ImportError: no libcudart"):
        check_imports(environments.PythonEnvironment(broken, "key", ()), ["virtual"])
