import hashlib
import json
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sdbench.errors import EnvironmentProblem, RecordError
from sdbench.schema.migrations import CURRENT_VERSION
from sdbench.store.bundle import encode_record, load_record, seal_record, verify_files
from sdbench.store.files import write_whole
from sdbench.store.layout import JOURNAL_NAME
from sdbench.store.run import Run
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
    change(folder, schema=f"sdbench/record/v{CURRENT_VERSION + 6}")
    with pytest.raises(RecordError, match="newer than the supported"):
        load_record(folder)


@pytest.mark.parametrize("content", ["", "{", "[]", "null", '{"schema": 3}', '{"wall_s": NaN}', "\x00\x01"])
def test_what_is_no_record_is_refused_in_one_line(tmp_path: Path, content: str) -> None:
    (tmp_path / "record.json").write_text(content)
    with pytest.raises(RecordError) as caught:
        load_record(tmp_path)
    assert "\n" not in str(caught.value)


def test_resealed_record_with_a_wrong_field_is_refused_by_name(folder: Path) -> None:
    stored = json.loads((folder / "record.json").read_text()) | {"wall_s": "long"}
    (folder / "record.json").write_bytes(encode_record(stored))
    with pytest.raises(RecordError, match="wall_s"):
        load_record(folder)


@pytest.mark.parametrize(
    ("results", "message"),
    [
        ({}, r"results: Field required; restore it from a copy"),
        ({"results": None}, r"results: not a list; restore it from a copy"),
        ({"results": {}}, r"results: not a list; restore it from a copy"),
        ({"results": "many"}, r"results: not a list; restore it from a copy"),
        ({"results": [1]}, r"results\.0: .*; restore it from a copy"),
    ],
)
def test_resealed_record_without_a_list_of_results_is_refused(
    folder: Path, results: dict[str, Any], message: str
) -> None:
    stored = json.loads((folder / "record.json").read_text())
    del stored["results"]
    (folder / "record.json").write_bytes(encode_record(stored | results))
    with pytest.raises(RecordError, match=message):
        load_record(folder)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[]", "not a record (Expected `object`, got `array`); name a run folder or a record"),
        ("{", "not valid JSON (Input data was truncated); restore it from a copy, or name a record"),
    ],
)
def test_type_and_damage_of_what_is_no_record_are_named(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "record.json").write_text(content)
    with pytest.raises(RecordError, match=re.escape(message)):
        load_record(tmp_path)


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
    (folder / "record.json").write_bytes(encode_record(stored))
    with pytest.raises(RecordError, match="outside its folder"):
        verify_files(folder, load_record(folder))


def test_unfinished_run_is_distinguished_from_no_run(tmp_path: Path) -> None:
    with pytest.raises(RecordError, match=r"no record\.json"):
        load_record(tmp_path)
    (tmp_path / JOURNAL_NAME).write_text("")
    with pytest.raises(RecordError, match="has not ended"):
        load_record(tmp_path)


def test_bundle_without_telemetry_has_none(tmp_path: Path) -> None:
    assert Run(tmp_path, make_record()).telemetry == ()


def test_file_is_written_completely_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
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


@given(st.dictionaries(st.text().filter("seal".__ne__), JSON, max_size=5))
def test_record_is_written_as_json_with_an_indent_of_one(content: dict[str, Any]) -> None:
    text = encode_record(content)
    seal = text[-68:-4].decode()
    expected = json.dumps(content | {"seal": seal}, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    assert text == expected.encode()
    assert hashlib.sha256(text.replace(seal.encode(), b"0" * 64)).hexdigest() == seal
