"""Every released version of the record stays readable; SDBENCH_UPDATE_GOLDEN=1 writes the current one again."""

import json
import os
from pathlib import Path

import pytest

from sdbench.schema.migrations import CURRENT_VERSION
from sdbench.store.bundle import load_record
from tests.records import make_record

GOLDEN = Path(__file__).parents[1] / "golden"
VERSIONS = range(1, CURRENT_VERSION + 1)


@pytest.mark.parametrize("version", VERSIONS)
def test_record_of_every_version_is_read_with_its_seal(version: int) -> None:
    path = GOLDEN / f"record-v{version}.json"
    if os.environ.get("SDBENCH_UPDATE_GOLDEN") and version == CURRENT_VERSION:
        path.write_text(json.dumps(make_record().to_json_dict(), indent=1) + "\n")
    record = load_record(path)
    assert record.schema_ == f"sdbench/record/v{CURRENT_VERSION}"
    assert {result.outcome.kind for result in record.results} == {
        "succeeded",
        "out_of_memory",
        "failed",
        "timed_out",
        "skipped",
    }
