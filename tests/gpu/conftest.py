"""Tests that need an NVIDIA GPU, and the report that they leave: ``make test-gpu`` writes it, to attach to an issue.

Each test holds sdbench against an answer that is known without it: cycles that a kernel spins for, bytes that were
allocated, errors of a matrix product, names of kernels. What a test observed is kept in the report, whether it passed
or not. Names of persons and hosts, paths and identifiers of cards are removed.
"""

import json
import os
import platform
from collections.abc import Callable, Generator, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
import torch

from sdbench.backends.pytorch import PytorchBackend, open_backend
from sdbench.privacy import Redactor
from sdbench.schema.experiment import Experiment
from tests.gpu.machine import DEVICE, MODEL, ON_GPU

ROOT = Path(__file__).resolve().parents[2]
REPORT = Path(os.environ.get("SDBENCH_GPU_REPORT", ROOT / "build" / "gpu-report.json"))
PACKAGES = ("torch", "diffusers", "transformers", "nvidia-ml-py", "sdbench")
_MESSAGE_CHARACTERS = 2000

_observations: dict[str, Any] = {}
_outcomes: dict[str, dict[str, Any]] = {}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark every test of this folder, and skip on the CPU what needs a GPU."""
    for item in items:
        if item.path.is_relative_to(Path(__file__).parent):
            item.add_marker(pytest.mark.gpu)
            if not ON_GPU and item.path.name != "test_runs.py":
                item.add_marker(pytest.mark.skip(reason="needs a GPU"))


@pytest.fixture(scope="session", autouse=True)
def _cuda() -> None:
    if ON_GPU and not torch.cuda.is_available():
        pytest.exit(f"torch {torch.__version__} finds no CUDA device; see 'sdbench doctor'", returncode=3)


@pytest.fixture
def observe(request: pytest.FixtureRequest) -> Callable[..., None]:
    """Return a function that keeps named values of this test for the report."""

    def keep(**values: Any) -> None:
        _observations.setdefault(request.node.nodeid, {}).update(values)

    return keep


@pytest.fixture
def backend_of(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., PytorchBackend]]:
    """Return a function that opens a pipeline on the GPU from options of an experiment; all are freed at the end."""
    cache = Path(os.environ.get("SDBENCH_CACHE") or tmp_path_factory.getbasetemp() / "cache")
    opened: list[PytorchBackend] = []

    def open_(**options: Any) -> PytorchBackend:
        experiment = Experiment(**(MODEL | options))
        opened.append(open_backend(experiment, DEVICE, cache, os.cpu_count() or 1))
        return opened[-1]

    yield open_
    opened.clear()
    torch.cuda.empty_cache()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Keep how each test ended."""
    report = yield
    if report.when == "call" or report.outcome != "passed":
        entry: dict[str, Any] = {"outcome": report.outcome, "duration_s": round(report.duration, 2)}
        if report.longrepr:
            entry["message"] = str(report.longrepr)[-_MESSAGE_CHARACTERS:]
        _outcomes[item.nodeid] = entry
    return report


def pytest_sessionfinish() -> None:
    """Write the report."""
    if not _outcomes:
        return
    redactor = Redactor()
    report = {
        "machine": {
            "gpu": torch.cuda.get_device_name(0) if torch.cuda.is_available() else None,
            "capability": torch.cuda.get_device_capability(0) if torch.cuda.is_available() else None,
            "cuda": torch.version.cuda,
            "cudnn": torch.backends.cudnn.version(),  # type: ignore[no-untyped-call]
            "architectures": torch.cuda.get_arch_list(),
            "kernel": platform.release(),
            "python": platform.python_version(),
            "packages": {name: version(name) for name in PACKAGES},
        },
        "outcomes": _outcomes,
        "observations": _observations,
    }
    REPORT.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(report, indent=1, default=str).replace(f"{ROOT}/", "")
    REPORT.write_text(redactor.redact(text) + "\n", encoding="utf-8")
