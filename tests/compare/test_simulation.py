"""The simulated rules are the rules; and slowly, the rates that the design promises."""

import math
from random import Random
from typing import Any

import pytest

from sdbench.compare.judge import judge_metric
from sdbench.compare.levels import learn_session_variance
from sdbench.compare.policy import BLOCKS_MAX, BLOCKS_MIN, decide, draw_session_order, p_changed
from sdbench.compare.samples import Evidence
from sdbench.compare.selfcheck import (
    COVERAGE_LAUNCHES,
    COVERAGE_TOLERANCE,
    FALSE_ALARMS_MAX,
    FOUND_MIN,
    SUITE_FALSE_ALARMS_MAX,
    any_of_suite,
    check_arithmetic,
    simulate_rules,
)
from sdbench.compare.simulation import Looks, simulate_coverage, simulate_session, upper_bound
from sdbench.stats.noise import NOISE_MODELS, independent, launch_level
from sdbench.stats.ratios import paired_ratio, ratio_with_variance


def learn_and_compare(random: Any, sessions: int, experiments: int, deviation: float) -> int:
    """How many of the experiments of two identical sessions are called faster or slower, the variance being learned.

    What happens to a session happens to all its experiments: its pace is common to them.
    """
    known = [math.exp(random.normal(0, deviation)) for _ in range(sessions)]
    learned = learn_session_variance([[known] * experiments])
    assert learned is not None
    a, b = (math.exp(random.normal(0, deviation)) for _ in range(2))
    ratio = ratio_with_variance([a], [b], *learned)
    evidence = [Evidence("latency_s", ratio, "session", (1, 1))] * experiments
    return sum(item.verdict in ("faster", "slower") for item in judge_metric(evidence, 0.02))


def test_experiments_of_a_session_are_not_many_measurements_of_its_variance() -> None:
    learned = learn_session_variance([[(1.0, 1.01, 0.99)] * 20, [(2.0, 2.02)] * 20])
    assert learned is not None
    assert learned[1] == 2 + 1


@pytest.mark.slow
@pytest.mark.parametrize("deviation", [0.005, 0.02, 0.1])
def test_sessions_alike_raise_few_false_alarms_where_their_variance_was_learned(deviation: float) -> None:
    import numpy as np

    random = np.random.default_rng(4)
    trials = 3_000
    alarms = sum(learn_and_compare(random, 4, 20, deviation) > 0 for _ in range(trials))
    assert upper_bound(alarms, trials) <= SUITE_FALSE_ALARMS_MAX


def test_simulated_looks_are_those_that_a_session_takes() -> None:
    import numpy as np

    trials, seed, change, margin = 200, 7, 0.02, 0.01
    random = np.random.default_rng(seed)
    logs = independent(random, trials, BLOCKS_MAX * 4).reshape(trials, BLOCKS_MAX, 4)
    orders = np.array([draw_session_order(Random(int(number))) for number in random.integers(0, 1_000, trials)])
    differences = orders[:, :BLOCKS_MAX] * (np.array([-1, 1, 1, -1]) * logs).sum(axis=2) / 2 + math.log1p(change)
    counts = dict.fromkeys(("faster", "slower", "same", "inconclusive"), 0)
    for row in differences:
        verdict = "inconclusive"
        for count in range(BLOCKS_MIN, BLOCKS_MAX + 1):
            ratio = paired_ratio([math.exp(value) for value in row[:count]], [1.0] * count)
            assert ratio is not None
            verdict = decide(ratio, margin, p_changed(ratio, margin, "block"))
            if verdict != "inconclusive":
                break
        counts[verdict] += 1
    simulated = simulate_session("any", independent, trials, seed, change, Looks(margin))
    assert {name: getattr(simulated, name) for name in counts} == counts


def test_exact_bound_of_a_rate_is_the_rule_of_three_where_nothing_was_observed() -> None:
    assert upper_bound(0, 20_000) == pytest.approx(3 / 20_000, rel=0.01)
    assert upper_bound(5, 5) == 1


def test_golden_cases_pass_here() -> None:
    assert [case.name for case in check_arithmetic() if not case.passed] == []


@pytest.mark.slow
def test_identical_arms_raise_few_false_alarms_in_every_noise_model_and_changes_are_detected() -> None:
    check = simulate_rules()
    assert len(NOISE_MODELS) >= 8
    for trials in check.identical:
        assert trials.false_alarm_bound <= FALSE_ALARMS_MAX, trials
    for trials in check.identical_in_suite:
        assert any_of_suite(trials.false_alarm_bound) <= SUITE_FALSE_ALARMS_MAX, trials
    assert check.changed.slower / check.changed.trials >= FOUND_MIN, check.changed


@pytest.mark.slow
@pytest.mark.parametrize("launches", COVERAGE_LAUNCHES)
def test_nominal_intervals_cover_the_truth(launches: int) -> None:
    for model in (independent, launch_level):
        coverage = simulate_coverage("any", model, 20_000, 1, launches)
        assert abs(coverage.rate - 0.95) <= COVERAGE_TOLERANCE, coverage


@pytest.mark.parametrize("name", [name for name in NOISE_MODELS if "launch slow" in name or "sine" in name])
def test_periodic_noise_raises_few_false_alarms(name: str) -> None:
    trials = simulate_session(name, NOISE_MODELS[name], 3_000, 11, 0.0, Looks(0.02))
    assert trials.false_alarms <= 2, trials
