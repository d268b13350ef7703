"""publish, pull, verify and query from the command line."""

import json
import os
import shutil
import zipfile
from pathlib import Path

import pytest

from sdbench.cli.main import main
from tests.runs import make_run


@pytest.fixture
def results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name in ("run-1", "run-2"):
        make_run(tmp_path / "results" / name)
    return tmp_path / "results"


def test_runs_are_published_pulled_and_verified(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["publish", "results", "out"]) == 0
    assert capsys.readouterr().out.count("new ") == 2
    assert main(["verify", "out"]) == 0
    assert capsys.readouterr().out.count("nothing contradicts it") == 2
    make_run(Path("out") / "run-3")
    assert main(["verify", "out"]) == 0
    assert capsys.readouterr().out.count("nothing contradicts it") == 3
    shutil.rmtree(Path("out") / "run-3")
    assert main(["publish", "FROM runs WHERE run_id = 'run-1'", "out"]) == 0
    assert capsys.readouterr().out.startswith("already present")
    assert main(["pull", "out", "--out", "pulled", "--where", "cpu=example", "--where", "run_id=run-2"]) == 0
    captured = capsys.readouterr()
    assert captured.out == "pulled/run-2\n"
    assert "1 new, 0 already present, 1 filtered out, 0 refused" in captured.err
    assert "next: sdbench report pulled/run-2\n" in captured.err
    assert main(["verify", "pulled/run-2", *map(str, Path("out").glob("*/*.zip"))]) == 0
    assert capsys.readouterr().out.count("nothing contradicts it") == 3


def test_flipped_byte_is_reported_in_one_line(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["publish", "results/run-1", "out"])
    (path,) = Path("out").glob("*/*.zip")
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    capsys.readouterr()
    assert main(["verify", str(path)]) == 2
    captured = capsys.readouterr()
    assert captured.err.count("\n") == 1
    assert main(["pull", "out", "--out", "pulled"]) == 2
    assert "1 refused" in capsys.readouterr().err
    assert not Path("pulled").exists()


def test_dry_run_shows_what_publish_sends_and_sends_nothing(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["publish", "results/run-1", "out", "--dry-run"]) == 0
    captured = capsys.readouterr()
    assert not Path("out").exists()
    assert "published  telemetry.jsonl" in captured.err
    assert main(["publish", "results/run-1", "out"]) == 0
    (path,) = Path("out").glob("*/*.zip")
    assert path.stem in captured.err
    with zipfile.ZipFile(path) as bundle:
        assert json.loads(captured.out) == json.loads(bundle.read("record.json"))


def test_dry_run_does_not_fill_a_terminal_with_the_record(
    results: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    assert main(["publish", "results/run-1", "out", "--dry-run"]) == 0
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("add: > record.json") == 1


def test_verify_prints_json_and_in_toto(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["verify", "results/run-1", "--format", "json"]) == 0
    (verification,) = json.loads(capsys.readouterr().out)
    assert verification["is_valid"]
    # A fleet keeps its journal next to its runs, where results/* names it too.
    Path("results/fleet-1").mkdir()
    Path("results/fleet-1/fleet.jsonl").touch()
    for command in ("verify", "validate", "report"):
        assert main([command, "results/fleet-1", "results/run-1"]) == 0
        assert "fleet's folder" in capsys.readouterr().err
    assert main(["verify", "results", "--format", "in-toto"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [json.loads(line)["_type"] for line in lines] == ["https://in-toto.io/Statement/v1"] * 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["verify", "none"], "cannot read none"),
        (["verify", "none.zip"], "cannot read none.zip"),
        (["verify", "results/run-1", "--signed"], "add --signers FILE"),
        (["verify", "results/run-1", "--image", "sha256:0"], None),
        (["pull", "out", "--where", "gpus=H100"], "no run has 'gpus'; nearest: 'gpu'"),
        (["pull", "results", "--where", "gpu"], "write NAME=TEXT"),
        (["pull", "nosuch://x"], "unknown kind of store 'nosuch'"),
        (["publish", "results/run-1", "out", "--sign", "nokey"], "--sign nokey: no such file"),
        (["publish", "results/run-1", "results/run-2"], "results/run-2 is the folder of a run"),
        (["fleet", "m.yaml", "--engine", "ray", "--args", "--device cuda:all"], "one device of each machine"),
        (["publish", "results/run-1", ""], "'' names no folder, bucket or server"),
        (["pull", "https://"], "'https://' names no folder, bucket or server"),
        (["verify", "https://"], "https://: not the URL of a bundle"),
        (["verify", "https://example.org"], "https://example.org: not the URL of a bundle"),
        (["verify", "https://example.org/runs/"], "https://example.org/runs/: not the URL of a bundle"),
        (["publish", "none", "out"], "cannot read none"),
        (["query", "SELEC"], "the query failed"),
        (["query", " "], "the query is empty"),
        (["pull", "nowhere"], "has no published run"),
        (["pull", "results", "--signed"], "add --signers FILE"),
        (["query", "FROM nothing"], "sdbench query --schema shows the tables"),
        (["report", "FROM runs WHERE false"], "matches no run in results"),
        (["query", "--results", "none"], "none: no such folder"),
        (["query", "FROM runs; DROP TABLE runs"], "expected one query, got 2"),
        (["fleet", "m.yaml", "--engine", "slurm", "--address", "x"], "--address is for --engine ray, not slurm"),
        (["fleet", "m.yaml", "--engine", "kubernetes", "--sbatch=-p a"], "--sbatch is for --engine slurm"),
    ],
)
def test_wrong_input_is_reported_in_one_line(
    results: Path, arguments: list[str], message: str | None, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    captured = capsys.readouterr()
    if message is not None:
        assert message in captured.err
        assert captured.err.count("\n") == 1


def test_query_answers_and_names_runs(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sql = "SELECT cpu, precision, median(latency_s) AS latency_s FROM results GROUP BY ALL"
    assert main(["query", sql, "--format", "json"]) == 0
    (row,) = json.loads(capsys.readouterr().out)
    assert row["precision"] == "fp32"
    assert main(["query", sql, "--format", "csv"]) == 0
    assert capsys.readouterr().out.splitlines()[0] == "cpu,precision,latency_s"
    # Too many columns for a table are lines.
    assert main(["query", "FROM runs ORDER BY path"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line for line in lines if line.startswith("row ")] == ["row 1", "row 2"]
    assert sum(line.split() == ["path", "run-1"] for line in lines) == 1
    assert main(["query"]) == 0
    assert "median_latency_s" in capsys.readouterr().out
    assert main(["query", "--schema"]) == 0
    assert "results: experiments with the columns of their run" in capsys.readouterr().out
    assert main(["report", "FROM runs", "--out", "r.html"]) == 0
    assert main(["site", "SELECT run_id FROM runs", "--out", "site"]) == 0
    assert main(["compare", "FROM runs WHERE path = 'run-1'", "FROM runs WHERE path = 'run-2'"]) in (0, 11, 12)


def test_report_replaces_no_folder_and_no_device(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    # A pipe stands for a device: were the check gone, the device of this machine would be too.
    os.mkfifo("pipe")
    for place in ("pipe", "results", ""):
        assert main(["report", "results/run-1", "--out", place]) == 2
        assert "is not a regular file" in capsys.readouterr().err
    assert Path("pipe").is_fifo()


def test_markdown_is_written_to_the_requested_file(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", "results/run-1", "--format", "markdown", "--out", "r.md"]) == 0
    assert Path("r.md").read_text().startswith("# ")
    assert main(["report", "results/run-1", "--format", "text", "--out", "r.txt"]) == 2
    assert "takes no --out" in capsys.readouterr().err


def test_pulled_run_that_lost_a_file_is_incomplete(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["publish", "results/run-1", "out"])
    main(["pull", "out", "--out", "pulled"])
    Path("pulled/run-1/telemetry.jsonl").unlink()
    capsys.readouterr()
    assert main(["pull", "out", "--out", "pulled"]) == 2
    assert "is incomplete now; remove it and pull again" in capsys.readouterr().err


def test_damaged_export_can_be_removed_and_is_made_again(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("results/run-1/export.zip").write_text("junk")
    assert main(["publish", "results/run-1", "out"]) == 2
    assert "remove it, and it is made again" in capsys.readouterr().err


def test_site_replaces_its_own_index_and_no_other(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for _ in range(2):
        assert main(["site", "results", "--out", "site"]) == 0
    Path("foreign").mkdir()
    Path("foreign/index.html").write_text("mine")
    assert main(["site", "results", "--out", "foreign"]) == 2
    assert Path("foreign/index.html").read_text() == "mine"
    assert [path.name for path in Path("foreign").iterdir()] == ["index.html"]
