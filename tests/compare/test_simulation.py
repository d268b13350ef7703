"""The simulated rules are the rules; and, slowly, what the design promises of them."""

import math

import pytest

from sdbench.compare.selfcheck import (
    COVERAGE_LAUNCHES,
    COVERAGE_TOLERANCE,
    FALSE_ALARMS_MAX,
    FOUND_MIN,
    SUITE_FALSE_ALARMS_MAX,
    check_arithmetic,
    simulate_all,
    suite_false_alarm_bound,
)
from sdbench.compare.simulation import Looks, simulate_coverage, simulate_session, upper_bound
from sdbench.compare.verdicts import BLOCKS_MAX, UNITS_MIN, decide
from sdbench.stats.noise import NOISE_MODELS, independent, launch_level
from sdbench.stats.ratios import paired_ratio


def test_simulated_looks_are_those_that_a_session_takes() -> None:
    import numpy as np

    trials, seed, change, margin = 200, 7, 0.02, 0.01
    random = np.random.default_rng(seed)
    logs = independent(random, trials, BLOCKS_MAX * 4).reshape(trials, BLOCKS_MAX, 4)
    signs = np.where(random.random((trials, BLOCKS_MAX, 1)) < 1 / 2, 1.0, -1.0) * np.array([-1, 1, 1, -1])
    differences = (signs * logs).sum(axis=2) / 2 + math.log1p(change)
    counts = dict.fromkeys(("faster", "slower", "same", "inconclusive"), 0)
    for row in differences:
        verdict = "inconclusive"
        for count in range(UNITS_MIN, BLOCKS_MAX + 1):
            ratio = paired_ratio([math.exp(value) for value in row[:count]], [1.0] * count)
            assert ratio is not None
            verdict = decide(ratio, margin, ratio.p_beyond(margin))
            if verdict != "inconclusive":
                break
        counts[verdict] += 1
    found = simulate_session("any", independent, trials, seed, change, Looks(margin))
    assert {name: getattr(found, name) for name in counts} == counts


def test_exact_bound_of_a_rate_is_the_rule_of_three_where_nothing_was_seen() -> None:
    assert upper_bound(0, 20_000) == pytest.approx(3 / 20_000, rel=0.01)
    assert upper_bound(5, 5) == 1


def test_golden_cases_hold_here() -> None:
    assert [case.name for case in check_arithmetic() if not case.holds] == []


@pytest.mark.slow
def test_alike_sides_raise_few_false_alarms_in_every_noise_model_and_changes_are_found() -> None:
    alone, in_suite, changed = simulate_all()
    assert len(NOISE_MODELS) >= 8
    for found in alone:
        assert (found.faster + found.slower) / found.trials <= FALSE_ALARMS_MAX, found
    for found in in_suite:
        assert suite_false_alarm_bound(found) <= SUITE_FALSE_ALARMS_MAX * 2, found
    assert changed.slower / changed.trials >= FOUND_MIN, changed


@pytest.mark.slow
@pytest.mark.parametrize("launches", COVERAGE_LAUNCHES)
def test_nominal_intervals_cover_as_they_say(launches: int) -> None:
    for model in (independent, launch_level):
        found = simulate_coverage("any", model, 20_000, 1, launches)
        assert abs(found.rate - 0.95) <= COVERAGE_TOLERANCE, found
