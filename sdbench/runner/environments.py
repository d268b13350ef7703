"""Python environments of arms: the running one with the packages of a lock file, or the wheels of a folder, on top.

An environment is a clone, not a layer: files of the running environment are linked into its own ``site-packages``, so
that what is replaced or removed there is gone, and is not found behind what replaced it.
"""

import contextlib
import json
import os
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path

from packaging.utils import InvalidWheelFilename, canonicalize_name, parse_wheel_filename

import sdbench
from sdbench.errors import EnvironmentProblem, UserError
from sdbench.plan.locks import (
    Installed,
    Lock,
    changed_names,
    format_lock,
    mix_locks,
    order_steps,
    pinned_version,
    read_lock,
)
from sdbench.probes.other_python import ask_python
from sdbench.probes.torch_build import installed_versions
from sdbench.schema.base import Known, sha256_of
from sdbench.store.files import make_folder, write_whole
from sdbench.store.lock import hold_file

# The settings of an arm that choose its environment.
PACKAGES, WHEELS = "packages", "wheels"
_READY_NAME = "ready.json"
_FOLDER_NAME = "environments"
_KEY_DIGITS = 16
_PIP_CHARACTERS = 300


@dataclass(frozen=True)
class PythonEnvironment:
    """An environment by its interpreter, the hash of what it was made from, and the packages chosen for it."""

    executable: Path
    key: str
    names: tuple[str, ...]

    @property
    def variables(self) -> dict[str, str]:
        """The variables that let it find this sdbench, where that does not run from ``site-packages``."""
        own = Path(sdbench.__file__).parents[1]
        if own in _site_folders():
            return {}
        return {"PYTHONPATH": os.pathsep.join(filter(None, (str(own), os.environ.get("PYTHONPATH", ""))))}


class CannotInstall(EnvironmentProblem):
    """Packages that cannot be installed together, or that this machine cannot get."""


def open_environment(setting: str, cache: Path) -> PythonEnvironment:
    """Return the environment that ``packages=LOCK`` or ``wheels=FOLDER`` means, built if it is not in the cache yet.

    Raises:
        UserError: the lock file or the folder is invalid.
        CannotInstall: pip cannot install it, or what it installed does not fit together.
        EnvironmentProblem: pip is missing, or the cache is not writable.
    """
    kind, _, text = setting.partition("=")
    if kind == PACKAGES:
        lock = read_lock(Path(text))
        content, names = format_lock(lock), lock.names
    else:
        lock = Lock()
        content, names = _read_wheels(Path(text))
    key = sha256_of([kind, content, sys.version, sys.prefix, _describe_base()])
    folder = cache / _FOLDER_NAME / key[:_KEY_DIGITS]
    make_folder(folder.parent)
    with hold_file(folder.with_suffix(".lock")):
        if not (folder / _READY_NAME).is_file():
            _build(folder, lock, sorted(Path(text).glob("*.whl")) if kind == WHEELS else [])
    return PythonEnvironment(folder / "bin" / "python", key, names)


def check_imports(environment: PythonEnvironment, backends: Iterable[str]) -> None:
    """Import the libraries of backends in an environment.

    Raises:
        CannotInstall: one cannot be imported there.
    """
    try:
        for backend in sorted(backends):
            variables = os.environ | environment.variables
            ask_python(environment.executable, variables, "worker.launch.import_libraries", backend)
    except EnvironmentProblem as problem:
        raise CannotInstall(str(problem)) from None


def write_steps(good: Path, bad: Path, folder: Path, cache: Path) -> tuple[Path, ...]:
    """Write the lock files that lead from ``good`` to ``bad``, a package with what it needs at a time; return them.

    Raises:
        UserError: a lock file is invalid, both pin the same, or the first or last one cannot be installed.
        EnvironmentProblem: pip is missing, or a folder is not writable.
    """
    first, last = read_lock(good), read_lock(bad)
    changed = changed_names(first, last)
    if not changed:
        raise UserError(f"{good} and {bad} pin the same packages; name two lock files that differ")
    make_folder(folder)
    ends = (
        _write_step(folder, 1, good.stem, mix_locks(first, last, frozenset())),
        _write_step(folder, 0, bad.stem, mix_locks(first, last, frozenset(changed))),
    )
    try:
        old, new = (_read_installed(open_environment(f"{PACKAGES}={path}", cache)) for path in ends)
    except CannotInstall as problem:
        raise UserError(f"{good} and {bad}: {problem}") from None
    ends[1].unlink()
    paths, done = [ends[0]], frozenset[str]()
    for number, step in enumerate(order_steps(changed, old, new), start=2):
        done |= set(step)
        name = "+".join(f"{package}-{pinned_version(last, package)}" for package in step)
        paths.append(_write_step(folder, number, name, mix_locks(first, last, done)))
    return tuple(paths)


def _write_step(folder: Path, number: int, name: str, lock: Lock) -> Path:
    path = folder / f"{number:02d}-{name[:80]}.txt"
    write_whole(path, format_lock(lock).encode())
    return path


def _read_installed(environment: PythonEnvironment) -> dict[str, Installed]:
    text = ask_python(environment.executable, os.environ | environment.variables, "probes.other_python.print_installed")
    return {
        canonicalize_name(name): Installed(version or "0", tuple(requires))
        for name, (version, requires) in json.loads(text).items()
    }


def _read_wheels(folder: Path) -> tuple[str, tuple[str, ...]]:
    """The names and hashes of the wheels in a folder, and their packages."""
    wheels = sorted(folder.glob("*.whl"))
    if not wheels:
        raise UserError(f"wheels={folder}: the folder has no wheel (*.whl); name one that has")
    try:
        names = {str(parse_wheel_filename(path.name)[0]) for path in wheels}
    except InvalidWheelFilename as error:
        raise UserError(f"wheels={folder}: {error}; keep the names that the wheels were built with") from None
    lines = (f"{path.name} {sha256(path.read_bytes()).hexdigest()}" for path in wheels)
    return "\n".join(lines), tuple(sorted(names))


def _describe_base() -> list[str]:
    """The packages of the running environment, of which any other is made."""
    versions = installed_versions().items()
    return sorted(f"{name} {reading.value if isinstance(reading, Known) else '?'}" for name, reading in versions)


def _build(folder: Path, lock: Lock, wheels: Sequence[Path]) -> None:
    """Clone the running environment and change its packages; a half-built folder is removed."""
    shutil.rmtree(folder, ignore_errors=True)
    with _removed_where_it_fails(folder):
        _run([sys.executable, "-m", "venv", "--without-pip", str(folder)], "make an environment")
        for source in _site_folders():
            target = folder / "lib" / f"python{sys.version_info.major}.{sys.version_info.minor}" / "site-packages"
            shutil.copytree(source, target, copy_function=_link, symlinks=True, dirs_exist_ok=True)
        python = str(folder / "bin" / "python")
        before = _check(python)
        if lock.without:
            _pip(python, ["uninstall", "--yes", *sorted(lock.without)])
        if lock.pins:
            requirements = folder / "lock.txt"
            requirements.write_text(format_lock(replace(lock, without=frozenset())))
            _pip(python, ["install", "--no-deps", "--requirement", str(requirements)])
        if wheels:
            _pip(python, ["install", "--no-deps", "--no-index", "--force-reinstall", *map(str, wheels)])
        if broken := sorted(_check(python) - before):
            raise CannotInstall(f"{' '.join(broken)[:_PIP_CHARACTERS].rstrip('.')}; change what does not fit together")
        write_whole(folder / _READY_NAME, json.dumps({"lock": format_lock(lock)}).encode())


@contextlib.contextmanager
def _removed_where_it_fails(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        shutil.rmtree(folder, ignore_errors=True)
        raise EnvironmentProblem(
            f"cannot make an environment in {folder}: {error.strerror}; set SDBENCH_CACHE to a folder with room"
        ) from None
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise


def _site_folders() -> tuple[Path, ...]:
    """Where the packages of the running environment are."""
    return tuple(dict.fromkeys(Path(sysconfig.get_path(name)) for name in ("purelib", "platlib")))


def _link(source: str, target: str) -> str:
    """Link a file, which takes no room; pip removes files before it writes others. Copy it to another file system."""
    try:
        os.link(source, target)
    except FileExistsError:
        pass
    except OSError:
        shutil.copy2(source, target)
    return target


def _check(python: str) -> set[str]:
    """What does not fit together in an environment, in pip's words."""
    done = _call([sys.executable, "-m", "pip", "--python", python, "check"])
    return set(done.stdout.splitlines()) if done.returncode else set()


def _pip(python: str, arguments: Sequence[str]) -> None:
    _run([sys.executable, "-m", "pip", "--python", python, "--disable-pip-version-check", *arguments], "install")


def _run(command: Sequence[str], purpose: str) -> None:
    done = _call(command)
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if line.strip()]
        # The last of pip's errors is the one that made it stop.
        problem = next((line for line in reversed(lines) if "ERROR" in line), lines[-1] if lines else "no message")
        raise CannotInstall(f"cannot {purpose}: {problem[:_PIP_CHARACTERS]}; see whether its packages are available")


def _call(command: Sequence[str], environ: Mapping[str, str] | None = None) -> "subprocess.CompletedProcess[str]":
    # PYTHONPATH would hide what the environment itself has.
    own = {name: value for name, value in (environ or os.environ).items() if name != "PYTHONPATH"}
    done = subprocess.run(command, capture_output=True, text=True, env=own, check=False, stdin=subprocess.DEVNULL)
    if "No module named pip" in done.stderr:
        raise EnvironmentProblem(
            "this Python has no pip, which installs packages and wheels; add it: python -m ensurepip"
        )
    return done
