"""Each reason to doubt a result, planted and found; and none found where there is none."""

from collections.abc import Sequence
from typing import Any

import pytest

from sdbench.compare.trust import check_trust, doubts
from sdbench.schema.base import Known, Unknown
from sdbench.schema.outcome import Launch, Series, Succeeded, ThrottleShare, TrustCheck
from tests.records import make_conditions, make_failed, make_launch

NOISE = (0.99, 1.01, 0.985, 1.015, 0.995, 1.005, 1.0, 1.0)


def launch_of(index: int, calls: Sequence[float], **changes: Any) -> Launch:
    series = Series(name="latency", unit="s", samples=(9.0, *calls), warmup_count=1)
    return make_launch(index, device="cuda:0", series=(series,), **changes)


def succeeded(medians: Sequence[float] = NOISE, **changes: Any) -> Succeeded:
    wobble = (1.0, 1.001, 0.999, 1.0005, 0.9995)
    launches = (launch_of(i, [median * w for w in wobble], **changes) for i, median in enumerate(medians))
    return Succeeded(launches=tuple(launches), stop_reason="most allowed")


def check_of(outcome: Succeeded, name: str) -> TrustCheck:
    return next(check for check in check_trust(outcome) if check.name == name)


def test_quiet_launches_raise_no_doubt() -> None:
    found = check_trust(succeeded())
    assert doubts(found) == ()
    assert len({check.name for check in found}) == len(found) == 10
    assert all(check.evidence and check.threshold and check.source for check in found)


def test_what_was_not_timed_is_not_checked() -> None:
    assert check_trust(make_failed()) == ()


@pytest.mark.parametrize(
    ("reading", "value", "name"),
    [
        ("clock_spread_ratio", 0.2, "clocks"),
        ("others_cpu_ratio", 0.2, "other load"),
        ("steal_ratio", 0.05, "other load"),
        ("memory_pressure_ratio", 0.05, "other load"),
        ("foreign_gpu_process_count", 1, "foreign GPU processes"),
    ],
)
def test_each_condition_is_doubted_beyond_its_limit(reading: str, value: float, name: str) -> None:
    conditions = make_conditions("cuda:0", **{reading: Known(value=value)})
    assert [check.name for check in doubts(check_trust(succeeded(conditions=conditions)))] == [name]


def test_what_could_not_be_read_is_unknown_and_not_good() -> None:
    conditions = make_conditions("cuda:0", clock_spread_ratio=Unknown(reason="no clock here"))
    check = check_of(succeeded(conditions=conditions), "clocks")
    assert check.verdict == "unknown"
    assert "no clock here" in check.evidence


def test_throttled_launches_that_were_replaced_are_named_and_good() -> None:
    shares = Known(value=(ThrottleShare(reason="HW thermal", ratio=0.4),))
    slowed = launch_of(
        8, [1.2, 1.2, 1.2], throttled=Known(value=True), conditions=make_conditions(throttle_shares=shares)
    )
    outcome = succeeded()
    mixed = Succeeded(launches=(*outcome.launches, slowed), stop_reason="most allowed")
    check = check_of(mixed, "throttled")
    assert check.verdict == "good"
    assert check.evidence.startswith("1 of 9 launches throttled (HW thermal in up to 40% of the samples)")


def test_launches_that_were_all_throttled_are_doubted() -> None:
    shares = Known(value=(ThrottleShare(reason="HW thermal", ratio=0.4),))
    outcome = succeeded(throttled=Known(value=True), conditions=make_conditions("cuda:0", throttle_shares=shares))
    assert check_of(outcome, "throttled").verdict == "doubtful"


def test_a_first_timed_call_that_is_slow_says_that_warming_up_was_too_short() -> None:
    launches = tuple(launch_of(i, [1.1, 1.0, 1.0, 1.001]) for i in range(8))
    check = check_of(Succeeded(launches=launches, stop_reason="budget"), "warm-up")
    assert check.verdict == "doubtful"
    assert "1.100 times" in check.evidence


def test_a_first_timed_call_that_is_slow_by_chance_is_no_doubt() -> None:
    firsts = (1.02, 0.97, 1.05, 0.98, 1.03, 0.96)
    launches = tuple(launch_of(i, [first, 1.0, 0.97, 1.03]) for i, first in enumerate(firsts))
    check = check_of(Succeeded(launches=launches, stop_reason="budget"), "warm-up")
    assert check.verdict == "good"


def test_few_launches_are_doubted() -> None:
    assert check_of(succeeded(NOISE[:5]), "launches").verdict == "doubtful"
    assert check_of(succeeded(NOISE[:6]), "launches").verdict == "good"


def test_two_modes_are_seen_among_launches_and_among_calls() -> None:
    among_launches = succeeded((1.0, 1.05, 1.001, 1.051, 1.0, 1.05, 1.002, 1.049))
    check = check_of(among_launches, "modes")
    assert check.verdict == "doubtful"
    assert "launches: groups 4.9% apart" in check.evidence
    calls = tuple(launch_of(i, [1.0, 1.05, 1.0, 1.05, 1.001, 1.051]) for i in range(8))
    assert check_of(Succeeded(launches=calls, stop_reason="budget"), "modes").verdict == "doubtful"


def test_drift_is_seen_where_it_matters_and_only_there() -> None:
    rising = succeeded([1 + 0.01 * index + 0.001 * (index % 2) for index in range(8)])
    check = check_of(rising, "drift")
    assert check.verdict == "doubtful"
    assert check.evidence.startswith("+7")
    slight = succeeded([1 + 0.0005 * index for index in range(8)])
    assert check_of(slight, "drift").verdict == "good"


def test_pixels_that_change_or_are_not_finite_are_doubted() -> None:
    outcome = succeeded()
    image = outcome.launches[0].images[0]
    other = outcome.launches[0].model_copy(update={"images": (image.model_copy(update={"sha256": "f" * 64}),)})
    changed = Succeeded(launches=(other, *outcome.launches[1:]), stop_reason="budget")
    assert [check.name for check in doubts(check_trust(changed))] == ["output"]
    broken = succeeded(images=(image.model_copy(update={"finite": False}),))
    assert check_of(broken, "finite").verdict == "doubtful"
