from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def _workers_find_the_tests(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))


@pytest.fixture(params=["fork", "spawn"])
def _both_isolations(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run a test with workers that are forked from a template, and with spawned workers."""
    monkeypatch.setenv("FAKE_ISOLATION", request.param)
