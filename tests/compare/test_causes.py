"""Warnings by cause: each once, with its range, how many experiments it concerns, and what to do."""

from typing import Any, get_args

import pytest

from sdbench.compare import causes
from sdbench.compare.causes import find_causes, merge_numbers
from sdbench.schema.base import Known, Unknown
from sdbench.schema.outcome import Check, QualityCheckName, RecordWarning, Succeeded, warn
from sdbench.schema.record import Record
from sdbench.schema.warning_codes import WarningCode
from tests.records import make_conditions, make_launch, make_record, make_result, make_succeeded

ENOUGH = 6


def busy_run(*others_ratios: float, launch_count: int = ENOUGH, **launch: Any) -> Record:
    results = (
        make_result(
            make_succeeded(
                0.2, launch_count, conditions=make_conditions(others_cpu_ratio=Known(value=ratio)), **launch
            ),
            batch=batch,
        )
        for batch, ratio in enumerate(others_ratios, start=1)
    )
    return make_record(results=tuple(results), warnings=())


def test_quiet_run_has_no_cause() -> None:
    assert find_causes([busy_run(0.01, 0.02)]) == ()


def test_many_busy_experiments_are_one_cause_with_its_range() -> None:
    (cause,) = find_causes([busy_run(0.18, 0.3, 0.51, 0.02)])
    assert cause.what == "other programs used 18 to 51 % of the CPU (limit 5 %)"
    assert cause.where == "3 of 4 experiments"
    assert "close them" in cause.hint


def test_results_of_several_runs_are_counted_as_such() -> None:
    (cause,) = find_causes([busy_run(0.18), busy_run(0.3)])
    assert cause.where == "both results"


@pytest.mark.parametrize(("ratios", "weight"), [((0.3, 0.4, 0.01), "no"), ((0.3, 0.1, 0.01), "care")])
def test_machine_that_was_busy_in_most_experiments_cannot_be_trusted(ratios: tuple[float, ...], weight: str) -> None:
    assert [cause.weight for cause in find_causes([busy_run(*ratios)])] == [weight]


def test_what_could_not_be_read_is_no_cause() -> None:
    conditions = make_conditions(others_cpu_ratio=Unknown(reason="no /proc/stat"))
    record = make_record(results=(make_result(make_succeeded(0.2, ENOUGH, conditions=conditions)),), warnings=())
    assert find_causes([record]) == ()


@pytest.mark.parametrize(
    ("launch_count", "what"), [(2, "2 launches, 3 needed for an interval"), (4, "4 launches, 6 needed to compare runs")]
)
def test_few_launches_are_a_cause_for_care(launch_count: int, what: str) -> None:
    (cause,) = find_causes([busy_run(0.01, launch_count=launch_count)])
    assert (cause.weight, cause.what, cause.where) == ("care", what, "")


def test_other_than_requested_comes_before_all_else() -> None:
    check = Check(name="dtype of the modules", expected="float16", observed="float32", passed=False)
    causes = find_causes([busy_run(0.5, 0.5, launch_count=2, checks=(check,))])
    assert [cause.weight for cause in causes] == ["no", "no", "care"]
    assert causes[0].what == "what ran is not what was requested"
    assert causes[0].where == "both experiments"


def test_warning_that_a_check_repeats_with_its_numbers_is_not_said_twice() -> None:
    warnings = (
        RecordWarning(code=WarningCode.OTHER_LOAD, message="0.9 of 2 CPUs", hint="stop them"),
        RecordWarning(code=WarningCode.GPU_POWER_LIMIT, message="at the limit", hint="compare with care"),
    )
    launches = tuple(make_launch(index, warnings=warnings) for index in range(ENOUGH))
    results = (make_result(Succeeded(launches=launches, stop_reason="converged")),)
    (cause,) = find_causes([make_record(results=results, warnings=())])
    assert (cause.weight, cause.what) == ("note", "at the limit")


@pytest.mark.parametrize("code", [WarningCode.ALLOCATOR_RETRIES, WarningCode.HOST_PAGING])
def test_number_of_a_gpu_short_of_memory_is_to_be_taken_with_care(code: WarningCode) -> None:
    launches = tuple(make_launch(index, warnings=(warn(code, "short"),)) for index in range(ENOUGH))
    results = (make_result(Succeeded(launches=launches, stop_reason="converged")),)
    (cause,) = find_causes([make_record(results=results, warnings=())])
    assert (cause.weight, cause.hint) == ("care", code.hint)


def test_messages_that_differ_in_numbers_become_one_with_ranges() -> None:
    assert merge_numbers(["0.45 of 2 CPUs", "1.02 of 2 CPUs"]) == "0.45 to 1.02 of 2 CPUs"
    assert merge_numbers(["9 files", "10 files"]) == "9 to 10 files"
    assert merge_numbers(["a disk of 2", "another disk of 3"]) == "a disk of 2"


def test_every_quality_check_that_warns_is_a_cause() -> None:
    said_with_their_numbers = {"other load", "launches"}
    assert set(causes._CHECKS) | said_with_their_numbers == set(get_args(QualityCheckName))


def test_one_busy_launch_of_many_calls_for_care() -> None:
    loads = [make_conditions(others_cpu_ratio=Known(value=value)) for value in (0.0, 0.0, 0.0, 0.0, 0.0, 0.9)]
    outcome = Succeeded(
        launches=tuple(make_launch(index, conditions=load) for index, load in enumerate(loads)), stop_reason="converged"
    )
    (cause,) = find_causes([make_record(results=(make_result(outcome),), warnings=())])
    assert (cause.weight, cause.what) == ("care", "other programs used 90 % of the CPU (limit 5 %)")


def test_load_just_above_the_limit_is_not_rounded_to_it() -> None:
    (cause,) = find_causes([busy_run(0.053)])
    assert cause.what == "other programs used 6 % of the CPU (limit 5 %)"
