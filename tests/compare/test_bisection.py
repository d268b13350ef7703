"""Which arm is asked next, and what the end says: pure decisions on answers that the tests give."""

from collections.abc import Sequence
from math import ceil, log2

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sdbench.compare.bisection import (
    ArmAnswer,
    Direction,
    Kind,
    answer,
    choose_followed,
    count_at_most,
    find_edges,
    is_only_a_part,
    measure_step,
    next_arm,
)
from sdbench.compare.comparison import Comparison, compare_records
from tests.compare.test_comparison import session_of


def ask_all(truth: Sequence[Kind]) -> dict[int, Kind]:
    """What is known at the end, where each arm is what ``truth`` says; the first one is not asked."""
    known: dict[int, Kind] = {}
    while (arm := next_arm(known, len(truth))) is not None:
        assert arm not in known
        known[arm] = truth[arm]
    return known


@given(st.integers(2, 200), st.data())
def test_the_first_bad_arm_is_found_in_the_fewest_comparisons(count: int, data: st.DataObject) -> None:
    guilty = data.draw(st.integers(1, count - 1))
    truth: list[Kind] = ["good" if arm < guilty else "bad" for arm in range(count)]
    known = ask_all(truth)
    assert find_edges(known, count) == (guilty - 1, guilty)
    assert len(known) <= count_at_most(range(count)) == 1 + ceil(log2(count - 1))


@given(st.lists(st.sampled_from(["good", "bad", "unclear", "cannot run"]), min_size=2, max_size=30))
def test_whatever_the_arms_are_the_edges_are_known_and_nothing_between_them_was_left_untried(truth: list[Kind]) -> None:
    known = ask_all(truth)
    good, bad = find_edges(known, len(truth))
    if bad is None:
        assert list(known) == [len(truth) - 1]
        return
    assert known[bad] == "bad"
    assert good == 0 or known[good] == "good"
    assert {known[arm] for arm in range(good + 1, bad)} <= {"unclear", "cannot run"}


def test_an_arm_that_says_nothing_is_replaced_by_its_neighbours() -> None:
    known = ask_all(["good", "good", "good", "cannot run", "cannot run", "bad", "bad", "bad"])
    assert find_edges(known, 8) == (2, 5)
    assert known[3] == known[4] == "cannot run"


def comparison_of(ratio: float, blocks: int = 7) -> Comparison:
    first, other = (session_of((1.0, ratio)[arm], arm, blocks) for arm in (0, 1))
    return compare_records([first], [other], 0.02)


def answer_of(ratio: float, direction: Direction = "slower") -> ArmAnswer:
    comparison = comparison_of(ratio)
    return answer(comparison, direction, [comparison.experiments[0].experiment_id])


@pytest.mark.parametrize(("ratio", "direction"), [(1.1, "slower"), (0.9, "faster"), (1.0, None)])
def test_what_is_followed_is_what_the_last_arm_is_against_the_first(ratio: float, direction: str | None) -> None:
    comparison = comparison_of(ratio)
    assert choose_followed(comparison) == (direction, (comparison.experiments[0].experiment_id,))


@pytest.mark.parametrize(
    ("ratio", "blocks", "problem", "kind"),
    [
        (1.1, 7, "", "bad"),
        (1.0, 7, "", "good"),
        (0.9, 7, "", "good"),
        (1.1, 3, "", "unclear"),
        (1.1, 3, "out of memory", "cannot run"),
        (1.1, 7, "another experiment failed", "bad"),
    ],
)
def test_an_arm_is_bad_where_it_changed_as_the_last_one_and_good_where_that_is_excluded(
    ratio: float, blocks: int, problem: str, kind: str
) -> None:
    comparison = comparison_of(ratio, blocks)
    known = answer(comparison, "slower", [comparison.experiments[0].experiment_id], problem)
    assert known.kind == kind
    assert bool(known.reason) == (kind in ("unclear", "cannot run"))


def test_an_experiment_that_is_not_followed_decides_nothing() -> None:
    assert answer(comparison_of(1.1), "slower", []).kind == "unclear"


def test_the_interval_of_a_bad_arm_does_not_meet_that_of_a_good_one() -> None:
    good, bad = answer_of(1.005), answer_of(1.05)
    assert (good.kind, bad.kind) == ("good", "bad")
    step = measure_step(good, bad)
    assert step is not None
    assert 1 < step.low < step.ratio < step.high
    assert step.ratio == pytest.approx(1.05 / 1.005, rel=1e-3)


def test_a_second_culprit_after_the_first_is_noticed() -> None:
    first, last = answer_of(1.05), answer_of(1.2)
    assert is_only_a_part(first, last)
    assert not is_only_a_part(last, last)
    assert is_only_a_part(answer_of(0.95, "faster"), answer_of(0.8, "faster"))


def test_the_step_is_of_the_experiment_that_decides() -> None:
    judgement = answer_of(1.05).judgement
    same = answer_of(1.0).judgement
    assert judgement is not None
    assert same is not None
    bad = ArmAnswer(kind="bad", judgements={"one": same, "two": judgement}, deciding="two")
    good = ArmAnswer(kind="good", judgements={"one": judgement, "two": same}, deciding="one")
    step = measure_step(good, bad)
    assert step is not None
    assert step.ratio == pytest.approx(1.05, rel=1e-3)
