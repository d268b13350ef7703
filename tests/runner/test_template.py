import os
import signal
from pathlib import Path
from typing import Any

import pytest

from sdbench.errors import EnvironmentProblem
from sdbench.runner.events import RunEvent
from sdbench.runner.run import run
from sdbench.schema.outcome import AnyOutcome, Failed, Launch, OutOfMemory, Succeeded, TimedOut, launches_of
from sdbench.schema.record import Record
from sdbench.schema.warning_codes import WarningCode
from tests.runner.setups import make_spec


def ignore(_event: RunEvent) -> None:
    pass


def run_with(template: str, out: Path, monkeypatch: pytest.MonkeyPatch, **options: Any) -> Record:
    monkeypatch.setenv("FAKE_TEMPLATE", template)
    return run(make_spec(out, "good", "good:2", **options), ignore).record


def outcome_with(template: str, out: Path, monkeypatch: pytest.MonkeyPatch, **options: Any) -> AnyOutcome:
    return run_with(template, out, monkeypatch, **options).results[0].outcome


def launches(record: Record) -> list[Launch]:
    return [launch for result in record.results for launch in launches_of(result.outcome)]


def test_experiments_of_a_round_share_a_template_and_launches_of_one_experiment_never_do(tmp_path: Path) -> None:
    record = run(make_spec(tmp_path, "good", "good:2"), ignore).record
    ids = [[launch.template_id for launch in launches_of(result.outcome)] for result in record.results]
    assert {launch.isolation for launch in launches(record)} == {"fork"}
    assert ids[0] == ids[1]
    assert len(set(ids[0])) == 2


def test_template_that_dies_while_it_imports_yields_a_failed_outcome_with_its_output(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    outcome = outcome_with("dies", tmp_path, monkeypatch)
    assert isinstance(outcome, Failed)
    assert outcome.stage == "import"
    assert "SIGSEGV" in outcome.message
    assert "the last line" in outcome.stderr_tail


def test_template_that_hangs_is_killed_and_reports_where_it_hung(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    outcome = outcome_with("hangs", tmp_path, monkeypatch, timeout_s=2)
    assert isinstance(outcome, TimedOut)
    assert outcome.stage == "import"
    assert "fake_template.py" in outcome.stderr_tail


def test_library_that_cannot_be_imported_ends_the_run_with_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(EnvironmentProblem, match=r"^cannot import the libraries of backend 'pytorch': ImportError: x;"):
        run_with("cannot import", tmp_path, monkeypatch)


def test_import_that_runs_out_of_memory_is_out_of_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert isinstance(outcome_with("no memory", tmp_path, monkeypatch), OutOfMemory)


@pytest.mark.parametrize("reason", ["unsafe", "unusable fork"])
def test_launch_that_cannot_be_forked_safely_is_started_whole_and_reports_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reason: str
) -> None:
    record = run_with(reason, tmp_path, monkeypatch)
    assert {launch.isolation for launch in launches(record)} == {"spawn"}
    for launch in launches(record):
        assert launch.template_id is None
        (warning,) = (item for item in launch.warnings if item.code == WarningCode.NOT_FORKED)
        assert "a test says so" in warning.message


def test_template_that_dies_takes_its_worker_along_and_the_next_experiment_has_a_new_one(tmp_path: Path) -> None:
    killed: list[int] = []

    def kill_template(event: RunEvent) -> None:
        if event.kind == "sample" and not killed:
            killed.extend(children(os.getpid()))
            os.kill(killed[0], signal.SIGKILL)

    record = run(make_spec(tmp_path / "out", "hang", "good"), kill_template).record
    first, second = (result.outcome for result in record.results)
    assert isinstance(first, Failed)
    assert "SIGKILL" in first.message
    assert isinstance(second, Succeeded)


def children(pid: int) -> list[int]:
    return [int(text) for text in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def test_many_launches_leave_no_process_and_no_open_file(tmp_path: Path) -> None:
    before = set(Path("/proc/self/fd").iterdir())
    run(make_spec(tmp_path, *(f"good:{number}" for number in range(10))), ignore)
    assert set(Path("/proc/self/fd").iterdir()) == before
    assert children(os.getpid()) == []
