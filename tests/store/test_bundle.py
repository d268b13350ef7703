import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sdbench.errors import EnvironmentProblem, RecordError
from sdbench.schema.migrations import CURRENT_VERSION
from sdbench.schema.record import compute_seal
from sdbench.store.bundle import encode_json, load_record, load_telemetry, seal_record, verify_files
from sdbench.store.files import write_whole
from sdbench.store.names import JOURNAL_NAME
from tests.records import make_record


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "manifest.yaml").write_text("title: x\n")
    (tmp_path / "journal.jsonl").write_text("")
    unsealed = make_record().to_json_dict()
    del unsealed["seal"], unsealed["files"]
    seal_record(tmp_path, unsealed)
    return tmp_path


def change(folder: Path, **fields: Any) -> None:
    path = folder / "record.json"
    stored = json.loads(path.read_text()) | fields
    path.write_text(json.dumps(stored))


def test_sealed_record_comes_back_equal(folder: Path) -> None:
    record = load_record(folder)
    assert [named.path for named in record.files] == ["journal.jsonl", "manifest.yaml"]
    verify_files(folder, record)


def test_changed_record_is_refused(folder: Path) -> None:
    change(folder, wall_s=1.0)
    with pytest.raises(RecordError, match="seal does not match"):
        load_record(folder)


def test_future_version_is_refused(folder: Path) -> None:
    change(folder, schema=f"sdbench/record/v{CURRENT_VERSION + 1}")
    with pytest.raises(RecordError, match="newer than this sdbench reads"):
        load_record(folder)


@pytest.mark.parametrize("content", ["", "{", "[]", "null", '{"schema": 3}', '{"wall_s": NaN}', "\x00\x01"])
def test_what_is_no_record_is_refused_in_one_line(tmp_path: Path, content: str) -> None:
    (tmp_path / "record.json").write_text(content)
    with pytest.raises(RecordError) as caught:
        load_record(tmp_path)
    assert "\n" not in str(caught.value)


def test_resealed_record_with_a_wrong_field_is_refused_by_name(folder: Path) -> None:
    stored = json.loads((folder / "record.json").read_text()) | {"wall_s": "long"}
    stored["seal"] = compute_seal(stored)
    (folder / "record.json").write_text(json.dumps(stored))
    with pytest.raises(RecordError, match="wall_s"):
        load_record(folder)


def test_changed_file_of_the_bundle_is_refused(folder: Path) -> None:
    (folder / "manifest.yaml").write_text("title: y\n")
    with pytest.raises(RecordError, match="changed after the record was sealed"):
        verify_files(folder, load_record(folder))


def test_missing_file_of_the_bundle_is_refused(folder: Path) -> None:
    (folder / "manifest.yaml").unlink()
    with pytest.raises(RecordError, match="missing"):
        verify_files(folder, load_record(folder))


def test_file_outside_the_bundle_is_refused(folder: Path) -> None:
    stored = json.loads((folder / "record.json").read_text())
    stored["files"][0]["path"] = "../../etc/passwd"
    stored["seal"] = compute_seal(stored)
    (folder / "record.json").write_text(json.dumps(stored))
    with pytest.raises(RecordError, match="outside its folder"):
        verify_files(folder, load_record(folder))


def test_unfinished_run_is_told_apart_from_no_run(tmp_path: Path) -> None:
    with pytest.raises(RecordError, match=r"no record\.json"):
        load_record(tmp_path)
    (tmp_path / JOURNAL_NAME).write_text("")
    with pytest.raises(RecordError, match="has not ended"):
        load_record(tmp_path)


def test_bundle_without_telemetry_has_none(tmp_path: Path) -> None:
    assert load_telemetry(tmp_path) == ()


def test_file_is_written_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file"
    write_whole(path, b"first")

    def fail(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("sdbench.store.files.os.fsync", fail)
    with pytest.raises(EnvironmentProblem, match="No space left on device"):
        write_whole(path, b"second")
    assert [(item.name, item.read_bytes()) for item in tmp_path.iterdir()] == [("file", b"first")]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


@given(st.dictionaries(st.text(), JSON, max_size=5))
def test_record_is_written_as_json_with_an_indent_of_one(content: dict[str, Any]) -> None:
    expected = json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    assert encode_json(content) == expected.encode()
