from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sdbench.compare.comparison import compare_runs
from sdbench.plan.make_plan import PlanRequest, make_plan
from sdbench.probes.devices import choose_device
from sdbench.runner import ceilings as module
from sdbench.runner import launcher as launcher_module
from sdbench.runner.ceilings import measure_device
from sdbench.runner.events import RunEvent
from sdbench.runner.run import measure, run, run_plan
from sdbench.runner.state import RunState
from sdbench.schema.base import Known, Unknown
from sdbench.schema.outcome import Skipped, launches_of
from sdbench.schema.record import Record
from sdbench.schema.warning_codes import WarningCode
from sdbench.store.journal import read_journal
from sdbench.store.run import Run
from tests.fingerprints import make_ceilings
from tests.runner.setups import FAKE_WORKER, make_spec

VIRTUAL = """\
schema: sdbench/manifest/v1
title: Virtual
protocol: {{launches_min: 2, launches_max: 2}}
experiments:
  - id: one
    title: One
    options: {{pipeline: tiny-sd, backend: virtual, virtual: {{drift: {drift}}}}}
"""


def ignore(_event: RunEvent) -> None:
    pass


def interrupt_on_first_launch(event: RunEvent) -> None:
    if event.kind == "launched":
        raise KeyboardInterrupt


def start_of(record: Record) -> Any:
    return record.fingerprint.state.ceilings


def codes_of(record: Record) -> list[str]:
    return [warning.code for warning in record.warnings]


@pytest.mark.usefixtures("_both_isolations")
def test_run_keeps_what_the_machine_reached_at_both_ends(tmp_path: Path) -> None:
    record = run(make_spec(tmp_path, "good"), ignore).record

    assert start_of(record) == Known(value=make_ceilings("cpu"))
    assert record.ceilings_at_end == Known(value=make_ceilings("cpu"))
    assert not {WarningCode.MACHINE_DRIFTED, WarningCode.CEILINGS_MISSING} & set(codes_of(record))


@pytest.mark.usefixtures("_both_isolations")
def test_worker_that_dies_of_the_ceilings_is_a_warning_and_the_run_continues(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_CEILINGS", "crash")
    record = run(make_spec(tmp_path, "good"), ignore).record

    assert record.ended == "complete"
    assert record.results[0].outcome.kind == "succeeded"
    assert isinstance(start_of(record), Unknown)
    assert "SIGABRT" in start_of(record).reason
    (warning,) = (item for item in record.warnings if item.code == WarningCode.CEILINGS_MISSING)
    assert "at the start: " in warning.message
    assert "at the end: " in warning.message


def test_ceilings_that_hang_end_at_their_time_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAKE_CEILINGS", "hang")
    monkeypatch.setattr(module, "_TIMEOUT_S", 1.0)
    record = run(make_spec(tmp_path, "good"), ignore).record

    assert record.results[0].outcome.kind == "succeeded"
    assert start_of(record).reason.startswith("they did not finish within 1 s (at ")


def test_what_could_not_be_measured_is_named_in_a_warning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    state = make_spec(tmp_path, "good")
    partly = make_ceilings("cpu", memory_bytes_per_s=Unknown(reason="no memory was left to measure it"))
    monkeypatch.setattr(module, "_measure", lambda *_: module.MeasuredCeilings(Known(value=partly), _join(partly)))
    record = run(state, ignore).record

    (warning,) = (item for item in record.warnings if item.code == WarningCode.CEILINGS_MISSING)
    assert "memory: no memory was left" in warning.message


def _join(ceilings: Any) -> str:
    return "; ".join(module._missing(ceilings))


def test_resumed_run_keeps_the_ceilings_of_its_beginning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    interrupted = run(make_spec(tmp_path, "good"), interrupt_on_first_launch)
    assert interrupted.record.ceilings_at_end == Unknown(reason="the run is not complete")
    assert isinstance(start_of(interrupted.record), Known)

    monkeypatch.setenv("FAKE_CEILINGS", "1.1")
    record = run(make_spec(tmp_path, "good"), ignore).record

    assert record.run_id == interrupted.record.run_id
    assert start_of(record) == Known(value=make_ceilings("cpu"))
    assert record.ceilings_at_end == Known(value=make_ceilings("cpu", 1.1))
    (warning,) = (item for item in record.warnings if item.code == WarningCode.MACHINE_DRIFTED)
    assert "matrix products fp32 -9 %" in warning.message
    entries, _ = read_journal(next(tmp_path.glob("*/journal.jsonl")))
    assert [entry["when"] for entry in entries if entry["kind"] == "ceilings"] == ["start", "end"]


def test_run_that_pauses_has_no_ceilings_of_its_end_yet(tmp_path: Path) -> None:
    record = run(make_spec(tmp_path, "good", rounds=1), ignore).record

    assert record.ended == "paused"
    assert record.ceilings_at_end == Unknown(reason="the run is not complete")


def test_run_that_is_interrupted_at_its_start_is_sealed_without_ceilings(tmp_path: Path) -> None:
    def interrupt(event: RunEvent) -> None:
        if "what the machine reaches" in event.text:
            raise KeyboardInterrupt

    record = run(make_spec(tmp_path, "good"), interrupt).record

    assert record.ended == "interrupted"
    assert start_of(record) == Unknown(reason="the run was interrupted before they were measured")
    assert record.results[0].outcome.kind == "skipped"


def test_budget_under_a_minute_is_for_the_experiments(tmp_path: Path) -> None:
    record = run(make_spec(tmp_path, "good", budget_s=59.0), ignore).record

    assert start_of(record) == Unknown(reason="the budget is under 60 s, which is for the experiments")
    assert WarningCode.CEILINGS_MISSING not in codes_of(record)


def test_run_without_an_experiment_that_can_run_measures_nothing(tmp_path: Path) -> None:
    spec = make_spec(tmp_path, "good")
    skipped = {item.experiment_id: Skipped(reason="no", hint="yes") for item in spec.plan.planned}
    record = run(make_spec(tmp_path, "good", skipped=skipped), ignore).record

    assert start_of(record) == Unknown(reason="no experiment runs here")


def record_calls(monkeypatch: pytest.MonkeyPatch, owner: Any, name: str) -> list[tuple[Any, ...]]:
    """Return the list that gets the arguments of each call of what a module has under a name."""
    calls, real = [], getattr(owner, name)

    def call(*arguments: Any) -> Any:
        calls.append(arguments)
        return real(*arguments)

    monkeypatch.setattr(owner, name, call)
    return calls


def test_first_round_takes_the_template_that_measured_the_ceilings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started = record_calls(monkeypatch, launcher_module, "Template")
    record = run(make_spec(tmp_path, "good"), ignore).record

    launches = launches_of(record.results[0].outcome)
    assert len({launch.template_id for launch in launches}) == len(launches) == 2
    assert len(started) == 2


@pytest.mark.parametrize(("variables", "count"), [({}, 2), ({"OMP_NUM_THREADS": "1"}, 4)])
def test_arms_share_their_ceilings_where_their_workers_are_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], count: int
) -> None:
    measured = record_calls(monkeypatch, module, "run_worker")
    first = make_spec(tmp_path / "a", "good")
    second = replace(make_spec(tmp_path / "b", "good"), environment=variables)

    def launch_none(states: Sequence[RunState]) -> Any:
        return "complete"

    runs = measure([first, second], launch_none, ignore)

    assert len(measured) == count
    assert all(isinstance(item.record.ceilings_at_end, Known) for item in runs)


def test_device_is_measured_without_a_run() -> None:
    measured = measure_device(choose_device("cpu"), ("fp32",), lambda _holder: None, FAKE_WORKER)

    assert measured.reading == Known(value=make_ceilings("cpu"))


def run_virtual(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, machine: str, drift: float = 0.0) -> Run:
    manifest = tmp_path / "virtual.yaml"
    manifest.write_text(VIRTUAL.format(drift=drift))
    monkeypatch.setenv("SDBENCH_VIRTUAL", machine)
    return run_plan(make_plan(PlanRequest(manifest)), tmp_path / "results", fresh=True)


def test_virtual_machine_that_drifts_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert WarningCode.MACHINE_DRIFTED in codes_of(run_virtual(tmp_path, monkeypatch, "seed=1", drift=0.05).record)
    assert WarningCode.MACHINE_DRIFTED not in codes_of(run_virtual(tmp_path, monkeypatch, "seed=1").record)


def test_slower_virtual_machine_is_named_in_the_comparison(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usual = run_virtual(tmp_path, monkeypatch, "seed=1")
    slower = run_virtual(tmp_path, monkeypatch, "seed=1 factor=1.064")

    assert compare_runs(usual, slower).machine == (
        "the machine became 6 % slower at everything: matrix products fp32 -6 %, memory -6 %, launches -6 %; "
        "the results moved with it"
    )
    again = run_virtual(tmp_path, monkeypatch, "seed=2")
    assert compare_runs(usual, again).machine == "the machine's ceilings are equal within 1 %"
