"""Each reason not to trust a result warns where it is planted, and only there."""

from collections.abc import Sequence
from typing import Any

import pytest

from sdbench.compare.quality import check_quality, failed_checks
from sdbench.schema.base import Known, Unknown
from sdbench.schema.conditions import ThrottleShare
from sdbench.schema.outcome import Launch, QualityCheck, Series, Succeeded
from tests.records import make_conditions, make_failed, make_launch, make_reference_operation

NOISE = (0.99, 1.01, 0.985, 1.015, 0.995, 1.005, 1.0, 1.0)


def launch_of(index: int, calls: Sequence[float], **changes: Any) -> Launch:
    series = Series(name="latency", unit="s", samples=(9.0, *calls), warmup_count=1)
    return make_launch(index, device="cuda:0", series=(series,), **changes)


def succeeded(medians: Sequence[float] = NOISE, **changes: Any) -> Succeeded:
    wobble = (1.0, 1.001, 0.999, 1.0005, 0.9995)
    launches = (launch_of(i, [median * w for w in wobble], **changes) for i, median in enumerate(medians))
    return Succeeded(launches=tuple(launches), stop_reason="max_launches")


def check_of(outcome: Succeeded, name: str) -> QualityCheck:
    return next(check for check in check_quality(outcome) if check.name == name)


def test_quiet_launches_pass_every_check() -> None:
    checks = check_quality(succeeded())
    assert failed_checks(checks) == ()
    assert len({check.name for check in checks}) == len(checks) == 11
    assert all(check.evidence and check.threshold and check.source for check in checks)


def test_what_was_not_timed_is_not_checked() -> None:
    assert check_quality(make_failed()) == ()


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
def test_each_condition_warns_beyond_its_limit(reading: str, value: float, name: str) -> None:
    conditions = make_conditions("cuda:0", **{reading: Known(value=value)})
    assert [check.name for check in failed_checks(check_quality(succeeded(conditions=conditions)))] == [name]


def test_a_display_server_on_the_gpu_is_named_and_passes() -> None:
    conditions = make_conditions("cuda:0", resident_gpu_process_count=Known(value=5))
    check = check_of(succeeded(conditions=conditions), "foreign GPU processes")
    assert check.verdict == "passed"
    assert check.evidence == "at most 0 computed in a launch, 5 were on the GPU without computing"


def test_what_could_not_be_read_is_unknown_and_does_not_pass() -> None:
    conditions = make_conditions("cuda:0", clock_spread_ratio=Unknown(reason="no clock here"))
    check = check_of(succeeded(conditions=conditions), "clocks")
    assert check.verdict == "not checked"
    assert "no clock here" in check.evidence


def at_paces(paces: Sequence[float], **changes: Any) -> Succeeded:
    """Return launches around which the reference operation took ``paces`` times as long as usual."""
    launches = (
        launch.model_copy(update={"reference_operation": Known(value=make_reference_operation(pace=pace, **changes))})
        for launch, pace in zip(succeeded().launches, paces, strict=False)
    )
    return Succeeded(launches=tuple(launches), stop_reason="max_launches")


def test_launches_during_which_the_machine_itself_was_slower_or_faster_are_named() -> None:
    outcome = at_paces([1.0, 1.01, 1.2, 1.0, 0.99, 1.0, 1.18, 0.9])
    (check,) = failed_checks(check_quality(outcome))
    assert check.name == "machine speed"
    assert check.evidence == (
        "the machine itself was up to 20% slower during launches 3, 7; "
        "the machine itself was up to 10% faster during launch 8"
    )


def test_speed_of_the_machine_that_its_own_samples_explain_passes() -> None:
    noisy = {"before_s": (0.007, 0.011, 0.008, 0.012), "after_s": (0.007, 0.012, 0.009, 0.007)}
    steady = at_paces([1.0] * 7)
    launch = at_paces([1.0], **noisy).launches[0]
    outcome = Succeeded(launches=(*steady.launches, launch), stop_reason="max_launches")
    check = check_of(outcome, "machine speed")
    assert check.verdict == "passed"
    assert check.evidence == "the reference operation was at most 22.4% off its median over the launches"


def test_speed_of_the_machine_is_not_checked_without_the_operation_or_with_two_launches() -> None:
    without = check_of(succeeded(reference_operation=Unknown(reason="it did not run")), "machine speed")
    assert (without.verdict, without.evidence) == ("not checked", "it did not run")
    few = check_of(at_paces([1.0, 1.3]), "machine speed")
    assert (few.verdict, few.evidence) == ("not checked", "fewer than 3 launches")


def test_throttled_launches_that_were_replaced_are_named_and_pass() -> None:
    shares = Known(value=(ThrottleShare(reason="HW thermal", ratio=0.4),))
    slowed = launch_of(
        8, [1.2, 1.2, 1.2], throttled=Known(value=True), conditions=make_conditions(throttle_shares=shares)
    )
    outcome = succeeded()
    mixed = Succeeded(launches=(*outcome.launches, slowed), stop_reason="max_launches")
    check = check_of(mixed, "throttled")
    assert check.verdict == "passed"
    assert check.evidence.startswith("1 of 9 launches throttled (HW thermal in up to 40% of the time)")


def test_launches_that_were_all_throttled_warn() -> None:
    shares = Known(value=(ThrottleShare(reason="HW thermal", ratio=0.4),))
    outcome = succeeded(throttled=Known(value=True), conditions=make_conditions("cuda:0", throttle_shares=shares))
    assert check_of(outcome, "throttled").verdict == "warned"


def test_a_slow_first_timed_call_warns_of_too_short_a_warm_up() -> None:
    launches = tuple(launch_of(i, [1.1, 1.0, 1.0, 1.001]) for i in range(8))
    check = check_of(Succeeded(launches=launches, stop_reason="budget"), "warm-up")
    assert check.verdict == "warned"
    assert "1.100 times" in check.evidence


def test_a_first_timed_call_that_is_slow_by_chance_passes() -> None:
    firsts = (1.02, 0.97, 1.05, 0.98, 1.03, 0.96)
    launches = tuple(launch_of(i, [first, 1.0, 0.97, 1.03]) for i, first in enumerate(firsts))
    check = check_of(Succeeded(launches=launches, stop_reason="budget"), "warm-up")
    assert check.verdict == "passed"


def test_few_launches_warn() -> None:
    assert check_of(succeeded(NOISE[:5]), "launches").verdict == "warned"
    assert check_of(succeeded(NOISE[:6]), "launches").verdict == "passed"


def test_two_modes_warn_among_launches_and_among_calls() -> None:
    among_launches = succeeded((1.0, 1.05, 1.001, 1.051, 1.0, 1.05, 1.002, 1.049))
    check = check_of(among_launches, "modes")
    assert check.verdict == "warned"
    assert "launches: groups 4.9% apart" in check.evidence
    calls = tuple(launch_of(i, [1.0, 1.05, 1.0, 1.05, 1.001, 1.051]) for i in range(8))
    assert check_of(Succeeded(launches=calls, stop_reason="budget"), "modes").verdict == "warned"


def test_drift_warns_where_it_matters_and_only_there() -> None:
    rising = succeeded([1 + 0.01 * index + 0.001 * (index % 2) for index in range(8)])
    check = check_of(rising, "drift")
    assert check.verdict == "warned"
    assert check.evidence.startswith("+7")
    slight = succeeded([1 + 0.0005 * index for index in range(8)])
    assert check_of(slight, "drift").verdict == "passed"


def test_pixels_that_change_or_are_not_finite_warn() -> None:
    outcome = succeeded()
    image = outcome.launches[0].images[0]
    other = outcome.launches[0].model_copy(update={"images": (image.model_copy(update={"sha256": "f" * 64}),)})
    changed = Succeeded(launches=(other, *outcome.launches[1:]), stop_reason="budget")
    assert [check.name for check in failed_checks(check_quality(changed))] == ["output"]
    broken = succeeded(images=(image.model_copy(update={"finite": False}),))
    assert check_of(broken, "finite").verdict == "warned"
    black = check_of(succeeded(images=(image.model_copy(update={"constant": True}),)), "finite")
    assert black.verdict == "warned"
    assert black.evidence.endswith("images finite, 8 constant")
