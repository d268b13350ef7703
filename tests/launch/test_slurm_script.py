"""The script of an array job, run by a shell, and what an element of it runs."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from sdbench.launch.element import main
from sdbench.launch.slurm_engine import render_script
from tests.launch.test_member import make_member


def test_each_element_runs_its_member_in_a_folder_of_its_node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "a program"
    program.write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
    program.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(program))
    folder = tmp_path / "fleet $HOME"
    folder.mkdir()
    script = render_script("fleet-1", folder, 3, 2)
    for number in range(2):
        environ = os.environ | {"SLURM_ARRAY_TASK_ID": str(number), "SLURMD_NODENAME": "n1"}
        subprocess.run(["bash"], input=script, text=True, env=environ, check=True)
        words = (folder / "nodes" / "n1" / "log").read_text().splitlines()
        assert words == [
            "-m",
            "sdbench.launch.element",
            str(folder / f"member-3-{number}.json"),
            str(folder / "nodes" / "n1"),
        ]


def test_element_says_how_it_gets_on_and_ends_as_its_command(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "member.json"
    path.write_text(make_member().model_dump_json())
    assert main([str(path), str(tmp_path / "n1")]) == 0
    assert capsys.readouterr().out.startswith("0/2 ")
    path.write_text(make_member("schema: sdbench/manifest/v1\n").model_dump_json())
    assert main([str(path), str(tmp_path / "n2")]) == 2
