"""The simulated rules of the adjusted ratio are the rules; they raise few false alarms, and their intervals cover."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sdbench.compare.adjustment import Adjusted
from sdbench.compare.policy import BLOCKS_MAX, BLOCKS_MIN, decide, p_changed
from sdbench.compare.simulation import upper_bound
from sdbench.schema.base import Unknown
from sdbench.stats.adjusted import adjusted_paired_ratio, adjusted_welch_ratio
from sdbench.stats.ratios import paired_ratio, welch_ratio
from sdbench.store.bundle import encode_record
from tests.benchmarks.adjustment import (
    LAUNCHES,
    SEED,
    Verdicts,
    cover,
    draw_blocks,
    draw_launches,
    judge_trials,
)
from tests.benchmarks.adjustment_noise import NOISE, Scenario, white
from tests.benchmarks.adjustment_records import read_rows, summarize
from tests.benchmarks.adjustment_ways import compare_ways
from tests.compare.test_adjustment import arm

MARGIN = 0.02
TRIALS = 4_000
# Every branch of the rule decides some of these trials.
CHANGED = Scenario("changed", partial(white, size=1.5), change=0.024, reference_change=0.004)


def count(verdicts: Sequence[tuple[str, bool]]) -> dict[str, int]:
    names = ("faster", "slower", "same")
    counts = {name: sum(verdict == name for verdict, _ in verdicts) for name in names}
    return counts | {"adjusted": sum(used and verdict in names for verdict, used in verdicts)}


def as_counts(simulated: Verdicts) -> dict[str, int]:
    return {name: getattr(simulated, name) for name in ("faster", "slower", "same", "adjusted")}


def test_simulated_looks_are_those_that_a_session_takes() -> None:
    trials = 100
    y, x = (np.exp(logs) for logs in draw_blocks(CHANGED, np.random.default_rng(SEED), trials, BLOCKS_MAX))
    verdicts = []
    for values, references in zip(y.tolist(), x.tolist(), strict=True):
        verdict, used = "inconclusive", False
        for blocks in range(BLOCKS_MIN, BLOCKS_MAX + 1):
            ones = [1.0] * blocks
            plain = paired_ratio(values[:blocks], ones)
            assert plain is not None
            fit = adjusted_paired_ratio(values[:blocks], ones, references[:blocks], ones)
            ratios = Adjusted("block", plain, fit or Unknown(reason="none"), requested=True)
            ratio, used = ratios.counts(MARGIN), not ratios.reason_against(MARGIN)
            verdict = decide(ratio, MARGIN, p_changed(ratio, MARGIN, "block"))
            if verdict != "inconclusive":
                break
        verdicts.append((verdict, used))
    expected = count(verdicts)
    assert expected == as_counts(judge_trials(CHANGED, "blocks", trials, adjust=True))
    assert min(expected["slower"], expected["adjusted"], expected["slower"] - expected["adjusted"]) > 0


def test_simulated_runs_are_judged_as_compare_does() -> None:
    trials = 200
    changed = Scenario("changed", white, change=0.033, reference_change=0.004)
    y, x = (np.exp(logs) for logs in draw_launches(changed, np.random.default_rng(SEED), trials, LAUNCHES))
    verdicts = []
    for index in range(trials):
        arms = [data[arm_index, index].tolist() for data in (y, x) for arm_index in (0, 1)]
        plain = welch_ratio(*arms[:2])
        assert plain is not None
        ratios = Adjusted("launch", plain, adjusted_welch_ratio(*arms) or Unknown(reason="none"), requested=True)
        ratio = ratios.counts(MARGIN)
        verdict = decide(ratio, MARGIN, p_changed(ratio, MARGIN, "launch"))
        verdicts.append((verdict, not ratios.reason_against(MARGIN)))
    expected = count(verdicts)
    assert expected == as_counts(judge_trials(changed, "launches", trials, adjust=True))
    assert expected["adjusted"] > 0


@pytest.mark.parametrize("scenario", NOISE, ids=lambda scenario: scenario.name)
def test_identical_arms_raise_few_false_alarms(scenario: Scenario) -> None:
    verdicts = judge_trials(scenario, "blocks", TRIALS, adjust=True)
    # At a true rate of 0.1 %, more than eleven of 4,000 happen in one of a thousand draws.
    assert verdicts.alarms <= 11, upper_bound(verdicts.alarms, TRIALS)


@pytest.mark.parametrize("change", [0.01, 0.02, 0.05])
@pytest.mark.parametrize("size", [1.0, 5.0])
def test_candidate_that_changes_the_reference_alone_raises_few_false_alarms(change: float, size: float) -> None:
    moved = Scenario("moved", partial(white, size=size), reference_change=change)
    assert judge_trials(moved, "blocks", TRIALS, adjust=True).alarms <= 11


def test_false_alarms_stay_rare_where_the_reference_sees_nearly_all_and_changes_by_just_more_than_the_margin() -> None:
    def sees_nearly_all(random: Any, trials: int, launches: int) -> tuple[Any, Any]:
        host = random.normal(0, 0.03, (trials, launches))
        return host + random.normal(0, 0.0043, (trials, launches)), host

    # 0.28 % without the condition that the plain ratio shows any change.
    moved = Scenario("moved", sees_nearly_all, reference_change=0.025)
    assert judge_trials(moved, "blocks", 4 * TRIALS, adjust=True).alarms <= 30


def test_driver_that_slows_everything_is_not_called_the_same() -> None:
    slowed = Scenario("slowed", white, change=0.05, reference_change=0.05)
    verdicts = judge_trials(slowed, "blocks", TRIALS, adjust=True)
    assert (verdicts.slower, verdicts.same + verdicts.faster) == (TRIALS, 0)
    assert verdicts.adjusted == 0


@pytest.mark.parametrize("name", ["white, as measured", "reference useless", "reference three times as noisy"])
@pytest.mark.parametrize("blocks", [7, 20])
def test_intervals_cover_the_truth_also_where_the_reference_is_useless(name: str, blocks: int) -> None:
    scenario = next(item for item in NOISE if item.name == name)
    trials = 20_000
    intervals = cover(scenario, "blocks", blocks, trials)
    assert abs(intervals.adjusted - 0.95) <= 0.01
    assert abs(intervals.used - 0.95) <= 0.01


def test_reference_as_measured_saves_a_quarter_of_the_standard_error() -> None:
    assert cover(NOISE[0], "blocks", 10, TRIALS).error_ratio < 0.75


def test_records_of_sessions_are_evaluated_with_both_ratios(tmp_path: Path) -> None:
    for name in "ab":
        folder = tmp_path / name
        folder.mkdir()
        (folder / "record.json").write_bytes(encode_record(arm(name, blocks=14).to_json_dict()))
    (row,) = read_rows([tmp_path], None)
    assert (row.blocks, row.plain_verdict, row.verdict) == (14, "same", "same")
    halves = list(read_rows([tmp_path], 7))
    assert [half.blocks for half in halves] == [7, 7]
    text = summarize([row])
    assert "1 sessions; the adjusted ratio is used in 1" in text
    assert "false alarms: plain 0" in text
    assert summarize([]) == "no session has enough blocks with reference operations"


def test_only_more_references_keep_the_coverage_where_the_candidate_changes_the_reference_a_little() -> None:
    ways = compare_ways(0.005, TRIALS)
    assert {name for name, (coverage, width) in ways.items() if coverage > 0.94 and width < 0.9} == {
        "40 more references"
    }
