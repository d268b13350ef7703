"""``--device cuda:all``: alone, then at once, each with its own record."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from sdbench.cli.main import build_parser, main
from sdbench.cli.options import read_plan_request
from sdbench.compare.comparison import compare_records
from sdbench.errors import EnvironmentProblem
from sdbench.probes.devices import list_cuda_devices
from sdbench.runner.all_devices import run_all_devices
from sdbench.schema.record import Record
from sdbench.store.bundle import load_record

MANIFEST = """schema: sdbench/manifest/v1
title: Virtual devices
protocol: {launches_min: 2, launches_max: 2, calls_min: 3, calls_max: 3}
experiments:
  - {id: one, title: One, options: {pipeline: tiny-sd, height: 64, width: 64, steps: 4, backend: virtual}}
"""


def command(folder: Path, manifest: str = MANIFEST) -> list[str]:
    (folder / "virtual.yaml").write_text(manifest)
    return ["run", str(folder / "virtual.yaml"), "--out", str(folder / "out"), "--quiet", "--device", "cuda:all"]


def report(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def run_on_two(arguments: list[str]) -> int:
    # The CPU stands for two GPUs: what is shown is which runs are made and what their records say.
    options = build_parser("run").parse_args(arguments[1:])
    request = read_plan_request(options)
    return run_all_devices(
        request, options.out, ["--quiet"], fresh=options.fresh, list_devices=lambda: ("cpu", "cpu"), report=report
    )


def records_in(folder: Path) -> list[Record]:
    return [load_record(path.parent) for path in (folder / "out").glob("*/record.json")]


def test_each_device_runs_alone_and_then_beside_the_others(tmp_path: Path) -> None:
    assert run_on_two(command(tmp_path)) == 0
    records = records_in(tmp_path)
    assert len(records) == 4
    groups = [record.device_group for record in records if record.device_group]
    assert len({group.group_id for group in groups}) == 1
    assert sorted(group.at_once for group in groups) == [False, False, True, True]
    assert {group.devices for group in groups} == {("cpu", "cpu")}
    alone = next(record for record in records if record.device_group and not record.device_group.at_once)
    at_once = next(record for record in records if record.device_group and record.device_group.at_once)
    assert any("next to" in text for text in compare_records([alone], [at_once], 0.02).treatments)
    assert not list((tmp_path / "out").glob(".cuda-all-*"))


def test_interrupted_group_seals_and_the_same_command_goes_on(tmp_path: Path) -> None:
    # So many launches that the signal comes before the last.
    arguments = command(
        tmp_path, MANIFEST.replace("launches_min: 2, launches_max: 2", "launches_min: 6, launches_max: 6")
    )
    program = (
        "import sys\nfrom tests.cli.test_all_devices import run_on_two\n"
        f"try: sys.exit(run_on_two({arguments!r}))\nexcept KeyboardInterrupt: sys.exit(130)\n"
    )
    for at_once in (False, True):
        process = subprocess.Popen([sys.executable, "-c", program], stderr=subprocess.PIPE, text=True)
        for line in process.stderr or ():
            if line.endswith("at once\n") == at_once and wait_for_journal(tmp_path, 3 if at_once else 1):
                break
        process.send_signal(signal.SIGTERM)
        process.communicate()
        assert process.returncode == 130
        ended = [record.ended for record in records_in(tmp_path)]
        assert ended.count("complete") == (2 if at_once else 0)
        assert set(ended) <= {"complete", "interrupted"}
    assert run_on_two(arguments) == 0
    whole = [record.device_group for record in records_in(tmp_path) if record.ended == "complete"]
    assert sorted(group.at_once for group in whole if group) == [False, False, True, True]
    assert len({group.group_id for group in whole if group}) == 1


def test_signal_that_comes_while_a_device_starts_is_not_lost(tmp_path: Path) -> None:
    # Python drops what a handler raises while such a hook runs.
    program = (
        "import os, signal, sys\nfrom tests.cli.test_all_devices import run_on_two\n"
        "os.register_at_fork(after_in_parent=lambda: os.kill(os.getpid(), signal.SIGTERM))\n"
        f"try: sys.exit(run_on_two({command(tmp_path)!r}))\nexcept KeyboardInterrupt: sys.exit(130)\n"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False, capture_output=True).returncode == 130


def wait_for_journal(folder: Path, count: int) -> bool:
    """Wait until so many runs have begun."""
    while len(list((folder / "out").glob("*/journal.jsonl"))) < count:
        time.sleep(0.05)
    return True


def test_killed_device_ends_it_all_and_is_no_success(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "program"
    program.write_text(f"#!/bin/sh\necho ran >>{tmp_path}/ran\nkill -9 $$\n")
    program.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(program))
    assert run_on_two(command(tmp_path)) == 137
    assert (tmp_path / "ran").read_text() == "ran\n"


def test_device_that_lost_its_gpu_ends_it_all_though_its_exit_code_is_that_of_skipping(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "program"
    program.write_text(f"#!/bin/sh\necho ran >>{tmp_path}/ran\nexit 3\n")
    program.chmod(0o755)
    with monkeypatch.context() as patch:
        patch.setattr(sys, "executable", str(program))
        assert run_on_two(command(tmp_path)) == 3
    assert (tmp_path / "ran").read_text() == "ran\n"


def test_device_on_which_all_is_skipped_is_done(tmp_path: Path) -> None:
    skipped = MANIFEST.replace("backend: virtual", "backend: virtual, threads: 1024")
    assert run_on_two(command(tmp_path, skipped)) == 3
    assert [record.ended for record in records_in(tmp_path)] == ["complete"] * 4


def test_machine_without_a_gpu_says_so() -> None:
    with pytest.raises(EnvironmentProblem, match="cuda:0"):
        list_cuda_devices()


def test_rounds_need_one_device(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["run", str(tmp_path / "virtual.yaml"), "--device", "cuda:all", "--rounds", "1"]
    assert main(arguments) == 2
    assert "--rounds does not apply with --device cuda:all" in capsys.readouterr().err
