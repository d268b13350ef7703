from dataclasses import replace
from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sdbench.plan.budget import (
    PointCost,
    choose_round,
    describe_total,
    expected_launches,
    forecast,
    limit_timed_calls,
    warn_of_budget,
)
from sdbench.plan.make_plan import PlanRequest, make_plan
from sdbench.probes.devices import Device, choose_device

SMALL = PointCost(launches=0, launches_min=8, launches_max=20, fixed_s=1.0, timed_s=1.0, timed_least_s=0.3)
LARGE = PointCost(launches=0, launches_min=2, launches_max=3, fixed_s=60.0, timed_s=40.0, timed_least_s=40.0)
POINTS = st.lists(
    st.builds(
        lambda launches, least, more, costs: PointCost(launches, least, least + more, *costs),
        st.integers(0, 5),
        st.integers(1, 5),
        st.integers(0, 5),
        st.tuples(st.floats(0.1, 100), st.floats(0, 100)).map(lambda pair: (pair[0], pair[1], pair[1] / 2)),
    ),
    min_size=1,
    max_size=6,
)


def test_all_have_their_first_launch_before_any_has_its_second() -> None:
    assert choose_round([LARGE, SMALL, replace(SMALL, launches=1)], 300) == (0, 1)


def test_large_point_waits_for_the_small_ones_where_the_budget_is_short() -> None:
    started = [replace(LARGE, launches=1), *[replace(SMALL, launches=1)] * 5]
    assert choose_round(started, 300) == (0, 1, 2, 3, 4, 5)
    assert choose_round(started, 170) == (0, 1, 2, 3, 4, 5)
    assert choose_round(started, 165) == (1, 2, 3, 4, 5)


def test_points_of_equal_cost_share_a_short_budget_equally() -> None:
    assert forecast([SMALL] * 4, 65.0, 0.0) == (8, 8, 8, 8)
    counts = forecast([SMALL] * 4, 29.0, 0.0)
    assert max(counts) - min(counts) <= 1
    assert 5 <= min(counts) < 8


def test_short_budget_costs_timed_calls_before_it_costs_launches() -> None:
    assert forecast([SMALL], 11.0, 0.0) == (8,)
    assert 8 * SMALL.launch_s > 11.0


def test_beyond_the_minimum_a_large_point_does_not_take_the_time_of_the_small_ones() -> None:
    points = [replace(LARGE, launches=2), *[replace(SMALL, launches=8)] * 5]
    assert choose_round(points, 110) == (1, 2, 3, 4, 5)
    assert choose_round([replace(LARGE, launches=2)], 110) == (0,)


def test_nothing_is_chosen_where_nothing_fits() -> None:
    assert choose_round([LARGE, SMALL], 1.0) == ()


def test_timed_calls_get_what_the_others_do_not_need() -> None:
    assert limit_timed_calls([LARGE, *[SMALL] * 5], 0, 300) == (300 - 5 * 8 * 2) / 2 - 60
    assert limit_timed_calls([SMALL, SMALL], 0, inf) == inf


def test_forecast_counts_what_rounds_cost_in_addition() -> None:
    assert forecast([LARGE, SMALL, SMALL], None, 5.0) == (3, 20, 20)
    assert forecast([LARGE, SMALL, SMALL], 275.0, 5.0) == (2, 8, 8)


@given(POINTS, st.floats(1, 1000), st.floats(0, 10))
def test_forecast_ends_and_never_spends_more_than_the_budget(
    points: list[PointCost], budget_s: float, round_s: float
) -> None:
    counts = forecast(points, budget_s, round_s)
    spent_s = sum((count - point.launches) * point.shortest_s for count, point in zip(counts, points, strict=True))
    assert spent_s <= budget_s * (1 + 1e-9)
    assert all(
        point.launches <= count <= max(point.launches, point.launches_max)
        for count, point in zip(counts, points, strict=True)
    )


@pytest.mark.parametrize("left_s", [0.5, 10.0, 1000.0, inf])
def test_round_is_never_empty_while_the_shortest_launch_fits(left_s: float) -> None:
    assert bool(choose_round([LARGE, SMALL], left_s)) == (left_s > SMALL.shortest_s)


def test_first_look_at_a_cpu_fits_into_its_budget_with_enough_launches() -> None:
    # Estimated for two cores: with more of them a full-size launch is shorter.
    plan = make_plan(PlanRequest("quick", device="cpu", settings=("threads=2",)))
    counts = expected_launches(plan)
    small = [item.experiment_id for item in plan.planned if item.groups == ("small",)]
    large = [item.experiment_id for item in plan.planned if item.groups == ("cpu",)]
    assert plan.budget_s is not None
    assert plan.budget_s < 300
    assert all(counts[name] >= 8 for name in small)
    assert all(counts[name] >= 2 for name in large)
    assert warn_of_budget(plan) is None


def test_budget_that_is_too_short_is_warned_of_with_one_that_is_enough() -> None:
    warning = warn_of_budget(make_plan(PlanRequest("quick", device="cpu", settings=("threads=2",), budget_s=60)))
    assert warning is not None
    assert "short for 5 of 5 experiments" in warning
    assert "--budget 5m is enough" in warning
    assert warn_of_budget(make_plan(PlanRequest("quick", device="cpu", settings=("threads=2",), budget_s=300))) is None


@pytest.mark.parametrize(
    ("settings", "requested"),
    [(("backend=virtual",), "cpu"), (("device=cpu",), "cpu"), ((), "auto")],
)
def test_what_needs_no_gpu_is_planned_on_the_cpu_in_whatever_state_a_gpu_is(
    monkeypatch: pytest.MonkeyPatch, settings: tuple[str, ...], requested: str
) -> None:
    requests: list[str] = []

    def choose(request: str) -> Device:
        requests.append(request)
        return choose_device("cpu")

    monkeypatch.setattr("sdbench.plan.make_plan.choose_device", choose)
    make_plan(PlanRequest("smoke", settings=settings))
    make_plan(PlanRequest("smoke", device="cuda", settings=settings))

    assert requests == [requested, "cuda"]


@pytest.mark.parametrize(("launch_s", "words"), [(10.0, ""), (2000.0, "; --budget 1h would limit it")])
def test_only_a_long_run_is_offered_a_budget(launch_s: float, words: str) -> None:
    plan = make_plan(PlanRequest("smoke", device="cpu"))
    costs = {
        name: cost.model_copy(update={"fixed_s": launch_s, "launch_s": launch_s})
        for name, cost in plan.estimates.items()
    }
    assert describe_total(replace(plan, estimates=costs)).partition(";")[1:] == (words[:1], words[1:])
