"""What a killed or interrupted supervisor leaves behind, with real signals and real processes."""

import os
import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from sdbench.store.bundle import load_record, verify_files
from sdbench.store.journal import read_journal
from tests.runner.setups import REPOSITORY

pytestmark = pytest.mark.usefixtures("_both_isolations")

DEATH_S = 20
DRIVER = Path(__file__).with_name("drive.py")


class Driven:
    """A supervisor in a process of its own, stopped at the moment when its second experiment hangs."""

    def __init__(self, folder: Path) -> None:
        self.out = folder / "out"
        self.fifo = folder / "fifo"
        os.mkfifo(self.fifo)
        self.process = self.start()
        self.worker_pid = int(self.fifo.read_text())
        self.worker = os.pidfd_open(self.worker_pid)

    def start(self) -> "subprocess.Popen[str]":
        return subprocess.Popen(
            [sys.executable, str(DRIVER), str(self.out), str(self.fifo)],
            env=os.environ | {"PYTHONPATH": str(REPOSITORY)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def worker_is_dead(self) -> bool:
        return bool(select.select([self.worker], [], [], DEATH_S)[0])

    def finish(self) -> str:
        self.fifo.unlink()
        with self.start() as again:
            output, errors = again.communicate(timeout=60)
        assert not errors
        return output


@pytest.fixture
def driven(tmp_path: Path) -> Iterator[Driven]:
    started = Driven(tmp_path)
    yield started
    os.close(started.worker)
    started.process.kill()
    started.process.communicate()


def test_kill_9_of_the_supervisor_leaves_no_orphan_and_loses_no_finished_launch(driven: Driven) -> None:
    driven.process.kill()
    driven.process.wait()
    assert driven.worker_is_dead()
    (journal,) = driven.out.glob("*/journal.jsonl")
    before, _ = read_journal(journal)
    assert [entry["kind"] for entry in before] == ["start", "ceilings", "launch"]
    assert "ended complete" in driven.finish()
    after, _ = read_journal(journal)
    assert after[: len(before)] == before
    assert [entry["kind"] for entry in after[len(before) :]] == ["resume", "launch", "launch", "launch", "ceilings"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupt_kills_the_worker_and_seals_what_is_there(driven: Driven, number: signal.Signals) -> None:
    driven.process.send_signal(number)
    output, errors = driven.process.communicate(timeout=30)
    assert not errors
    assert "ended interrupted" in output
    assert driven.worker_is_dead()
    (folder,) = driven.out.iterdir()
    record = load_record(folder)
    verify_files(folder, record)
    assert record.ended == "interrupted"
    assert "ended complete" in driven.finish()
    assert load_record(folder).ended == "complete"
