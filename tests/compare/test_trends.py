import re
from collections.abc import Iterable, Sequence
from random import Random

import pytest

from sdbench.compare.selfcheck import SUITE_FALSE_ALARMS_MAX
from sdbench.compare.trends import find_trend
from sdbench.compare.wording import describe_there, explain
from sdbench.errors import UserError
from sdbench.schema.base import Known
from sdbench.schema.fingerprint import Package
from sdbench.schema.outcome import launches_of
from sdbench.schema.record import Record
from tests.compare.test_comparison import record_of, run_of
from tests.operator_tables import SECONDS, Rows, profile, slow_down
from tests.records import make_failed, make_result, make_succeeded

PACES = (1.0, 1.003, 0.997, 1.002)


def sessions_of(latency_s: float, driver: str, first_day: int, count: int = 3) -> list[Record]:
    days = range(first_day, first_day + count)
    return [run_of(latency_s * pace, day=day, driver=driver) for day, pace in zip(days, PACES, strict=False)]


def verdicts(records: Sequence[Record], margin: float = 0.02) -> list[tuple[str, str, str]]:
    (experiment,) = find_trend(records, "driver", margin).experiments
    return [(step.before, step.after, step.judgement.verdict) for step in experiment.steps]


def test_few_versions_are_compared_each_with_the_one_before() -> None:
    records = [*sessions_of(1.0, "9.1", 1), *sessions_of(1.1, "10.0", 4), *sessions_of(1.1, "10.2", 7)]
    assert verdicts(records) == [("9.1", "10.0", "slower"), ("10.0", "10.2", "same")]


def test_the_order_of_the_runs_does_not_matter() -> None:
    records = [*sessions_of(1.0, "9.1", 1), *sessions_of(1.1, "10.0", 4)]
    assert verdicts(records[::-1]) == verdicts(records)


def test_one_session_a_version_leaves_few_versions_open() -> None:
    records = [run_of(1.0, day=1, driver="1"), run_of(1.1, day=2, driver="2")]
    assert verdicts(records) == [("1", "2", "inconclusive")]


def test_ten_versions_show_their_own_variance_and_the_planted_changes() -> None:
    records = [
        run_of(level * PACES[number % 4], day=number + 1, driver=f"{500 + number}.1")
        for number, level in enumerate([1.0] * 5 + [1.08] * 4 + [0.95] * 4)
    ]
    assert verdicts(records) == [
        ("500.1 to 504.1", "505.1 to 508.1", "slower"),
        ("505.1 to 508.1", "509.1 to 512.1", "faster"),
    ]


def runs_of(latencies_s: Iterable[float]) -> list[Record]:
    return [run_of(float(value), day=day, driver=f"{500 + day}.1") for day, value in enumerate(latencies_s, start=1)]


def one_session_each(levels: Sequence[float]) -> list[Record]:
    return [
        run_of(level * PACES[number % 4], day=number + 1, driver=f"{500 + number}.1")
        for number, level in enumerate(levels)
    ]


@pytest.mark.parametrize("place", [0, 6, 12])
def test_one_odd_session_is_named_and_is_no_step(place: int) -> None:
    levels = [1.0] * 13
    levels[place] = 0.965
    (experiment,) = find_trend(one_session_each(levels), "driver", 0.02).experiments
    assert experiment.steps == ()
    (odd,) = experiment.odd_sessions
    assert re.match(rf"{500 + place}\.1: -[34]\.\d\d % from its neighbours$", odd)


def test_odd_session_does_not_hide_a_change_of_level() -> None:
    records = one_session_each([1.0] * 4 + [1.2] + [1.0] * 2 + [1.08] * 6)
    assert verdicts(records) == [("500.1 to 506.1", "507.1 to 512.1", "slower")]


def test_level_of_one_version_with_three_sessions_is_a_change() -> None:
    records = [*one_session_each([1.0] * 11), *sessions_of(1.03, "600.1", 20)]
    assert verdicts(records) == [("500.1 to 510.1", "600.1", "slower")]


def test_one_session_among_few_versions_leaves_its_steps_open() -> None:
    records = [*sessions_of(1.0, "1.1", 1), run_of(0.9, day=4, driver="2.1"), *sessions_of(1.0, "3.1", 5)]
    (experiment,) = find_trend(records, "driver", 0.02).experiments
    assert [step.judgement.verdict for step in experiment.steps] == ["inconclusive", "inconclusive"]
    assert all(
        explain(step.judgement).endswith("measure the version with one session again") for step in experiment.steps
    )


def test_level_series_has_no_step() -> None:
    records = [run_of(PACES[number % 4], day=number + 1, driver=str(500 + number)) for number in range(12)]
    assert verdicts(records) == []


def test_versions_without_dots_go_by_the_time_they_were_measured() -> None:
    records = [
        run_of(1.0, day=1, driver="f00"),
        run_of(1.0, day=2, driver="9" * 5000),
        run_of(1.0, day=3, driver="abc"),
    ]
    dated = [
        record.model_copy(update={"created_utc": f"2026-01-0{day}T00:00:00Z"})
        for record, day in zip(records, (2, 1, 3), strict=True)
    ]
    assert find_trend(dated, "driver", 0.02).versions == ("9" * 5000, "f00", "abc")
    assert verdicts([run_of(1.0, day=1, driver=f"1.{'9' * 5000}"), run_of(1.0, day=2, driver="1.5")])[0][0] == "1.5"


def test_versions_that_cannot_be_followed_are_named() -> None:
    bad = record_of(make_result(make_failed()), day=9, driver="7.1")
    (experiment,) = find_trend(
        [bad, *sessions_of(1.0, "9.1", 1), *sessions_of(1.1, "10.0", 4)], "driver", 0.02
    ).experiments
    assert experiment.left_out[0].startswith("7.1: baseline: failed")
    assert [point.version for point in experiment.points] == ["9.1", "10.0"]


def test_runs_of_one_boot_are_one_session_of_a_driver() -> None:
    first, second = (run_of(1.0, day=day, driver="9.1") for day in (1, 1))
    records = [first, second.model_copy(update={"run_id": "again"}), *sessions_of(1.1, "10.0", 4, 1)]
    (experiment,) = find_trend(records, "driver", 0.02).experiments
    assert [point.session_count for point in experiment.points] == [1, 1]
    assert experiment.steps[0].judgement.verdict == "inconclusive"


def test_odd_sessions_raise_no_alarm_and_true_steps_are_detected() -> None:
    import numpy as np

    random = np.random.default_rng(3)
    trials, alarms, detected = 8, 0, 0
    for _ in range(trials):
        noise = np.exp(random.normal(0, 0.002, 20))
        odd, step = np.ones(20), np.ones(20)
        odd[random.integers(20)], step[-3:] = 0.965, 1.03
        alarms += any(verdict in ("faster", "slower") for *_, verdict in verdicts(runs_of(noise * odd)))
        detected += [verdict for *_, verdict in verdicts(runs_of(noise * step))] == ["slower"]
    assert (alarms, detected) == (0, trials)


@pytest.mark.slow
def test_identical_versions_raise_few_false_alarms() -> None:
    import numpy as np

    random = np.random.default_rng(5)
    trials, alarms = 400, 0
    for _ in range(trials):
        paces = np.exp(random.normal(0, 0.01, 20))
        records = runs_of(paces)
        alarms += any(verdict in ("faster", "slower") for _, _, verdict in verdicts(records))
    assert alarms / trials <= SUITE_FALSE_ALARMS_MAX


def test_what_changed_with_the_driver_is_named() -> None:
    records = [run_of(1.0, day=1, driver="1"), run_of(1.0, day=2, driver="2")]
    assert find_trend(records, "nvidia_driver", 0.02).also == ()
    assert find_trend(records, "software.gpu_kernel_driver", 0.02).versions == ("1", "2")
    packages = Known(value=(Package(name="xformers", version=Known(value="1.0")),))
    software = records[1].fingerprint.software.model_copy(update={"packages": packages})
    fingerprint = records[1].fingerprint.model_copy(update={"software": software})
    records[1] = records[1].model_copy(update={"fingerprint": fingerprint})
    assert find_trend(records, "driver", 0.02).also[-1] == "software.packages.xformers"


def with_package(record: Record, version: str) -> Record:
    packages = Known(value=(Package(name="xformers", version=Known(value=version)),))
    software = record.fingerprint.software.model_copy(update={"packages": packages})
    fingerprint = record.fingerprint.model_copy(update={"software": software})
    return record.model_copy(update={"fingerprint": fingerprint})


def test_each_step_says_what_else_changed_there_and_not_elsewhere() -> None:
    versions = (("1", 1.0, "1.0"), ("2", 1.0, "1.0"), ("3", 1.1, "2.0"))
    records = [
        with_package(record, package)
        for number, (driver, latency_s, package) in enumerate(versions)
        for record in sessions_of(latency_s, driver, 3 * number + 1)
    ]
    (experiment,) = find_trend(records, "driver", 0.02).experiments
    first, second = experiment.steps
    assert first.changes == ()
    (change,) = second.changes
    assert (change.field, change.baseline, change.candidate) == ("software.packages.xformers", "1.0", "2.0")
    assert describe_there(second.changes, second.moved) == "software.packages.xformers 1.0 -> 2.0"


def with_table(record: Record, rows: Rows) -> Record:
    (result,) = record.results
    table = Known(value=profile(rows, Random(record.run_id)))
    launches = tuple(launch.model_copy(update={"operators": table}) for launch in launches_of(result.outcome))
    outcome = result.outcome.model_copy(update={"launches": launches})
    return record.model_copy(update={"results": (result.model_copy(update={"outcome": outcome}),)})


def test_step_that_is_shown_says_which_operators_it_is_of() -> None:
    slowed = slow_down(["aten::mkldnn_convolution"], 0.1)
    versions = (("1", 1.0, SECONDS), ("2", 1.0, SECONDS), ("3", 1.1, slowed))
    records = [
        with_table(record, rows)
        for number, (driver, latency_s, rows) in enumerate(versions)
        for record in sessions_of(latency_s, driver, 3 * number + 1)
    ]
    (experiment,) = find_trend(records, "driver", 0.02).experiments
    first, second = experiment.steps
    assert (first.moved, second.judgement.verdict) == ("", "slower")
    assert second.moved.endswith("% of it is convolution")


def test_what_some_runs_before_a_step_had_already_is_no_change_there() -> None:
    records = [*sessions_of(1.0, "1", 1), *sessions_of(1.1, "2", 4)]
    mixed = [with_package(record, version) for record, version in zip(records, "112222", strict=True)]
    (experiment,) = find_trend(mixed, "driver", 0.02).experiments
    assert experiment.steps[0].changes == ()


@pytest.mark.parametrize(
    ("records", "by", "message"),
    [
        ([run_of(1.0, driver="1")], "driver", "have only version 1; name runs of two or more versions"),
        ([run_of(1.0, driver="1")], "drivr", "did you mean driver"),
        (
            [run_of(1.0, day=1, driver="1"), run_of(1.0, day=2, driver="2")],
            "torch",
            "have only version .*; try --by software.gpu_kernel_driver",
        ),
        (
            [run_of(1.0), run_of(1.0, day=2), record_of(make_result(make_succeeded()), device="cpu")],
            "driver",
            r"of 2 machines or devices: .* on cuda:0 \(2 runs\), .* on cpu \(1 run\); choose one with --where dev",
        ),
    ],
)
def test_a_trend_needs_one_machine_and_two_versions(records: list[Record], by: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        find_trend(records, by, 0.02)
