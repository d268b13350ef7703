from typing import Any

import pytest

from sdbench.errors import RecordError
from sdbench.schema.migrations import CURRENT_VERSION, migrate_record


def stored(version: object, **fields: Any) -> dict[str, Any]:
    return {"schema": f"sdbench/record/v{version}", **fields}


def rename_speed(record: dict[str, Any]) -> dict[str, Any]:
    return {**stored(2), "latency_s": record["speed"]}


def add_device(record: dict[str, Any]) -> dict[str, Any]:
    return {**record, "schema": "sdbench/record/v3", "device": "unknown"}


def test_record_of_this_version_is_handed_through_untouched() -> None:
    record = stored(CURRENT_VERSION, run_id="a")
    assert migrate_record(record, "r.json") is record


def test_record_of_a_future_version_is_refused() -> None:
    with pytest.raises(RecordError, match=rf"r\.json: record version {CURRENT_VERSION + 6} is newer .*update sdbench"):
        migrate_record(stored(CURRENT_VERSION + 6), "r.json")


def test_old_record_takes_every_step_up_to_now() -> None:
    migrated = migrate_record(stored(1, speed=2.5), "r.json", {1: rename_speed, 2: add_device}, current=3)
    assert migrated == {"schema": "sdbench/record/v3", "latency_s": 2.5, "device": "unknown"}


def test_record_in_between_takes_only_the_steps_after_it() -> None:
    migrated = migrate_record(stored(2, latency_s=2.5), "r.json", {1: rename_speed, 2: add_device}, current=3)
    assert migrated["latency_s"] == 2.5


def test_old_record_that_no_step_starts_from_is_refused() -> None:
    with pytest.raises(RecordError, match="record version 1 is not supported"):
        migrate_record(stored(1), "r.json", {2: add_device}, current=3)


@pytest.mark.parametrize(
    "schema", [None, 1, "", "sdbench/record/v", "sdbench/record/v0", "sdbench/record/v1x", "sdbench/manifest/v1"]
)
def test_what_is_no_record_is_refused(schema: object) -> None:
    with pytest.raises(RecordError, match="not an sdbench record"):
        migrate_record({"schema": schema}, "r.json")
