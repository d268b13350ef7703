"""The script of an array job, run by a shell, what a task of it runs, and how often the driver asks the controller."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from sdbench.fleet import slurm_engine
from sdbench.fleet.fleet import Lost
from sdbench.fleet.node_job import main
from sdbench.fleet.slurm_engine import SlurmEngine, render_script
from tests.fleet.test_node_job import make_job


def test_each_task_runs_its_job_in_a_folder_of_its_node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "a program"
    program.write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
    program.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(program))
    folder = tmp_path / "fleet $HOME"
    folder.mkdir()
    script = render_script(folder, 3, 2)
    for number in range(2):
        environ = os.environ | {"SLURM_ARRAY_TASK_ID": str(number), "SLURMD_NODENAME": "n1"}
        subprocess.run(["bash"], input=script, text=True, env=environ, check=True)
        arguments = (folder / "nodes" / "n1" / "log").read_text().splitlines()
        assert arguments == [
            "-m",
            "sdbench.fleet.node_job",
            str(folder / f"job-3-{number}.json"),
            str(folder / "nodes" / "n1"),
        ]


def test_task_prints_progress_and_ends_as_its_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "job.json"
    path.write_text(make_job().model_dump_json())
    assert main([str(path), str(tmp_path / "n1")]) == 0
    assert "\n0/2 " in f"\n{capsys.readouterr().out}"
    path.write_text(make_job("schema: sdbench/manifest/v1\n").model_dump_json())
    assert main([str(path), str(tmp_path / "n2")]) == 2


def test_signal_that_comes_while_the_command_starts_is_not_lost(tmp_path: Path) -> None:
    (tmp_path / "job.json").write_text(make_job().model_dump_json())
    # Python drops what a handler raises while such a hook runs.
    program = (
        "import os, signal, sys\nfrom sdbench.fleet.node_job import main\n"
        "os.register_at_fork(after_in_parent=lambda: os.kill(os.getpid(), signal.SIGTERM))\n"
        f"sys.exit(main([{str(tmp_path / 'job.json')!r}, {str(tmp_path)!r}]))\n"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False, capture_output=True).returncode == 130


class Controller:
    """Slurm's commands with one node and one task, and the time of each listing of the nodes."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.now_s, self.task_state, self.node_state = 0.0, "PENDING", "idle"
        self.listed_at_s: list[float] = []
        patch.setattr(slurm_engine, "call", self.call)
        patch.setattr(slurm_engine, "time", self)

    def monotonic(self) -> float:
        return self.now_s

    def sleep(self, duration_s: float) -> None:
        self.now_s += duration_s

    def call(self, program: str, *arguments: str) -> str:
        if program == "sinfo" and "-N" in arguments:
            self.listed_at_s.append(self.now_s)
            return f"n1|cpu|{self.node_state}\n"
        return {"sbatch": "7\n", "squeue": f"7_0 {self.task_state}\n"}.get(program, "")

    def pass_time(self, engine: SlurmEngine, duration_s: float) -> list[object]:
        end_s = self.now_s + duration_s
        events: list[object] = []
        while self.now_s < end_s:
            events += [event for _, event in engine.events()]
        return events


def start_task(patch: pytest.MonkeyPatch, folder: Path) -> tuple[Controller, SlurmEngine]:
    controller = Controller(patch)
    engine = SlurmEngine(folder, ())
    assert engine.nodes() == {"cpu": ["n1"]}
    job = make_job()
    (folder / job.fleet_id).mkdir()
    engine.start(job, "n1")
    return controller, engine


def test_nodes_are_listed_every_ten_seconds_and_only_while_a_task_waits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    controller, engine = start_task(monkeypatch, tmp_path)
    assert controller.pass_time(engine, 25.0) == ["pending"]
    assert controller.listed_at_s == [0.0, 10.0, 20.0]
    controller.task_state = "RUNNING"
    assert controller.pass_time(engine, 60.0) == ["running"]
    assert controller.listed_at_s == [0.0, 10.0, 20.0]


def test_task_that_waits_for_a_node_that_fails_is_lost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    controller, engine = start_task(monkeypatch, tmp_path)
    controller.node_state = "down"
    lost = Lost("the machine is gone before it started", node_is_gone=True)
    assert controller.pass_time(engine, 12.0) == ["pending", lost]
