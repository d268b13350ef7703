"""The commands that compare: what they print, and the exit codes a gate reads."""

import json
from pathlib import Path
from typing import Any

import pytest

from sdbench.cli.main import main
from sdbench.schema.record import Record, compute_seal
from tests.compare.test_comparison import record_of, run_of, session_of
from tests.records import make_failed, make_result


def write(folder: Path, record: Record) -> str:
    folder.mkdir(parents=True)
    stored = record.to_json_dict()
    (folder / "record.json").write_text(json.dumps(stored | {"seal": compute_seal(stored)}))
    return str(folder)


def sides(tmp_path: Path, ratio: float, blocks: int = 7) -> list[str]:
    return [write(tmp_path / str(side), session_of((1.0, ratio)[side], side, blocks)) for side in (0, 1)]


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No results folder to learn from."""
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(
    ("ratio", "blocks", "code", "word"),
    [(1.1, 7, 10, "SLOWER"), (1.0, 7, 0, "SAME"), (0.9, 7, 0, "FASTER"), (1.1, 3, 11, "INCONCLUSIVE")],
)
def test_the_exit_code_is_the_verdict(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], ratio: float, blocks: int, code: int, word: str
) -> None:
    assert main(["compare", *sides(tmp_path, ratio, blocks)]) == code
    assert capsys.readouterr().out.startswith(f"{word}: 1 experiment")


def test_what_cannot_be_compared_has_a_code_of_its_own(tmp_path: Path) -> None:
    good = write(tmp_path / "good", run_of(1.0))
    bad = write(tmp_path / "bad", record_of(make_result(make_failed()), day=2))
    assert main(["compare", good, bad]) == 12
    assert main(["compare", good, bad, "--fail-on", "slower,inconclusive"]) == 0


@pytest.mark.parametrize(("words", "code"), [("slower", 10), ("inconclusive", 0), ("", 0)])
def test_the_user_chooses_what_fails(tmp_path: Path, words: str, code: int) -> None:
    assert main(["compare", *sides(tmp_path, 1.1), "--fail-on", words]) == code


def test_json_holds_the_whole_comparison(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["compare", *sides(tmp_path, 1.1), "--json"])
    found = json.loads(capsys.readouterr().out)
    assert found["verdict"] == "slower"
    assert found["experiments"][0]["judgements"][0]["level"] == "block"


def test_a_changed_record_is_refused_and_marked_when_forced(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    a, b = sides(tmp_path, 1.0)
    path = Path(b) / "record.json"
    path.write_text(path.read_text().replace('"run-b"', '"run-c"'))
    assert main(["compare", a, b]) == 2
    assert "the seal does not match" in capsys.readouterr().err
    assert main(["compare", a, b, "--force"]) == 0
    assert "CHANGED AFTER IT WAS SEALED (--force)" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--margin", "0"], "is no share"),
        (["--margin", "200%"], "is no share"),
        (["--fail-on", "slow"], "'slow' is none of slower"),
    ],
)
def test_wrong_options_are_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    assert main(["compare", *sides(tmp_path, 1.0), *arguments]) == 2
    assert message in capsys.readouterr().err


def test_a_truncated_record_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    a, b = sides(tmp_path, 1.0)
    path = Path(b) / "record.json"
    path.write_text(path.read_text()[:-100])
    assert main(["compare", a, b]) == 2
    assert "not valid JSON" in capsys.readouterr().err


def test_a_side_of_two_machines_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path / "mixed" / "one", run_of(1.0))
    write(tmp_path / "mixed" / "two", record_of(run_of(1.0).results[0], day=2, device="cpu"))
    other = write(tmp_path / "other", run_of(1.0, day=3))
    assert main(["compare", str(tmp_path / "mixed"), other]) == 2
    assert "2 machines" in capsys.readouterr().err


def test_hostile_strings_are_printed_as_they_are(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    record = session_of(1.0, 0)
    hostile = record.model_copy(update={"run_id": "[red]<script>[/red]"})
    a, b = write(tmp_path / "a", hostile), write(tmp_path / "b", session_of(1.0, 1))
    assert main(["compare", a, b]) == 0
    assert "[red]<script>[/red]" in capsys.readouterr().out


def test_nothing_of_a_record_steers_the_terminal(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    record = session_of(1.0, 0).model_copy(update={"run_id": "\x1b[2J\x07\u202e"})
    a, b = write(tmp_path / "a", record), write(tmp_path / "b", session_of(1.0, 1))
    main(["compare", a, b])
    out = capsys.readouterr().out
    assert r"\x1b[2J\x07\u202e" in out
    assert not {"\x1b", "\x07", "\u202e"} & set(out)


def test_one_run_is_not_compared_with_itself(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = write(tmp_path / "a", run_of(1.0))
    assert main(["compare", run, run]) == 2
    assert "both sides hold the run" in capsys.readouterr().err


def test_diff_names_what_differs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    runs = [write(tmp_path / day, run_of(1.0, day=int(day), driver=day)) for day in ("1", "2")]
    assert main(["diff", *runs]) == 0
    out = capsys.readouterr().out
    assert out.startswith("only the driver differs (1 and 2)")
    assert "  gpu_kernel_driver: 1 / 2" in out
    main(["diff", *runs, "--json"])
    assert json.loads(capsys.readouterr().out)["differences"][0]["field"] == "software.gpu_kernel_driver"


def test_trend_prints_each_step(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for day in range(1, 5):
        driver = "570.1" if day < 3 else "580.1"
        record = run_of(1.0 if day < 3 else 1.2, day=day, driver=driver)
        write(tmp_path / "runs" / str(day), record)
    assert main(["trend", str(tmp_path / "runs")]) == 0
    out = capsys.readouterr().out
    assert "570.1 -> 580.1: slower +20.00 %" in out


def test_ab_refuses_sides_that_do_not_match(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    manifest = tmp_path / "any.yaml"
    manifest.write_text("""\
schema: sdbench/manifest/v1
title: Any
defaults: {architecture: tiny, backend: virtual}
experiments:
  - {id: any, title: Any, matrix: {batch: [1, 2]}}
""")
    cases: list[tuple[list[str], str]] = [
        (["--a", "batch=1"], "side a has 1 experiments and side b 2"),
        (["--a", "image=x"], "images are compared alone"),
        (["--a", "image=x", "--a", "batch=1", "--b", "image=y"], "images are compared alone"),
        (["--a", "image=x", "--b", "image=y", "--seed", "1"], "leave it away"),
        (["--b", "env.1=x"], "write env.NAME=value"),
        (["--a", "nonsense=1"], "unknown key"),
    ]
    for arguments, message in cases:
        assert main(["ab", str(manifest), *arguments, "--out", str(tmp_path / "out")]) == 2
        assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_selfcheck_says_what_the_rules_are_worth(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sdbench.cli.selfcheck.find_spec", lambda _name: None)
    assert main(["selfcheck", "--trials", "2000", "--out", str(tmp_path / "aa.md")]) in (0, 1)
    page = (tmp_path / "aa.md").read_text()
    assert "| golden cases | 10 of 10 | all | yes |" in page
    assert "Not measured: torch is not installed here" in page
    assert main(["selfcheck", "--trials", "2000", "--json"]) in (0, 1)
    found: dict[str, Any] = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert len(found["alike"]) >= 8
