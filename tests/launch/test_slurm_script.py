"""The script of an array job, run by a shell with a program that notes what it was called with."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from sdbench.launch.member import Member
from sdbench.launch.slurm_engine import render_script


def make_member(kind: str, image: str | None) -> Member:
    return Member(
        fleet_id="fleet-1",
        kind=kind,
        manifest_name="it's odd.yaml",
        manifest_text="",
        arguments=("--budget", "5m"),
        image=image,
    )


@pytest.mark.parametrize("image", [None, "sdbench:cuda"])
def test_each_element_measures_its_kind_in_a_folder_of_its_node(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, image: str | None
) -> None:
    program = tmp_path / "a program"
    program.write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
    program.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(program))
    folder = tmp_path / "fleet $HOME"
    folder.mkdir()
    script = render_script([make_member("A100", image), make_member("cpu", image)], folder)
    for number, (kind, gpus) in enumerate({"A100": ["--gpus", "all"], "cpu": []}.items()):
        environ = os.environ | {"SLURM_ARRAY_TASK_ID": str(number), "SLURMD_NODENAME": "n1"}
        subprocess.run(["bash"], input=script, text=True, env=environ, check=True)
        place = folder / kind / "n1"
        words = (place / "log").read_text().splitlines()
        command = ["run"] if image is None else ["launch"]
        options = ["--out", str(place / "results"), "--json", "--budget", "5m"]
        if image is not None:
            launch_id = words[words.index("--launch-id") + 1]
            options = ["--image", image, *gpus, "--launch-id", launch_id, "--out", str(place / "results")]
            options += ["--args", "--budget 5m"]
        assert (place / "exit-code").read_text() == "0\n"
        assert words == ["-m", "sdbench", *command, str(folder / "it's odd.yaml"), *options]
        # What this node measured before is not measured again.
        (place / "results" / "run-1").mkdir(parents=True)
        (place / "results" / "run-1" / "record.json").touch()
        (place / "log").unlink()
        subprocess.run(["bash"], input=script, text=True, env=environ, check=True)
        assert not (place / "log").exists()
