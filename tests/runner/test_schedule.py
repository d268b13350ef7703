from typing import Any

from sdbench.plan.estimate import ROUND_START_S, CostEstimate
from sdbench.runner.schedule import (
    RERUNS_MAX,
    Progress,
    expected_launch_s,
    limit_to_share,
    next_round,
    reason_to_stop_launching,
    remaining_s,
    round_start_s,
)
from sdbench.schema.base import Known
from sdbench.schema.manifest import Protocol
from sdbench.schema.metrics import counted_launches
from sdbench.schema.outcome import Failed, Launch, Skipped, Succeeded
from sdbench.schema.record import PlannedExperiment
from tests.records import make_launch, make_planned, make_series


def plan(**protocol: Any) -> PlannedExperiment:
    planned = make_planned()
    chosen = Protocol(**{"launches_min": 2, "launches_max": 4, "isolation": "spawn", **protocol})
    return PlannedExperiment.model_validate({**dict(planned), "protocol": chosen})


def progress_with(*latencies_s: float, throttled: bool = False, **protocol: Any) -> Progress:
    launches = [change(make_launch(), index, latency_s, throttled) for index, latency_s in enumerate(latencies_s)]
    return Progress(plan(**protocol), cost(10.0), launches=launches)


def cost(launch_s: float) -> CostEstimate:
    return CostEstimate(call_s=0.0, fixed_s=launch_s, launch_s=launch_s, memory_bytes=0, fits=True)


def make_failure() -> Failed:
    return Failed(stage="load", error_type="ValueError", message="bad", stderr_tail="", partial=())


def change(launch: Launch, index: int, latency_s: float, throttled: bool) -> Launch:
    fields = {
        "index": index,
        "series": make_series(0, latency_s),
        "throttled": Known(value=throttled),
        "wall_s": 10.0,
        "isolation": "spawn",
        "template_id": None,
    }
    return Launch.model_validate({**dict(launch), **fields})


def test_launches_that_agree_converge() -> None:
    assert reason_to_stop_launching(progress_with(*[1.0] * 8, launches_max=9)) == "converged"


def test_launches_that_disagree_continue_until_launches_max() -> None:
    assert reason_to_stop_launching(progress_with(1.0, 2.0, 1.0)) is None
    assert reason_to_stop_launching(progress_with(1.0, 2.0, 1.0, 2.0)) == "max_launches"


def test_a_few_launches_that_agree_by_chance_are_not_taken_as_precise() -> None:
    assert reason_to_stop_launching(progress_with(*[1.0] * 7, launches_max=9)) is None


def test_one_launch_is_never_precise() -> None:
    assert reason_to_stop_launching(progress_with(1.0, launches_min=1)) is None


def test_throttled_launches_are_run_again_but_not_for_ever() -> None:
    assert reason_to_stop_launching(progress_with(*[1.0] * 4, throttled=True)) is None
    assert reason_to_stop_launching(progress_with(*[1.0] * (4 + RERUNS_MAX), throttled=True)) == "max_launches"


def test_throttled_launches_do_not_count_unless_all_were() -> None:
    steady, slowed = progress_with(1.0).launches, progress_with(2.0, throttled=True).launches
    assert counted_launches([*steady, *slowed]) == tuple(steady)
    assert counted_launches(slowed) == tuple(slowed)


def test_experiment_with_the_fewest_launches_comes_next() -> None:
    first, second = progress_with(1.0), progress_with()
    assert next_round([first, second], 0.0, None) == (second,)


def test_round_launches_every_open_experiment_once_in_manifest_order() -> None:
    experiments = [progress_with() for _ in range(3)]
    assert next_round(experiments, 0.0, None) == tuple(experiments)
    experiments[1].fail(make_failure())
    assert next_round(experiments, 0.0, None) == (experiments[0], experiments[2])


def test_interrupted_round_is_finished_before_the_next() -> None:
    done, missing = progress_with(1.0, 2.0, launches_min=4), progress_with(1.0, launches_min=4)
    assert next_round([done, missing], 0.0, None) == (missing,)


def test_experiment_that_has_its_minimum_waits_for_those_below_theirs() -> None:
    few, many = progress_with(1.0, 2.0, launches_max=9), progress_with(1.0, 2.0, launches_min=4)
    assert next_round([few, many], 0.0, None) == (many,)


def test_after_the_minimum_a_round_holds_only_what_is_not_resolved() -> None:
    resolved, noisy = progress_with(*[1.0] * 8, launches_max=20), progress_with(*[1.0, 2.0] * 4, launches_max=20)
    assert next_round([resolved, noisy], 0.0, None) == (noisy,)
    assert isinstance(resolved.ended, Succeeded)
    assert resolved.ended.stop_reason == "converged"


def test_run_of_some_rounds_pauses_when_each_experiment_has_had_them() -> None:
    first, second = progress_with(1.0), progress_with()
    first.restored_count = 1
    assert next_round([first, second], 0.0, None, rounds=1) == (second,)
    second.launches = progress_with(1.0).launches
    assert next_round([first, second], 0.0, None, rounds=1) == (first,)
    first.launches = progress_with(1.0, 2.0).launches
    assert next_round([first, second], 0.0, None, rounds=1) == ()
    assert first.ended is None


def test_launch_that_would_not_fit_into_the_budget_is_not_started() -> None:
    first = progress_with(1.0)
    assert next_round([first], 95.0, 100.0) == ()
    assert isinstance(first.ended, Succeeded)
    assert first.ended.stop_reason == "budget"


def test_first_launch_that_cannot_fit_any_more_is_skipped_with_the_reason() -> None:
    done, second = progress_with(1.0), progress_with()
    assert next_round([done, second], 97.8, 100.0) == ()
    assert second.ended == Skipped(
        reason="needs about 10.0 s, and 2.20 s were left of the budget of 100 s",
        hint="raise --budget, or run only this experiment with --only",
    )


def test_first_launch_is_expected_to_miss_its_estimate_as_the_others_did() -> None:
    slow, second = progress_with(1.0), progress_with()
    slow.estimate = cost(5.0)
    assert next_round([slow, second], 75.0, 100.0) == (second,)
    assert next_round([slow, second], 81.0, 100.0) == (slow,)
    assert isinstance(second.ended, Skipped)


def test_run_makes_its_very_first_launch_whatever_the_budget() -> None:
    longer, shorter = progress_with(), progress_with()
    longer.estimate = cost(20.0)
    assert next_round([longer, shorter], 0.0, 15.0) == (shorter,)
    assert next_round([longer, shorter], 0.0, 1.0) == (shorter,)
    assert longer.ended is None


def test_budget_is_overrun_by_at_most_the_one_launch_that_gives_a_result() -> None:
    experiments, now_s = [progress_with() for _ in range(3)], 0.0
    while chosen := next_round(experiments, now_s, 60.0):
        for index, progress in enumerate(chosen):
            if limit_to_share(progress, experiments, now_s, 60.0) or index == 0:
                progress.launches.append(change(make_launch(), progress.next_index, 1.0, throttled=False))
                now_s += 58.0
    assert now_s == 58.0
    assert [type(item.ended) for item in experiments] == [Succeeded, Skipped, Skipped]


def test_launch_gets_at_most_its_share_of_what_the_others_do_not_need() -> None:
    # 20 calls of 15 s were estimated: 325 s, more than the whole budget.
    large = progress_with(calls_max=20)
    large.estimate = CostEstimate(call_s=15.0, fixed_s=25.0, launch_s=325.0, memory_bytes=0, fits=True)
    small = [progress_with() for _ in range(5)]
    assert next_round([large, *small], 0.0, 300.0) == (large, *small)
    assert limit_to_share(large, [large, *small], 0.0, 300.0)
    # 5 x 2 launches of 10 s are the others', the rest is for its two launches.
    assert large.calls_limit_s == (300 - 100) / 2 - 25
    assert large.next_protocol.launch_budget_s == 75.0
    assert large.planned.protocol.launch_budget_s == 600.0


def test_launch_without_a_budget_has_the_protocols_time() -> None:
    progress = progress_with()
    assert limit_to_share(progress, [progress], 1e6, None)
    assert progress.next_protocol == progress.planned.protocol


def test_share_larger_than_the_protocols_time_changes_nothing() -> None:
    progress = progress_with(launch_budget_s=5.0)
    assert limit_to_share(progress, [progress], 0.0, 100.0)
    assert progress.calls_limit_s is None


def test_time_left_is_never_more_than_the_budget_left() -> None:
    assert remaining_s([progress_with()], 0.0, None) == 40.0
    assert remaining_s([progress_with()], 90.0, 100.0) == 10.0


def test_time_left_counts_how_far_off_the_estimates_were() -> None:
    measured, unmeasured = progress_with(1.0), progress_with()
    measured.estimate = cost(5.0)
    assert remaining_s([measured, unmeasured], 0.0, None) == 3 * 10.0 + 4 * 20.0


def test_a_round_launches_the_experiments_of_one_backend_together() -> None:
    items = [progress_with() for _ in range(4)]
    for item, backend in zip(items, ("pytorch", "onnxruntime", "pytorch", "onnxruntime"), strict=True):
        experiment = item.planned.experiment.model_copy(update={"backend": backend})
        item.planned = item.planned.model_copy(update={"experiment": experiment})
    assert next_round(items, 0.0, None) == (items[0], items[2], items[1], items[3])


def forked(index: int, template: str, wall_s: float) -> Launch:
    return make_launch(
        index, template_id=template, wall_s=wall_s, import_s=5.0, started_utc=f"2026-01-15T10:00:{index:02}Z"
    )


def test_start_of_a_template_is_of_the_round_and_not_of_the_launch_that_came_first() -> None:
    first = Progress(plan(isolation="fork"), cost(2.0), [forked(0, "a", 2.0), forked(2, "b", 2.5)])
    second = Progress(plan(isolation="fork"), cost(2.0), [forked(1, "a", 2.0), forked(3, "b", 2.5)])
    assert [expected_launch_s(item, [first, second]) for item in (first, second)] == [2.25, 2.25]
    assert round_start_s([first, second]) == 5.0
    assert remaining_s([first, second], 0.0, None) == 4 * 2.25 + 2 * 5.0


def test_round_is_not_started_for_a_launch_that_fits_only_without_its_template() -> None:
    progress = Progress(plan(isolation="fork"), cost(2.0), [forked(0, "a", 2.0)])
    assert next_round([progress], 92.0, 100.0) == (progress,)
    assert next_round([progress], 94.0, 100.0) == ()


def test_template_is_expected_before_the_first_round_where_launches_are_forked() -> None:
    assert round_start_s([Progress(plan(isolation="fork"), cost(2.0))]) == ROUND_START_S
    assert round_start_s([Progress(plan(isolation="spawn"), cost(2.0))]) == 0.0
    assert round_start_s([progress_with(1.0)]) == 0.0
