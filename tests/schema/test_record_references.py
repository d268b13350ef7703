"""Names in a record that refer to something are checked when it is read: a claim cannot name an unknown option."""

from pathlib import Path
from typing import Any

import pytest

from sdbench.cli.main import main
from sdbench.errors import RecordError
from sdbench.store.bundle import encode_record, load_record
from tests.records import make_manifest, make_record

CLAIM: dict[str, Any] = {
    "id": "c", "text": "T", "metric": "latency_s", "numerator": {"options": {"batch": 1}}, "expected": {"low": 1},
    "source": "S",
}  # fmt: skip


def write_record(folder: Path, selector: dict[str, Any]) -> Path:
    record = make_record(manifest=make_manifest()).to_json_dict()
    record["manifest"]["claims"] = [CLAIM | {"numerator": selector}]
    folder.mkdir()
    (folder / "record.json").write_bytes(encode_record(record))
    return folder


def test_claim_about_a_known_option_is_read(tmp_path: Path) -> None:
    assert load_record(write_record(tmp_path / "run", {"options": {"batch": 1}})).manifest.claims


@pytest.mark.parametrize("selector", [{"options": {"no_such_option": 1}}, {"options": {"batch": "x"}}, {"options": 3}])
def test_claim_about_an_unknown_option_makes_the_record_invalid(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], selector: dict[str, Any]
) -> None:
    folder = write_record(tmp_path / "run", selector)
    with pytest.raises(RecordError):
        load_record(folder)
    for command in ("validate", "claims", "report"):
        assert main([command, str(folder)]) == 2
        error = capsys.readouterr().err
        assert error.count("\n") == 1
        assert "numerator" in error
