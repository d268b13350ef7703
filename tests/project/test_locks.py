"""The lock files hold what pyproject.toml asks for, every file with its hash, and no address."""

import re
import tomllib
from collections.abc import Iterable
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
REQUIREMENTS = ROOT / "requirements"
NAMES = ("build", "cpu", "cuda12", "cuda13", "report", "containers", "container", "publish", "query", "fleet", "dev")
CUDA_LOCKS = ("cuda12", "cuda13")

HASH = re.compile(r"--hash=sha256:[0-9a-f]{64}")
PIN = re.compile(r"(?P<name>[A-Za-z0-9._-]+)(?:\[[a-z0-9]+\])?(?:===?|>=|~=)(?P<version>[A-Za-z0-9.+!]+)")


def normalized(name: str) -> str:
    return re.sub(r"[._-]+", "-", name).lower()


def read_pins(requirements: Iterable[str]) -> dict[str, str]:
    """Package -> version of requirements that pin one."""
    pins: dict[str, str] = {}
    for requirement in requirements:
        match = PIN.fullmatch(requirement)
        assert match is not None, f"{requirement!r} pins no version"
        pins[normalized(match["name"])] = match["version"]
    return pins


def logical_lines(lock: str) -> list[str]:
    text = (REQUIREMENTS / f"{lock}.txt").read_text(encoding="utf-8").replace("\\\n", " ")
    return [line for line in text.splitlines() if not line.startswith("#")]


def locked(*locks: str) -> dict[str, str]:
    return read_pins(line.split()[0] for lock in locks for line in logical_lines(lock))


def project_pins(extra: str | None) -> dict[str, str]:
    """Package -> version that pyproject.toml asks for, less the references to its own extras."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    lines = project["dependencies"] if extra is None else project["optional-dependencies"][extra]
    return read_pins(line for line in lines if not line.startswith("sdbench["))


def without_local_label(pins: dict[str, str]) -> dict[str, str]:
    return {name: version.partition("+")[0] for name, version in pins.items()}


@pytest.mark.parametrize("lock", NAMES)
def test_every_package_of_a_lock_has_hashes_and_no_other_option(lock: str) -> None:
    lines = logical_lines(lock)
    assert lines
    for line in lines:
        _, *options = line.split()
        assert options, line
        assert all(HASH.fullmatch(option) for option in options), line


@pytest.mark.parametrize("lock", NAMES)
def test_no_lock_holds_an_address(lock: str) -> None:
    text = (REQUIREMENTS / f"{lock}.txt").read_text(encoding="utf-8")
    assert "://" not in text
    assert "find-links" not in text
    assert "index-url" not in text


def test_there_is_no_lock_that_these_tests_overlook() -> None:
    assert {file.stem for file in REQUIREMENTS.glob("*.txt")} == set(NAMES)


@pytest.mark.parametrize(
    ("extra", "lock"),
    [
        (None, "cpu"),
        (None, "cuda12"),
        (None, "cuda13"),
        ("model", "cpu"),
        ("model", "cuda12"),
        ("model", "cuda13"),
        ("test", "dev"),
        *((name, name) for name in NAMES[1:]),
    ],
)
def test_lock_holds_the_versions_of_the_project(extra: str | None, lock: str) -> None:
    wanted = project_pins(extra)
    pins = without_local_label(locked(lock))
    assert {name: pins.get(name) for name in wanted} == wanted


def test_every_extra_has_a_lock_but_those_that_are_part_of_others() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert set(project["optional-dependencies"]) - set(NAMES) == {"model", "test"}


def test_each_lock_holds_the_one_build_of_onnxruntime_that_fits() -> None:
    builds = {"onnxruntime", "onnxruntime-gpu"}
    assert builds & set(locked("cpu")) == {"onnxruntime"}
    for lock in CUDA_LOCKS:
        assert builds & set(locked(lock)) == {"onnxruntime-gpu"}


def test_locks_agree_where_they_overlap() -> None:
    together = without_local_label(locked(*(name for name in NAMES if name != "cuda12")))
    for lock in NAMES:
        pins = without_local_label(locked(lock))
        differing = {name for name in pins if pins[name] != together.get(name)}
        # What belongs to CUDA, and torch and onnxruntime built for it.
        assert {
            name for name in differing if not re.match(r"(torch|onnxruntime-gpu|triton|nvidia-|cuda-)", name)
        } == set()
        assert lock == "cuda12" or not differing


def test_cpu_lock_takes_the_cpu_build_and_nothing_for_cuda() -> None:
    pins = locked("cpu")
    assert pins["torch"].endswith("+cpu")
    assert [name for name in pins if name.startswith(("nvidia-", "cuda-", "triton")) and name != "nvidia-ml-py"] == []


@pytest.mark.parametrize("lock", CUDA_LOCKS)
def test_cuda_lock_cannot_be_met_by_the_cpu_build_or_for_another_cuda(lock: str) -> None:
    assert [line for line in logical_lines(lock) if line.startswith("torch===")]
    of_a_cuda = {name[-4:] for name in locked(lock) if re.search("-cu1[0-9]$", name)}
    assert of_a_cuda == {lock.replace("cuda", "cu")}


@pytest.mark.parametrize("lock", ["cpu", *CUDA_LOCKS])
def test_lock_brings_the_vocabulary_without_what_its_package_asks_for(lock: str) -> None:
    pins = locked(lock)
    assert "open-clip-torch" in pins
    assert not {"torchvision", "timm", "accelerate"} & set(pins)
