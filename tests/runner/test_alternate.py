from pathlib import Path

from sdbench.compare.comparison import compare_records
from sdbench.runner.alternate import AlternateSpec, alternate
from sdbench.runner.events import RunEvent
from sdbench.schema.base import Known
from sdbench.schema.outcome import Succeeded, launches_of
from sdbench.store.bundle import load_record, verify_files
from tests.runner.setups import make_spec


def quiet(_event: RunEvent) -> None:
    pass


def spec_of(tmp_path: Path, a: str, b: str, seed: int = 3, blocks_max: int = 7) -> AlternateSpec:
    sides = make_spec(tmp_path / "out", a), make_spec(tmp_path / "out", b)
    settings = ("threads=1",), ("env.API_KEY=hunter2hunter2",)
    return AlternateSpec(sides, settings, margin=0.02, seed=seed, budget_s=None, blocks_max=blocks_max)


def test_two_sides_take_turns_in_blocks_until_they_are_resolved(tmp_path: Path) -> None:
    a, b = alternate(spec_of(tmp_path, "good", "good"), quiet)
    for result in (a, b):
        record = load_record(result.folder)
        verify_files(result.folder, record)
        assert record.ended == "complete"
        assert record.session is not None
        assert record.session.seed == 3
    asked = [side.record.session.settings for side in (a, b)]  # type: ignore[union-attr]
    assert asked == [Known(value=("threads=1",)), Known(value=("env.API_KEY=(secret)",))]
    assert a.record.session.session_id == b.record.session.session_id  # type: ignore[union-attr]
    assert (a.folder.name[:7], b.folder.name[:7]) == ("fake-a-", "fake-b-")
    turns = [[launch.turn for launch in launches_of(side.record.results[0].outcome)] for side in (a, b)]
    assert sorted(turn for side in turns for turn in side if turn is not None) == list(range(28))
    for block in range(7):
        places = sorted(turn - 4 * block for turn in turns[0] if turn is not None and turn // 4 == block)
        assert places in ([0, 3], [1, 2])
    assert {turns[0][0], turns[1][0]} == {0, 1}
    outcome = a.record.results[0].outcome
    assert isinstance(outcome, Succeeded)
    assert outcome.stop_reason == "precise enough"
    assert compare_records([a.record], [b.record], 0.02).verdict == "same"


def test_a_side_that_fails_ends_the_experiment_on_both(tmp_path: Path) -> None:
    a, b = alternate(spec_of(tmp_path, "good", "crash"), quiet)
    assert b.record.results[0].outcome.kind == "failed"
    assert len(launches_of(a.record.results[0].outcome)) <= 2
    found = compare_records([a.record], [b.record], 0.02)
    assert found.verdict == "incomparable"


def test_a_seed_repeats_the_order(tmp_path: Path) -> None:
    def order(seed: int, name: str) -> list[int | None]:
        a, _ = alternate(spec_of(tmp_path / name, "good", "good", seed, blocks_max=2), quiet)
        return [launch.turn for launch in launches_of(a.record.results[0].outcome)]

    assert order(5, "first") == order(5, "second")
