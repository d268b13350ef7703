"""One machine of a fleet: what it says, what it hands over, and how its command is told to go on."""

import sys
from pathlib import Path

import pytest

from sdbench.launch.member import Member, Progress, Runs, measure_member, member_command
from tests.fleet.local import MANIFEST


def make_member(manifest: str = MANIFEST, image: str | None = None, kind: str = "cpu") -> Member:
    return Member(
        fleet_id="fleet-1",
        kind=kind,
        manifest_name="fleet.yaml",
        manifest_text=manifest,
        arguments=(),
        image=image,
    )


def test_machine_says_how_it_gets_on_and_hands_over_its_runs_once(tmp_path: Path) -> None:
    *said, end = measure_member(make_member(), tmp_path)
    assert isinstance(end, Runs)
    assert end.exit_code == 0
    assert any(isinstance(event, Progress) and event.text.startswith("0/2") for event in said)
    (files,) = end.runs
    assert {"record.json", "manifest.yaml"} <= set(files)
    assert list(measure_member(make_member(), tmp_path)) == [end]


def test_what_a_command_says_last_is_why_it_failed(tmp_path: Path) -> None:
    *_, end = measure_member(make_member("schema: sdbench/manifest/v1\n"), tmp_path)
    assert isinstance(end, Runs)
    assert (end.exit_code, end.runs) == (2, ())
    assert end.message.startswith("sdbench: ")


def test_command_that_is_killed_ends_with_its_signal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "program"
    program.write_text("#!/bin/sh\necho 'record  /some/where'\necho launch 1 >&2\nkill -9 $$\n")
    program.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(program))
    said = list(measure_member(make_member(image="sdbench:cpu"), tmp_path))
    assert said == [Progress("launch 1"), Runs(-9, (), "launch 1")]


def test_container_is_found_again_on_its_machine_and_on_no_other() -> None:
    def launch_id(out: str, kind: str = "cpu") -> str:
        command = member_command(Path("m.yaml"), Path(out), make_member(image="sdbench:cpu", kind=kind))
        return command[command.index("--launch-id") + 1]

    assert launch_id("node-1/results") == launch_id("node-1/results")
    assert len({launch_id("node-1/results"), launch_id("node-2/results"), launch_id("node-1/results", "T4")}) == 3
