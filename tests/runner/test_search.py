from pathlib import Path

import pytest

from sdbench.runner.events import RunEvent
from sdbench.runner.run import run
from sdbench.schema.outcome import OutOfMemory, Succeeded, find_search, measuring_launches
from sdbench.schema.workload_results import BatchSearch
from sdbench.store.run import Run
from tests.runner.setups import make_spec

pytestmark = pytest.mark.usefixtures("_both_isolations")


def search(out: Path, prompt: str) -> tuple[Run, list[RunEvent]]:
    events: list[RunEvent] = []
    return run(make_spec(out, prompt, workload="largest-batch"), events.append), events


def succeeded(result: Run) -> Succeeded:
    outcome = result.record.results[0].outcome
    assert isinstance(outcome, Succeeded), outcome
    return outcome


def tries(outcome: Succeeded) -> list[tuple[int, bool]]:
    result = find_search(outcome.launches)
    assert result is not None
    return [(probe.batch, probe.fits) for probe in result.probes]


def test_result_of_a_search_is_measured_in_fresh_processes(tmp_path: Path) -> None:
    outcome = succeeded(search(tmp_path, "search:3")[0])
    assert tries(outcome) == [(1, True), (2, True), (3, True), (4, False)]
    assert [(launch.batch, launch.workload_result is None) for launch in outcome.launches] == [
        (3, False),
        (3, True),
        (3, True),
    ]
    assert len(measuring_launches(outcome.launches)) == 2


def test_worker_that_dies_of_a_batch_is_followed_by_one_that_knows_it(tmp_path: Path) -> None:
    result, events = search(tmp_path, "search-and-die:2")
    outcome = succeeded(result)
    assert tries(outcome) == [(1, True), (2, True), (3, False)]
    assert "batch 3 does not fit" in [event.text for event in events]
    assert outcome.launches[0].workload_result is not None


def test_result_that_does_not_fit_in_a_fresh_process_is_searched_again(tmp_path: Path) -> None:
    outcome = succeeded(search(tmp_path, "search-too-far:3")[0])
    first, second = (
        launch.workload_result for launch in outcome.launches if isinstance(launch.workload_result, BatchSearch)
    )
    assert (first.largest_batch, second.largest_batch) == (3, 2)
    failed = [probe for probe in second.probes if not probe.fits]
    assert failed[-1].message.startswith("in a fresh process: ")
    assert [launch.batch for launch in measuring_launches(outcome.launches)] == [2, 2]


@pytest.mark.parametrize("prompt", ["search:0", "search-and-die:0"])
def test_machine_too_small_for_one_image_is_out_of_memory(tmp_path: Path, prompt: str) -> None:
    outcome = search(tmp_path, prompt)[0].record.results[0].outcome
    assert isinstance(outcome, OutOfMemory)
    assert "not even one image" in outcome.message
    assert outcome.partial == () or outcome.partial[0].workload_result is not None


def test_search_that_was_sealed_is_not_run_again(tmp_path: Path) -> None:
    first, _ = search(tmp_path, "search:3")
    second, _ = search(tmp_path, "search:3")
    assert first.folder != second.folder  # complete: the same request is a new run
