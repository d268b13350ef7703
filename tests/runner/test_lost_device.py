"""A GPU that falls away, and a worker that cannot be killed, stop the run, which is resumed by the same command."""

import hashlib
import os
import signal
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sdbench.errors import EnvironmentLost
from sdbench.runner import template
from sdbench.runner.events import RunEvent
from sdbench.runner.lost_device import find_loss
from sdbench.runner.run import run
from sdbench.runner.spec import RunSpec
from sdbench.runner.template import ForkedWorker, TemplateDied
from sdbench.runner.worker_process import Pipes, SpawnedWorker
from sdbench.schema.outcome import Failed, Succeeded, launches_of
from sdbench.store import lock
from sdbench.store.bundle import load_record
from tests.records import make_failed
from tests.runner.setups import make_spec

NO_DEVICE = "torch 2.13.0 finds no CUDA device for 'cuda:0'; install the CUDA build and the driver"


def ignore(_event: RunEvent) -> None:
    pass


def make_cuda_spec(out: Path, *prompts: str) -> RunSpec:
    spec = make_spec(out, *prompts)
    device = spec.plan.device.model_copy(update={"kind": "cuda"})
    return replace(spec, plan=replace(spec.plan, device=device))


class FallsAway:
    """A listener that takes the GPU away as soon as so many launches are done."""

    def __init__(self, marker: Path, message: str, after: int) -> None:
        self.marker, self.message, self.left = marker, message, after

    def __call__(self, event: RunEvent) -> None:
        self.left -= event.kind == "launched"
        if event.kind == "launched" and self.left == 0:
            self.marker.write_text(self.message)


@pytest.mark.parametrize(
    "message",
    [
        NO_DEVICE,
        "CUDA error: no CUDA-capable device is detected",
        "Failed to initialize NVML: Unknown Error",
        "CUDA error: unspecified launch failure",
        "CUDA failure 719: unspecified launch failure ; GPU=0 ; hostname=vm",
        "nvmlDeviceGetName: GPU is lost",
        "CUDA error: CUDA-capable device(s) is/are busy or unavailable",
    ],
)
def test_gpu_that_falls_away_stops_the_run_which_the_same_command_resumes(
    tmp_path: Path, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_ISOLATION", "fork")
    marker = tmp_path / "message"
    spec = make_cuda_spec(tmp_path / "out", "good", f"lost:{marker}", "good:3")

    with pytest.raises(EnvironmentLost, match="the GPU worked and is gone"):
        run(spec, FallsAway(marker, message, after=3))
    (folder,) = (tmp_path / "out").glob("fake-*")
    record = load_record(folder)
    assert record.ended == "interrupted"
    assert [type(result.outcome) for result in record.results] == [Succeeded] * 3

    marker.unlink()
    record = run(spec, ignore).record
    assert record.ended == "complete"
    assert [len(launches_of(result.outcome)) for result in record.results] == [2, 2, 2]


def test_first_launch_without_a_gpu_fails_as_before(tmp_path: Path) -> None:
    (tmp_path / "message").write_text(NO_DEVICE)
    record = run(make_cuda_spec(tmp_path / "out", f"lost:{tmp_path / 'message'}"), ignore).record
    assert isinstance(record.results[0].outcome, Failed)


def test_run_on_the_cpu_loses_no_gpu(tmp_path: Path) -> None:
    (tmp_path / "message").write_text(NO_DEVICE)
    record = run(make_spec(tmp_path / "out", "good", f"lost:{tmp_path / 'message'}"), ignore).record
    assert [type(result.outcome) for result in record.results] == [Succeeded, Failed]


def test_experiment_that_breaks_the_gpu_each_time_stops_the_run_only_once(tmp_path: Path) -> None:
    (tmp_path / "message").write_text("CUDA error: unspecified launch failure")
    spec = make_cuda_spec(tmp_path / "out", "good", f"lost:{tmp_path / 'message'}", "good:3")
    with pytest.raises(EnvironmentLost):
        run(spec, ignore)
    record = run(spec, ignore).record
    assert record.ended == "complete"
    assert [type(result.outcome) for result in record.results] == [Succeeded, Failed, Succeeded]


@pytest.mark.parametrize(
    ("message", "container", "hint"),
    [
        (NO_DEVICE, "docker", "daemon-reload"),
        (NO_DEVICE, "none", "Xid"),
        ("GPU is lost", "docker", "Xid"),
    ],
)
def test_each_cause_has_its_own_hint(message: str, container: str, hint: str) -> None:
    loss = find_loss(make_failed(message=message), container)
    assert hint in str(loss)
    assert "the same command then resumes" in str(loss)


@pytest.mark.parametrize("message", ["CUDA error: an illegal memory access was encountered", "no space left on device"])
def test_other_failures_are_the_experiments_own(message: str) -> None:
    assert find_loss(make_failed(message=message), "docker") is None


def test_worker_that_cannot_be_killed_stops_the_run_resumable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def wait_in_vain(worker: SpawnedWorker, timeout_s: float) -> None:
        worker._process.wait(timeout_s)  # reaped, but not seen to be

    monkeypatch.setenv("FAKE_ISOLATION", "spawn")
    spec = make_spec(tmp_path, "good")
    before = set(Path("/proc/self/fd").iterdir())
    with monkeypatch.context() as patch:
        patch.setattr(SpawnedWorker, "wait", wait_in_vain)
        with pytest.raises(EnvironmentLost, match=r"^process \d+ of this run cannot be killed"):
            run(spec, ignore)
    assert set(Path("/proc/self/fd").iterdir()) == before
    (folder,) = tmp_path.glob("fake-*")
    assert load_record(folder).ended == "interrupted"
    assert run(spec, ignore).folder == folder
    assert load_record(folder).ended == "complete"


class SilentTemplate:
    """A template that reports nothing, as one that waits for a worker that is stuck in the driver."""

    template_id = "0"
    return_code = None
    reaped = False

    def receive(self, _deadline_s: float) -> None:
        pass

    def reap(self) -> None:
        self.reaped = True

    def died(self, _event: Any) -> TemplateDied:
        return TemplateDied(-signal.SIGKILL, "", timed_out=True)


@pytest.fixture
def stuck(monkeypatch: pytest.MonkeyPatch) -> Iterator["subprocess.Popen[bytes]"]:
    """A process that signals do not reach."""
    monkeypatch.setattr(os, "killpg", lambda _pid, _signal: None)
    monkeypatch.setattr("sdbench.runner.template.os.kill", lambda _pid, _signal: None)
    monkeypatch.setattr(template, "DEATH_S", 0.0)
    process = subprocess.Popen(["cat"], stdin=subprocess.PIPE)
    yield process
    process.communicate()


def test_forked_worker_that_outlives_its_template_is_reported(stuck: "subprocess.Popen[bytes]") -> None:
    silent: Any = SilentTemplate()
    worker = ForkedWorker(silent, stuck.pid, Pipes(0, 0, 0), 0.0)
    with pytest.raises(EnvironmentLost, match=f"process {stuck.pid} of this run cannot be killed"):
        worker.kill()
    assert not silent.reaped


def test_forked_worker_that_died_with_its_silent_template_is_not_stuck(stuck: "subprocess.Popen[bytes]") -> None:
    silent: Any = SilentTemplate()
    worker = ForkedWorker(silent, stuck.pid, Pipes(0, 0, 0), 0.0)
    stuck.communicate()
    assert worker.kill() == -signal.SIGKILL


def test_template_that_cannot_be_killed_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    given = template.Template.__new__(template.Template)
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE) as process:
        given._process = process
        monkeypatch.setattr(template, "DEATH_S", 0.0)
        with pytest.raises(EnvironmentLost, match=f"process {process.pid} "):
            given._wait()


@pytest.mark.usefixtures("_both_isolations")
def test_lock_names_the_worker_so_that_the_next_run_sees_one_that_is_left(tmp_path: Path) -> None:
    spec = make_spec(tmp_path, "good")
    path = lock.LOCK_FOLDER / (hashlib.sha256(spec.plan.device.lock_key.encode()).hexdigest()[:16] + ".lock")
    noted: list[str] = []
    run(spec, lambda event: noted.append(path.read_text()) if event.kind == "sample" else None)
    workers = {text.splitlines()[1].split()[1] for text in noted}
    assert len(workers) == 2
    assert all(text.startswith(f"{os.getpid()} (fake.yaml") for text in noted)
