from typing import Any

import pytest

from sdbench.compare.differences import compare_fingerprints
from sdbench.compare.machine_ceilings import compare_machines, describe_drift
from sdbench.schema.base import Known, Unknown
from sdbench.schema.ceilings import Ceilings
from sdbench.schema.record import Record
from tests.fingerprints import make_ceilings, make_fingerprint, make_hardware
from tests.records import make_record

NONE = Unknown(reason="a test says so")


def record_of(start: Ceilings | None, end: Ceilings | None = None, **changes: Any) -> Record:
    fingerprint = changes.pop("fingerprint", make_fingerprint())
    readings = [NONE if item is None else Known(value=item) for item in (start, end)]
    state = fingerprint.state.model_copy(update={"ceilings": readings[0]})
    return make_record(
        fingerprint=fingerprint.model_copy(update={"state": state}), ceilings_at_end=readings[1], **changes
    )


def words(baseline: Record, candidate: Record, result_ratio: float | None) -> str:
    return compare_machines([baseline], [candidate], result_ratio)


def test_machine_that_is_slower_at_everything_is_named_with_its_results() -> None:
    usual, slower = record_of(make_ceilings(), make_ceilings()), record_of(make_ceilings(pace=1.07))

    assert words(usual, slower, 1.07) == (
        "the machine became 7 % slower at everything: matrix products fp32 -7 %, matrix products bf16 -7 %, "
        "memory -7 %, launches -7 %; the results moved with it"
    )
    assert "became 7 % faster at everything" in words(slower, usual, 0.93)
    assert words(usual, slower, 1.01).endswith("; the results did not move with it")
    assert words(usual, slower, 0.9).endswith("; the results moved the other way")
    assert words(usual, slower, 1.9).endswith("; the results moved by more than that")


def test_ceilings_that_are_equal_are_said_to_be() -> None:
    assert words(record_of(make_ceilings()), record_of(make_ceilings(pace=1.008)), 1.3) == (
        "the machine's ceilings are equal within 1 %"
    )


def test_one_ceiling_that_moved_is_not_everything() -> None:
    slow_memory = make_ceilings(memory_bytes_per_s=Known(value=3e10))

    assert words(record_of(make_ceilings()), record_of(slow_memory), None) == (
        "the machine's ceilings moved: memory -25 %"
    )


def test_another_machine_has_not_become_slower() -> None:
    other = make_fingerprint(hardware=make_hardware(cpu_model=Known(value="Another CPU")))
    candidate = record_of(make_ceilings(pace=1.25), fingerprint=other)

    assert words(record_of(make_ceilings()), candidate, None).startswith("the machine is 20 % slower at everything")


def test_ceilings_of_another_number_of_threads_are_not_compared() -> None:
    text = words(record_of(make_ceilings()), record_of(make_ceilings(threads=1)), 2.0)

    assert text == "ceilings not compared: measured on cpu with 2 threads and on cpu with 1 threads"


@pytest.mark.parametrize("known", [make_ceilings(), None])
def test_nothing_is_said_where_ceilings_are_unknown(known: Ceilings | None) -> None:
    assert not words(record_of(known), record_of(None), 1.3)


def test_drift_is_what_moved_beyond_the_noise_of_repeating() -> None:
    start = Known(value=make_ceilings())

    assert not describe_drift(start, Known(value=make_ceilings(pace=1.04)))
    assert "memory -6 %" in describe_drift(start, Known(value=make_ceilings(pace=1.06)))
    assert not describe_drift(start, NONE)


def test_ceilings_are_no_difference_of_two_fingerprints() -> None:
    first, second = (record_of(make_ceilings(pace=pace)).fingerprint for pace in (1.0, 1.5))

    assert compare_fingerprints(first, second).differences == ()
