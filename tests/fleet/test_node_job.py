"""One machine of a fleet: its progress, the runs it returns, and how an attempt resumes another."""

import sys
from pathlib import Path

import pytest

from sdbench.cli.main import build_parser
from sdbench.fleet.node_job import NodeJob, NodeResult, job_command, measure
from tests.fleet.local import MANIFEST


def make_job(manifest: str = MANIFEST, image: str | None = None, kind: str = "cpu") -> NodeJob:
    return NodeJob(
        fleet_id="fleet-1",
        kind=kind,
        manifest_name="fleet.yaml",
        manifest_text=manifest,
        arguments=(),
        image=image,
    )


def test_machine_reports_progress_and_returns_its_runs_once(tmp_path: Path) -> None:
    *progress, end = measure(make_job(), tmp_path)
    assert isinstance(end, NodeResult)
    assert end.exit_code == 0
    assert any(isinstance(event, str) and event.startswith("0/2") for event in progress)
    (files,) = end.runs
    assert {"record.json", "manifest.yaml"} <= set(files)
    assert list(measure(make_job(), tmp_path)) == [end]


def test_what_a_command_says_last_is_why_it_failed(tmp_path: Path) -> None:
    *_, end = measure(make_job("schema: sdbench/manifest/v1\n"), tmp_path)
    assert isinstance(end, NodeResult)
    assert (end.exit_code, end.runs) == (2, ())
    assert end.message.startswith("sdbench: ")


def test_command_that_is_killed_ends_with_its_signal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "program"
    program.write_text("#!/bin/sh\necho 'record  /some/where'\necho launch 1 >&2\nkill -9 $$\n")
    program.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(program))
    events = list(measure(make_job(image="sdbench:cpu"), tmp_path))
    assert events == ["launch 1", NodeResult(-9, (), "launch 1")]


def test_container_is_found_again_on_its_machine_and_on_no_other() -> None:
    def schedule_id(out: str, kind: str = "cpu") -> str:
        command = job_command(Path("m.yaml"), Path(out), make_job(image="sdbench:cpu", kind=kind))
        return command[command.index("--schedule-id") + 1]

    assert schedule_id("node-1/results") == schedule_id("node-1/results")
    assert len({schedule_id("node-1/results"), schedule_id("node-2/results"), schedule_id("node-1/results", "T4")}) == 3


@pytest.mark.parametrize("image", [None, "sdbench:cuda13"])
@pytest.mark.parametrize(("kind", "device"), [("A100", "cuda"), ("cpu", "cpu")])
def test_machine_is_asked_for_the_device_of_its_kind_unless_the_user_names_one(
    image: str | None, kind: str, device: str
) -> None:
    job = make_job(image=image, kind=kind)
    command = job_command(Path("m.yaml"), Path("out"), job)
    assert command[command.index("--device") + 1] == device
    named = job_command(Path("m.yaml"), Path("out"), job.model_copy(update={"arguments": ("--device", "cuda:1")}))
    assert build_parser("run").parse_args(named[4:]).device == "cuda:1"
