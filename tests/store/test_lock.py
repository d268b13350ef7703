import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from sdbench.errors import EnvironmentProblem
from sdbench.store.lock import hold_device, hold_file

TAKE = """
import sys
from pathlib import Path
from sdbench.store.lock import hold_device
with hold_device("gpu", lambda who: print("waiting for", who, flush=True), Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


def take(folder: Path) -> "subprocess.Popen[str]":
    arguments = [sys.executable, "-c", TAKE, str(folder)]
    return subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def test_second_holder_waits_until_the_first_is_done(tmp_path: Path) -> None:
    with hold_device("gpu", lambda _who: None, tmp_path):
        other = take(tmp_path)
        assert other.stdout is not None
        assert other.stdout.readline() == f"waiting for process {os.getpid()}\n"
    output, _ = other.communicate(timeout=30)
    assert output == "held\n"
    assert len(list(tmp_path.iterdir())) == 1, "the lock file is kept"


def test_file_that_is_held_is_refused_or_waited_for(tmp_path: Path) -> None:
    path = tmp_path / ".lock"
    with (
        hold_file(path),
        pytest.raises(EnvironmentProblem, match="held by a test"),
        hold_file(path, refusal="held by a test"),
    ):
        pytest.fail("two holders of one lock")
    with ThreadPoolExecutor(1) as pool:
        with hold_file(path):
            other = pool.submit(lambda: hold_file(path).__enter__())
            with pytest.raises(TimeoutError):
                other.result(timeout=0.2)
        assert other.result(timeout=30) is None


def test_two_devices_do_not_wait_for_each_other(tmp_path: Path) -> None:
    waited: list[str] = []
    with hold_device("a", waited.append, tmp_path), hold_device("b", waited.append, tmp_path):
        assert waited == []


def test_lock_of_a_holder_that_is_killed_is_free(tmp_path: Path) -> None:
    other = take(tmp_path)
    assert other.stdout is not None
    assert other.stdout.readline() == "held\n"
    waited: list[str] = []

    def give_up(holder: str) -> None:
        waited.append(holder)
        raise TimeoutError

    with pytest.raises(TimeoutError), hold_device("gpu", give_up, tmp_path):
        pytest.fail("two processes hold one lock")
    assert waited == [f"process {other.pid}"]
    other.kill()
    other.communicate(timeout=30)
    with hold_device("gpu", waited.append, tmp_path):
        assert len(waited) == 1


def test_worker_that_outlives_its_run_keeps_the_device_from_the_next_one(tmp_path: Path) -> None:
    waited: list[str] = []
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE) as worker:
        with hold_device("gpu", waited.append, tmp_path) as note_worker:
            note_worker(worker.pid)
        for _ in range(2):
            with (
                pytest.raises(EnvironmentProblem, match=rf"^process {worker.pid}, a worker of an earlier run, still"),
                hold_device("gpu", waited.append, tmp_path, worker_death_s=0.0),
            ):
                pytest.fail("measured next to a stuck worker")
        worker.communicate()
    with hold_device("gpu", waited.append, tmp_path, worker_death_s=0.0):
        assert waited == []


def test_process_that_only_has_the_number_of_an_old_worker_is_not_waited_for(tmp_path: Path) -> None:
    with hold_device("gpu", lambda _who: None, tmp_path):
        (path,) = tmp_path.iterdir()
    path.write_text(f"1 (a.yaml)\nworker {os.getpid()} 1")
    with hold_device("gpu", lambda _who: None, tmp_path, worker_death_s=0.0):
        assert path.read_text() == str(os.getpid())


def test_those_who_wait_are_shown_the_holder_and_not_its_worker(tmp_path: Path) -> None:
    waited: list[str] = []

    def give_up(holder: str) -> None:
        waited.append(holder)
        raise TimeoutError

    with hold_device("gpu", waited.append, tmp_path, purpose=lambda: "a.yaml") as note_worker:
        note_worker(os.getpid())
        with pytest.raises(TimeoutError), hold_device("gpu", give_up, tmp_path):
            pytest.fail("two holders of one lock")
    assert waited == [f"process {os.getpid()} (a.yaml)"]


@pytest.mark.skipif(os.getuid() != 0, reason="only root can give a file to another user")
def test_lock_file_of_another_user_in_a_sticky_folder_can_be_held(tmp_path: Path) -> None:
    folder = tmp_path / "locks"
    waited: list[str] = []
    for _ in range(2):
        with hold_device("gpu", waited.append, folder):
            assert waited == []
        (path,) = folder.iterdir()
        os.chown(path, 65534, 65534)
    assert folder.stat().st_mode & 0o7777 == 0o1777
    assert path.stat().st_mode & 0o777 == 0o666
