import os
import shutil
import sys
from dataclasses import replace
from math import inf
from pathlib import Path
from typing import Any, Literal

import pytest

from sdbench.compare.comparison import compare_records
from sdbench.runner.ab import make_session
from sdbench.runner.events import Listener, RunEvent
from sdbench.runner.interleave import Need, choose_experiment, interleave
from sdbench.schema.base import Known
from sdbench.schema.outcome import Skipped, Succeeded, launches_of
from sdbench.store.bundle import load_record, verify_files
from sdbench.store.run import Run
from tests.runner.setups import make_spec

ARMS: tuple[Literal["a"], Literal["b"]] = ("a", "b")


def quiet(_event: RunEvent) -> None:
    pass


def run_arms(
    tmp_path: Path, a: str, b: str, seed: int = 3, blocks_max: int = 7, listener: Listener = quiet
) -> tuple[Run, Run]:
    first = make_spec(tmp_path / "out", a, session=make_session("0" * 16, "a", seed, ["threads=1"]))
    second = make_spec(tmp_path / "out", b, session=make_session("0" * 16, "b", seed, ["env.API_KEY=hunter2hunter2"]))
    return interleave((first, second), 0.02, listener, blocks_max=blocks_max)


def test_two_arms_are_interleaved_in_blocks_until_they_are_resolved(tmp_path: Path) -> None:
    a, b = run_arms(tmp_path, "good", "good")
    for result in (a, b):
        record = load_record(result.folder)
        verify_files(result.folder, record)
        assert record.ended == "complete"
        assert record.session is not None
        assert record.session.seed == 3
    settings = [arm.record.session.settings for arm in (a, b)]  # type: ignore[union-attr]
    assert settings == [Known(value=("threads=1",)), Known(value=("env.API_KEY=(secret)",))]
    assert a.record.session.session_id == b.record.session.session_id  # type: ignore[union-attr]
    assert (a.folder.name[:7], b.folder.name[:7]) == ("fake-a-", "fake-b-")
    positions = [[launch.position for launch in launches_of(arm.record.results[0].outcome)] for arm in (a, b)]
    assert sorted(position for arm in positions for position in arm if position is not None) == list(range(28))
    for block in range(7):
        places = sorted(
            position - 4 * block for position in positions[0] if position is not None and position // 4 == block
        )
        assert places in ([0, 3], [1, 2])
    assert {positions[0][0], positions[1][0]} == {0, 1}
    outcome = a.record.results[0].outcome
    assert isinstance(outcome, Succeeded)
    assert outcome.stop_reason == "converged"
    assert compare_records([a.record], [b.record], 0.02).verdict == "same"


def test_events_say_which_block_it_is_and_the_time_left_falls(tmp_path: Path) -> None:
    events: list[RunEvent] = []
    run_arms(tmp_path, "good", "good", blocks_max=2, listener=events.append)
    launched = [event for event in events if event.kind == "launched"]
    assert [(event.block, event.block_count) for event in launched] == [(1, 2)] * 4 + [(2, 2)] * 4
    assert {event.arm for event in launched[:4]} == {"a", "b"}
    left_s = [event.remaining_s or 0.0 for event in events if event.kind == "launch"]
    assert 0 < left_s[-1] < left_s[0]


@pytest.mark.parametrize(("environment", "templates"), [({}, 1), ({"NAME": "value"}, 3)])
def test_block_has_templates_of_its_own_and_one_lives_at_a_time(
    tmp_path: Path, environment: dict[str, str], templates: int
) -> None:
    alive: list[int] = []

    def count_children(_event: RunEvent) -> None:
        alive.append(len(Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children").read_text().split()))

    first, second = (
        make_spec(tmp_path / "out", "good", session=make_session("0" * 16, arm, 3, [f"threads={arm}"])) for arm in ARMS
    )
    runs = interleave((first, replace(second, environment=environment)), 0.02, count_children, blocks_max=2)
    ids = {launch.position: launch.template_id for run in runs for launch in launches_of(run.record.results[0].outcome)}
    blocks = [[ids[4 * block + place] for place in range(4)] for block in range(2)]
    assert [len(set(block)) for block in blocks] == [templates] * 2
    assert all(block[1] == block[2] for block in blocks)
    assert not set(blocks[0]) & set(blocks[1])
    assert max(alive) == 1


def test_each_arm_has_the_template_of_its_own_python(tmp_path: Path) -> None:
    first, second = (
        make_spec(tmp_path / "out", "good", session=make_session("0" * 16, arm, 3, [f"threads={arm}"])) for arm in ARMS
    )
    other = replace(second, template_command=(sys.executable, "-s", *second.template_command[1:]))
    runs = interleave((first, other), 0.02, quiet, blocks_max=2)
    ids = [{launch.template_id for launch in launches_of(run.record.results[0].outcome)} for run in runs]
    assert all(ids)
    assert not ids[0] & ids[1]
    third = replace(second, template_command=("false",), fresh=True)
    a, b = interleave((replace(first, fresh=True), third), 0.02, quiet, blocks_max=2)
    assert a.record.results[0].outcome.kind == "succeeded"
    assert b.record.results[0].outcome.kind == "failed"


def test_an_arm_that_fails_ends_the_experiment_in_both(tmp_path: Path) -> None:
    a, b = run_arms(tmp_path, "good", "crash")
    assert b.record.results[0].outcome.kind == "failed"
    assert len(launches_of(a.record.results[0].outcome)) <= 2
    comparison = compare_records([a.record], [b.record], 0.02)
    assert comparison.verdict == "incomparable"


def test_a_seed_repeats_the_order(tmp_path: Path) -> None:
    def order(seed: int, name: str) -> list[int | None]:
        a, _ = run_arms(tmp_path / name, "good", "good", seed, blocks_max=2)
        return [launch.position for launch in launches_of(a.record.results[0].outcome)]

    assert order(5, "first") == order(5, "second")


def test_experiment_whose_first_block_does_not_fit_into_the_budget_is_skipped(tmp_path: Path) -> None:
    first_arm, second_arm = (
        make_spec(tmp_path / "out", "good", "good:2", budget_s=1e-9, session=make_session("0" * 16, arm, 3, []))
        for arm in ARMS
    )
    for result in interleave((first_arm, second_arm), 0.02, quiet):
        first, second = (item.outcome for item in result.record.results)
        assert isinstance(first, Succeeded)
        assert (len(first.launches), first.stop_reason) == (2, "budget")
        assert isinstance(second, Skipped)
        assert "budget" in second.reason


class InterruptAt:
    """Interrupts the session as it starts its launch of this number."""

    def __init__(self, number: int) -> None:
        self.left = number

    def __call__(self, event: RunEvent) -> None:
        self.left -= event.kind == "launch"
        if self.left == 0:
            raise KeyboardInterrupt


def run_session(
    tmp_path: Path, listener: Listener = quiet, seed: int = 3, *, own_seed: bool = False, **changes: Any
) -> tuple[Run, Run]:
    arms = [
        make_spec(tmp_path, "good", session=make_session(f"{seed:016}", arm, seed, [arm]), **changes) for arm in ARMS
    ]
    return interleave((arms[0], arms[1]), 0.02, listener, own_seed=own_seed, blocks_max=7)


def arms_by_position(runs: tuple[Run, Run]) -> dict[int, str]:
    """Which arm each position of a session had."""
    positions = {
        launch.position: arm
        for arm, run in zip("ab", runs, strict=True)
        for launch in launches_of(run.record.results[0].outcome)
    }
    return {
        position: positions[position]
        for position in sorted(positions, key=lambda item: item or 0)
        if position is not None
    }


@pytest.mark.parametrize("killed", [False, True])
def test_interrupted_session_is_continued_and_a_block_that_was_cut_off_is_taken_again(
    tmp_path: Path, *, killed: bool
) -> None:
    whole = arms_by_position(run_session(tmp_path / "whole"))
    first = run_session(tmp_path / "out", InterruptAt(7))
    assert [run.record.ended for run in first] == ["interrupted"] * 2
    if killed:
        for run in first:
            (run.folder / "record.json").unlink()
            with (run.folder / "journal.jsonl").open("ab") as journal:
                journal.write(b'{"crc32":"torn')
    again = run_session(tmp_path / "out", seed=4)
    assert [run.folder for run in again] == [run.folder for run in first]
    assert [run.record.session.seed for run in again if run.record.session] == [3, 3]
    order = arms_by_position(again)
    assert list(order) == [*range(6), *range(8, 32)]
    # The second block begins again where a new one would, in the order of the second block.
    assert [order[position] for position in (*range(4), *range(8, 32))] == list(whole.values())
    judgement = compare_records([again[0].record], [again[1].record], 0.02).experiments[0].judgements[0]
    assert (judgement.verdict, judgement.units) == ("same", (7, 7))


def test_session_whose_folder_of_arm_b_was_not_made_yet_is_continued(tmp_path: Path) -> None:
    first = run_session(tmp_path / "out", InterruptAt(1))
    shutil.rmtree(first[1].folder)
    again = run_session(tmp_path / "out", seed=4)
    assert again[0].folder == first[0].folder
    assert {run.record.session.session_id for run in again if run.record.session} == {f"{3:016}"}


def test_each_command_of_a_session_has_the_whole_budget(tmp_path: Path) -> None:
    runs = [run_session(tmp_path / "out", budget_s=1e-9) for _ in range(7)]
    assert [run[0].record.ended for run in runs] == [*["paused"] * 6, "complete"]
    assert len(list((tmp_path / "out").glob("fake-*"))) == 2
    assert list(arms_by_position(runs[-1])) == list(range(28))


def test_resolved_session_is_not_continued_nor_one_of_another_seed_or_margin(tmp_path: Path) -> None:
    out = tmp_path / "out"
    interrupted = run_session(out, InterruptAt(2))
    run_session(out, InterruptAt(2), seed=5, own_seed=True)
    run_session(out, InterruptAt(2), fresh=True)
    assert len(list(out.glob("fake-*"))) == 6
    assert run_session(out, own_seed=True)[0].record.ended == "complete"
    before = len(list(out.glob("fake-*")))
    assert before == 6
    assert interrupted[0].folder.exists()
    run_session(tmp_path / "other", InterruptAt(99))
    run_session(tmp_path / "other", InterruptAt(99))
    assert len(list((tmp_path / "other").glob("fake-*"))) == 4


@pytest.mark.parametrize(
    ("left_s", "chosen"),
    [
        # All: the one with the fewest blocks.
        (inf, 1),
        (400.0, 1),
        # Not all: the first ones that it resolves.
        (130.0, 0),
        (70.0, 2),
        # None: the first one that a block fits of.
        (25.0, 0),
        (15.0, 2),
        (5.0, None),
    ],
)
def test_budget_goes_to_the_first_experiments_that_it_resolves(left_s: float, chosen: int | None) -> None:
    needs = [Need(2, 20.0, 100.0), Need(1, 40.0, 240.0), Need(3, 10.0, 40.0)]
    assert choose_experiment(needs, left_s) == chosen
