import json
from pathlib import Path

import pytest

from sdbench.cli.main import main
from sdbench.schema.migrations import CURRENT_VERSION
from sdbench.store.bundle import load_record

ROOT = Path(__file__).parents[2]
REFERENCE = ROOT / "reports" / "reference"
GOOD = "NVIDIA RTX A6000,single,pytorch,1,8.09,7.75\nNVIDIA RTX A6000,half,pytorch,32,-1.0,-1.0\n"
BAD = "NVIDIA RTX A6000,double,pytorch,1,8.09,7.75\nNVIDIA RTX A6000,half,pytorch,1,fast,7.75\n"


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "old.csv"
    path.write_text(text, encoding="utf-8")
    return path


def import_file(path: Path, *options: str) -> int:
    return main(["import", str(path), "--out", str(path.parent / "out"), *options])


def test_problems_are_printed_and_nothing_imported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write(tmp_path, GOOD + BAD)
    assert import_file(path) == 2
    captured = capsys.readouterr()
    first, second, last = captured.err.splitlines()
    assert first.startswith(f"sdbench: {path}:3: precision 'double' is unknown")
    assert second.startswith(f"sdbench: {path}:4: latency 'fast' is not a finite number")
    assert "nothing was imported: 2 problems" in last
    assert captured.out == ""
    assert not (tmp_path / "out").exists()


def test_at_most_five_problems_are_printed_and_the_rest_counted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert import_file(write(tmp_path, GOOD + BAD * 100)) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 7
    assert lines[5] == "sdbench: and 195 more problems"
    assert "200 problems" in lines[6]


def test_keep_going_imports_the_valid_rows(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert import_file(write(tmp_path, GOOD + BAD), "--keep-going") == 0
    captured = capsys.readouterr()
    assert captured.err.count("\n") == 2
    (folder,) = captured.out.splitlines()
    assert len(load_record(Path(folder)).results) == 2


def test_keep_going_without_a_valid_row_is_an_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert import_file(write(tmp_path, BAD), "--keep-going") == 2
    assert "nothing was imported" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_rows_of_other_steps_are_reported_as_left_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    header = "device,precision,runtime,n_samples,latency,memory,steps\n"
    path = write(tmp_path, header + "X,single,pytorch,1,8.0,7.0,50\nX,single,pytorch,1,5.0,7.0,30\n")
    assert import_file(path) == 2
    assert "mixed steps: 30 here, 50 on line 2" in capsys.readouterr().err
    assert import_file(path, "--steps", "30") == 0
    captured = capsys.readouterr()
    assert "rows left out because their steps are not 30: 1" in captured.err
    assert captured.out.strip().endswith("old-x-30-steps")


def test_claims_and_source_come_from_a_manifest(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    claim = {
        "id": "fast", "text": "It is fast.", "metric": "latency_s", "numerator": {"options": {"batch": 1}},
        "expected": {"high": 5.0}, "source": "section 1",
    }  # fmt: skip
    manifest = {
        "schema": "sdbench/manifest/v1", "title": "T", "source": {"title": "A blog", "year": 2023},
        "experiments": [{"id": "a", "title": "A", "options": {"pipeline": "tiny-sd"}}], "claims": [claim],
    }  # fmt: skip
    (tmp_path / "claims.yaml").write_text(json.dumps(manifest))
    options = ("--manifest", str(tmp_path / "claims.yaml"), "--title", "Mine")
    assert import_file(write(tmp_path, GOOD), *options) == 0
    record = load_record(Path(capsys.readouterr().out.strip()))
    assert record.manifest.title == "Mine"
    assert [claim.id for claim in record.manifest.claims] == ["fast"]
    assert record.manifest.source is not None
    assert record.manifest.source.year == 2023
    assert record.schema_.endswith(f"v{CURRENT_VERSION}")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["none.csv"], "cannot read none.csv"),
        (["old.csv", "--title", "x" * 201], "the title has 201 characters"),
        (["old.csv", "--steps", "0"], "--steps 0: "),
        (["old.csv", "--manifest", "none.yaml"], "cannot read none.yaml"),
    ],
)
def test_invalid_option_of_import_is_one_line(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    message: str,
) -> None:
    write(tmp_path, GOOD)
    monkeypatch.chdir(tmp_path)
    assert main(["import", *arguments]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["old.csv"]


def test_report_takes_the_whole_reference_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = tmp_path / "r.html"
    everything = [str(path) for path in sorted(REFERENCE.iterdir())]
    assert main(["report", *everything, "--out", str(page), "--price", "1.10 EUR/h"]) == 0
    assert capsys.readouterr().err == ""
    assert "NVIDIA RTX A6000 (reference, 2022)" in page.read_text(encoding="utf-8")


def test_invalid_price_is_one_line_before_anything_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    manifest = ROOT / "manifests" / "smoke.yaml"
    assert main(["run", str(manifest), "--out", str(tmp_path / "out"), "--price", "cheap"]) == 2
    assert "invalid price 'cheap'" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
