"""The schedule of one host, on an engine whose containers end as the test prescribes."""

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from sdbench.containers import schedule
from sdbench.containers.engine import Engine, LostConnection
from sdbench.containers.jobs import Finished, Job, finish_container
from sdbench.containers.schedule import HostRun

WEIGHTS_PRESENT = Finished("failed", 0, "it ended with status 0")
WEIGHTS_MISSING = Finished("failed", 1, "missing")
PAUSED, COMPLETE = Finished("paused", 0), Finished("complete", 0)


def make_job(number: int) -> Job:
    return Job(
        schedule_id="s",
        number=number,
        image=f"image{number}",
        image_id="sha256:0",
        manifest_name="m.yaml",
        arguments=(),
        gpus="",
        cpus="",
        memory="",
        rounds=1,
    )


class Host:
    """A run of a host whose containers end in order as prescribed, and a log of what was done."""

    def __init__(self, patch: pytest.MonkeyPatch, ends: Iterable[Finished | Exception], images: int = 2) -> None:
        self.log: list[str] = []
        remaining = iter(ends)

        def create(_engine: Engine, job: Job, command: list[str], *_: Any) -> Any:
            self.log.append(f"{' '.join(word for word in command if word in ('run', 'fetch', '--check'))} {job.image}")
            return SimpleNamespace(start=lambda: None)

        def finish(*_: Any) -> Finished:
            if isinstance(end := next(remaining), Exception):
                raise end
            return end

        def collect(_engine: Engine, job: Job, _out: Path, suffix: str) -> list[Path]:
            self.log.append(f"collect {job.image}")
            return [Path(f"run{suffix}")]

        patch.setattr(schedule, "create_container", create)
        patch.setattr(schedule, "finish_container", finish)
        patch.setattr(schedule, "collect", collect)
        client = SimpleNamespace(volumes=SimpleNamespace(create=lambda *_, **__: None))
        engine: Any = Engine.__new__(Engine)
        engine.host, engine.name, engine.client = None, "this host", client
        jobs = [make_job(number) for number in range(images)]
        self.run = HostRun(engine, jobs, b"manifest", Path("out"), self.log.append, several=images > 1)


def test_images_are_interleaved_and_then_collected(monkeypatch: pytest.MonkeyPatch) -> None:
    host = Host(monkeypatch, [WEIGHTS_PRESENT] * 2 + [PAUSED] * 38 + [COMPLETE] * 2)
    host.run.run()
    order = "".join(line.removeprefix("run image") for line in host.log if line.startswith("run"))
    blocks = [order[start : start + 4] for start in range(0, len(order), 4)]
    assert set(blocks) == {"0110", "1001"}
    assert 2 * abs(blocks.count("0110") - blocks.count("1001")) <= len(blocks)
    assert host.log[-2:] == ["collect image0", "collect image1"]
    assert (host.run.problems, host.run.exit_codes) == ([], [0, 0])
    assert host.run.folders == [Path("run-image0"), Path("run-image1")]


def test_fetched_weights_are_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    host = Host(monkeypatch, [WEIGHTS_MISSING, WEIGHTS_PRESENT, COMPLETE], images=1)
    host.run.run()
    assert host.log == ["fetch --check image0", "fetching weights", "fetch image0", "run image0", "collect image0"]
    assert host.run.exit_codes == [0]


def test_weights_that_cannot_be_fetched_are_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    host = Host(monkeypatch, [WEIGHTS_MISSING, WEIGHTS_MISSING], images=1)
    host.run.run()
    assert host.run.problems == ["this host: the weights cannot be fetched: missing"]
    assert host.run.exit_codes == [3]


@pytest.mark.parametrize("error", [LostConnection("lost this host"), OSError("lost this host")])
def test_lost_engine_keeps_the_records_for_attach(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    host = Host(monkeypatch, [WEIGHTS_PRESENT, error], images=1)
    host.run.run()
    assert "collect image0" not in host.log
    assert "lost this host" in host.run.problems[0]
    assert host.run.exit_codes == [3]


def test_refusal_of_the_engine_is_not_a_lost_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    errors = pytest.importorskip("docker.errors")
    host = Host(monkeypatch, [WEIGHTS_PRESENT, errors.APIError("no space left on device")], images=1)
    host.run.run()
    assert "collect image0" in host.log
    (problem,) = host.run.problems
    assert problem.startswith("this host: the disk is full")
    assert "--attach" not in problem
    assert host.run.exit_codes == [3]


def test_stopped_run_starts_nothing_more_and_collects(monkeypatch: pytest.MonkeyPatch) -> None:
    host = Host(monkeypatch, [WEIGHTS_PRESENT] * 2)
    host.run.stop()
    host.run.run()
    assert host.log == ["collect image0", "collect image1"]


@pytest.mark.parametrize(
    ("event", "code", "finished"),
    [
        ({"kind": "written", "ended": "complete"}, 0, Finished("complete", 0)),
        ({"kind": "sample"}, 0, Finished("failed", 0, "no CUDA here")),
        ({"kind": "sample"}, 2, Finished("failed", 2, "no CUDA here")),
    ],
)
def test_end_of_a_container_is_read_from_its_output(event: dict[str, str], code: int, finished: Finished) -> None:
    lines = ["sdbench: no CUDA here", json.dumps({"kind": "launch", "text": "launch 1"}), json.dumps(event), ""]
    container = SimpleNamespace(id="1", attrs={"State": {"ExitCode": code}})

    def follow(_id: str, show: Callable[[str], None]) -> None:
        for line in lines:
            show(line)

    client = SimpleNamespace(containers=SimpleNamespace(get=lambda _: container))
    engine: Any = SimpleNamespace(client=client, follow=follow, remove=lambda _: None)
    progress: list[str] = []
    assert finish_container(engine, container, progress.append) == finished
    assert progress == ["launch 1"]


def test_run_that_fails_with_exit_code_zero_has_not_succeeded(monkeypatch: pytest.MonkeyPatch) -> None:
    host = Host(monkeypatch, [WEIGHTS_PRESENT, Finished("failed", 0, "it ended with status 0")], images=1)
    host.run.run()
    assert host.run.exit_codes == [3]
