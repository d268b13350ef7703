"""A run of a user's folder: its name is in the files of the run, and where it was is not."""

import shutil
from pathlib import Path

import pytest

import sdbench.models
from sdbench.cli.main import main
from sdbench.store.run import load_run

CANARY = "canary-of-a-path"
SHIPPED = Path(sdbench.models.__file__).parent / "pipelines"
MANIFEST = """\
schema: sdbench/manifest/v1
title: T
model: {pipeline: tiny-sd}
protocol: {launches_min: 2, launches_max: 2, isolation: spawn}
defaults: {backend: virtual, height: 64, width: 64, steps: 4}
experiments: [{id: a, title: A}]
"""


def test_no_file_of_a_run_has_the_path_of_the_pipeline(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SDBENCH_CACHE", str(tmp_path / "cache"))
    folder, out, manifest = tmp_path / CANARY / "mine", tmp_path / "out", tmp_path / "m.yaml"
    shutil.copytree(SHIPPED / "tiny-sdxl", folder)
    manifest.write_text(MANIFEST)
    command = ["run", str(manifest), "--set", f"pipeline={folder}", "--device", "cpu", "--out", str(out)]
    assert main([*command, "--rounds", "1"]) == main(command) == 0
    (run,) = out.iterdir()
    (name,) = load_run(run).record.pipelines
    assert name.startswith("mine@")
    assert load_run(run).record.results[0].planned.label.startswith(f"{name} fp32")
    assert not [path for path in run.rglob("*") if path.is_file() and CANARY.encode() in path.read_bytes()]
    assert CANARY not in capsys.readouterr().err
    # Where neither the folder nor the cache is there.
    shutil.rmtree(folder)
    shutil.rmtree(tmp_path / "cache")
    assert main(["verify", str(run)]) == 0
    assert "every experiment that the manifest requests has a result" in capsys.readouterr().out
