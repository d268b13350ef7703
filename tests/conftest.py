"""Settings of all tests, and which are left out where torch is not installed, as on Pythons that have no lock file."""

from importlib.util import find_spec
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# Folders and files in which every test needs torch, or a tool that only the lock file for development has.
NEED_TORCH = (
    "backends",
    "browser",
    "cli/test_fetch.py",
    "containers/test_hadolint.py",
    "gpu",
    "models",
    "plan/test_own_pipelines.py",
    "workloads/test_precision.py",
)
HAS_TORCH = find_spec("torch") is not None

collect_ignore = [] if HAS_TORCH else [str(Path(__file__).parent / name) for name in NEED_TORCH]
# A busy machine is slow, and no test asserts a time.
settings.register_profile("sdbench", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("sdbench")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip single tests that need torch where it is not installed."""
    for item in items:
        if item.get_closest_marker("torch") and not HAS_TORCH:
            item.add_marker(pytest.mark.skip(reason="torch is not installed"))


@pytest.fixture(autouse=True)
def _without_measured_rates(monkeypatch: pytest.MonkeyPatch) -> None:
    """Plan as on a machine that has measured nothing."""
    monkeypatch.setattr("sdbench.plan.make_plan.read_rates", lambda *_: {})


@pytest.fixture(autouse=True)
def _with_own_locks(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Wait for no run outside these tests: another one may hold this machine's CPU."""
    monkeypatch.setattr("sdbench.store.lock.LOCK_FOLDER", tmp_path_factory.getbasetemp() / "locks")
