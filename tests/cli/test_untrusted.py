"""Untrusted input: no traceback, one line and exit 2, and nothing steers the terminal."""

from pathlib import Path
from typing import Any

import pytest

from sdbench.cli.main import main
from sdbench.store.bundle import compute_seal, encode_record, seal_record
from sdbench.store.journal import encode_line
from tests.records import make_manifest, make_record

ESCAPES = "\x1b]8;;https://evil.example\x1b\\click\x1b]8;;\x1b\\ \x1b[31m\x9b31m\u202e"
CLAIM: dict[str, Any] = {
    "id": "a",
    "text": ESCAPES,
    "metric": "latency_s",
    "numerator": {"options": {}},
    "expected": {"low": 0.0, "high": 1.0},
    "source": ESCAPES,
}
READERS = (
    ("validate",),
    ("verify",),
    ("claims",),
    ("trend",),
    ("report", "--format", "markdown"),
    ("report", "--format", "text"),
    ("compare", "good"),
    ("diff", "good"),
    ("publish", "out", "--dry-run"),
    ("site", "--out", "site"),
)


def write(folder: Path, content: dict[str, Any]) -> None:
    folder.mkdir(exist_ok=True)
    (folder / "record.json").write_bytes(encode_record(content))


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "good", make_record(run_id="good").to_json_dict())
    return tmp_path


def run(command: tuple[str, ...], name: str) -> int:
    first, *rest = command
    return main([first, name, *rest])


@pytest.mark.parametrize("command", READERS, ids=" ".join)
def test_number_beyond_float_is_refused_in_one_line(
    command: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    text = Path("good/record.json").read_bytes().replace(b'"value": 252.0', b'"value": 1e999')
    Path("bad").mkdir()
    Path("bad/record.json").write_bytes(text[:-68] + compute_seal(text).encode() + text[-4:])
    if command[0] == "site":
        assert main(["site", "bad", "good", "--out", "site"]) == 2
        assert Path("site/index.html").is_file()
    else:
        assert run(command, "bad") == 2
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.parametrize("command", READERS, ids=" ".join)
def test_nothing_of_a_record_steers_the_terminal(command: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    manifest = make_manifest(title=f"A {ESCAPES}", claims=(CLAIM,))
    write(Path("odd"), make_record(run_id="odd", manifest=manifest).to_json_dict())
    run(command, "odd")
    captured = capsys.readouterr()
    assert not set("\x1b\x9b\u202e") & set(captured.err)
    # Into a pipe the record that would be published goes byte for byte.
    assert command[0] == "publish" or not set("\x1b\x9b\u202e") & set(captured.out)


@pytest.mark.parametrize(
    "line", [{"x": 1}, {"experiment_id": ["a"]}, {"experiment_id": "a", "index": 0, "series": "x"}], ids=str
)
@pytest.mark.parametrize("command", [("validate",), ("verify",), ("report", "--format", "markdown")], ids=" ".join)
def test_telemetry_of_another_shape_is_refused(
    command: tuple[str, ...], line: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    case = Path("case")
    case.mkdir()
    (case / "telemetry.jsonl").write_bytes(encode_line(line))
    stored = make_record().to_json_dict()
    seal_record(case, {key: value for key, value in stored.items() if key not in ("seal", "files")})
    assert run(command, "case") == 2
    assert "telemetry.jsonl:1" in capsys.readouterr().err


def test_names_of_folders_steer_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    name = "a\x1b[31mb"
    Path(name).mkdir()
    Path(name, "record.json").write_text('{"a\x1b": 1}'.replace("\x1b", "\\u001b"))
    assert main(["validate", name]) == 2
    assert main(["query", "--results", "."]) == 0
    captured = capsys.readouterr()
    assert "\x1b" not in captured.out + captured.err
    assert "skipped" in captured.err


def test_manifest_steers_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    Path("m.yaml").write_text(
        'schema: sdbench/manifest/v1\ntitle: "a \\u001b[31m"\nmodel: {pipeline: tiny-sd}\n'
        "experiments:\n  - {id: a, title: b, options: {height: 64, width: 64}}\n"
    )
    assert main(["plan", "m.yaml"]) == 0
    assert "\x1b" not in capsys.readouterr().out


@pytest.mark.parametrize("command", ["verify", "validate", "claims", "report"])
def test_text_file_alone_is_not_a_success(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    Path("notes.md").write_text("no run")
    assert main([command, "notes.md"]) == 2
    assert capsys.readouterr().err == "sdbench: notes.md is not a run; name run folders or records\n"


def test_unfinished_run_among_others_is_skipped_with_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("done", "unfinished"):
        Path(name).mkdir()
    Path("done/record.json").write_bytes(encode_record(make_record().to_json_dict()))
    Path("unfinished/journal.jsonl").write_text("")
    assert main(["report", "done", "unfinished", "--out", "both.html"]) == 0
    assert "sdbench: unfinished: the run has not ended; skipped\n" in capsys.readouterr().err
    assert main(["report", "unfinished", "--out", "one.html"]) == 2
