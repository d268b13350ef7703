from typing import Any

from sdbench.runner.schedule import (
    RERUNS_MAX,
    Progress,
    choose_next,
    reason_to_stop_launching,
    remaining_s,
)
from sdbench.schema.base import Known
from sdbench.schema.manifest import Protocol
from sdbench.schema.outcome import Launch, Skipped, Succeeded, counted_launches
from sdbench.schema.record import PlannedExperiment
from tests.records import make_launch, make_planned, make_series


def plan(**protocol: Any) -> PlannedExperiment:
    planned = make_planned()
    chosen = Protocol(**{"launches_min": 2, "launches_max": 4, "relative_half_width": 0.01, **protocol})
    return PlannedExperiment.model_validate({**dict(planned), "protocol": chosen})


def progress_with(*latencies_s: float, throttled: bool = False, **protocol: Any) -> Progress:
    launches = [change(make_launch(), index, latency_s, throttled) for index, latency_s in enumerate(latencies_s)]
    return Progress(plan(**protocol), estimated_launch_s=10.0, launches=launches)


def change(launch: Launch, index: int, latency_s: float, throttled: bool) -> Launch:
    fields = {
        "index": index,
        "series": make_series(0, latency_s),
        "throttled": Known[bool](value=throttled),
        "wall_s": 10.0,
    }
    return Launch.model_validate({**dict(launch), **fields})


def test_launches_that_agree_are_precise_enough() -> None:
    assert reason_to_stop_launching(progress_with(*[1.0] * 8, launches_max=9)) == "precise enough"


def test_launches_that_disagree_go_on_until_the_most_allowed() -> None:
    assert reason_to_stop_launching(progress_with(1.0, 2.0, 1.0)) is None
    assert reason_to_stop_launching(progress_with(1.0, 2.0, 1.0, 2.0)) == "most allowed"


def test_a_few_launches_that_agree_by_chance_are_not_taken_as_precise() -> None:
    assert reason_to_stop_launching(progress_with(*[1.0] * 7, launches_max=9)) is None


def test_one_launch_is_never_precise() -> None:
    assert reason_to_stop_launching(progress_with(1.0, launches_min=1)) is None


def test_throttled_launches_are_run_again_but_not_for_ever() -> None:
    assert reason_to_stop_launching(progress_with(*[1.0] * 4, throttled=True)) is None
    assert reason_to_stop_launching(progress_with(*[1.0] * (4 + RERUNS_MAX), throttled=True)) == "most allowed"


def test_throttled_launches_do_not_count_unless_all_were() -> None:
    steady, slowed = progress_with(1.0).launches, progress_with(2.0, throttled=True).launches
    assert counted_launches([*steady, *slowed]) == tuple(steady)
    assert counted_launches(slowed) == tuple(slowed)


def test_experiment_with_the_fewest_launches_comes_next() -> None:
    first, second = progress_with(1.0), progress_with()
    assert choose_next([first, second], 0.0, None) is second


def test_launch_that_would_not_fit_into_the_budget_is_not_started() -> None:
    first = progress_with(1.0)
    assert choose_next([first], 95.0, 100.0) is None
    assert isinstance(first.ended, Succeeded)
    assert first.ended.stop_reason == "budget"


def test_first_launch_is_tried_while_any_budget_is_left() -> None:
    first = progress_with()
    assert choose_next([first], 99.0, 100.0) is first
    assert choose_next([first], 100.0, 100.0) is None
    assert isinstance(first.ended, Skipped)


def test_time_left_is_never_more_than_the_budget_left() -> None:
    assert remaining_s([progress_with()], 0.0, None) == 40.0
    assert remaining_s([progress_with()], 90.0, 100.0) == 10.0
