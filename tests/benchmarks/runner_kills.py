"""What is left when a run's supervisor, template or worker is killed: nothing acknowledged lost, no orphan, resumable.

Real processes and pipes, with workers that measure nothing: ``python -m tests.benchmarks.runner_kills [TRIALS]``.
"""

import os
import random
import secrets
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from sdbench.runner.events import RunEvent
from sdbench.runner.run import run
from sdbench.store.bundle import load_record, verify_files
from sdbench.store.journal import cut_torn_tail
from tests.benchmarks.bars import Bar
from tests.runner.setups import make_spec

TRIALS = 200
SEED = 7
VARIABLE = "SDBENCH_KILL_TRIAL"
EXPERIMENTS = ("good", "good:2", "good:3")
# A process that the kernel has been asked to kill is gone within milliseconds; a busy machine takes longer.
_GONE_S = 10.0
TARGETS = ("supervisor", "template", "worker")


def measure_runner_kills(trials: int = TRIALS) -> list[Bar]:
    """Return for each kind of process how many of ``trials`` kills left something wrong."""
    bars = []
    for depth, target in enumerate(TARGETS):
        source = random.Random(SEED)
        wrong: list[str] = []
        kills = 0
        whole_s = _try(0, 60.0)[2]
        while kills < trials:
            killed, problems, _ = _try(depth, source.uniform(0, whole_s))
            kills += killed
            wrong += problems
        measured = f"{len(wrong)} wrong of {kills} kills"
        bars.append(Bar(f"kill -9 of a run's {target}", measured, "0 wrong", not wrong))
        sys.stderr.writelines(f"{target}: {problem}\n" for problem in wrong)
    return bars


def _try(depth: int, after_s: float) -> tuple[bool, list[str], float]:
    """Kill the process at a depth below the driver after a time (s); return if so, what is wrong, and its time (s)."""
    mark = secrets.token_hex(8)
    environment = os.environ | {VARIABLE: mark, "PYTHONPATH": str(Path(__file__).parents[2])}
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "tests.benchmarks.runner_kills", "drive", folder]
        driver = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
        if driver.stdout is None:
            raise RuntimeError("the driver was started without a pipe")
        # The imports of the driver are not what is to be hit.
        driver.stdout.readline()
        started_s = time.monotonic()
        killed = False
        while driver.poll() is None and not killed:
            if time.monotonic() - started_s >= after_s:
                killed = _kill(driver.pid, depth)
            time.sleep(0.001)
        lines = driver.stdout.read().splitlines()
        driver.wait()
        wall_s = time.monotonic() - started_s
        wrong = [f"process {pid} outlived its run" for pid in _survivors(mark)]
        return killed, [*wrong, *_check(Path(folder), [line for line in lines if line.startswith("launched")])], wall_s


def _check(folder: Path, acknowledged: list[str]) -> Iterator[str]:
    for journal in folder.glob("*/journal.jsonl"):
        kept = sum(entry["kind"] == "launch" for entry in cut_torn_tail(journal))
        if kept < len(acknowledged):
            yield f"{len(acknowledged)} launches were acknowledged and {kept} kept"
    record = run(make_spec(folder, *EXPERIMENTS), lambda _event: None).record
    if record.ended != "complete":
        yield f"the run ended {record.ended}"
    for path in folder.glob("*/record.json"):
        verify_files(path.parent, load_record(path.parent))


def _kill(pid: int, depth: int) -> bool:
    """Kill the process, its child or its grandchild; return whether there was one."""
    try:
        for _ in range(depth):
            children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
            pid = int(children[0])
        os.kill(pid, signal.SIGKILL)
    except (OSError, IndexError):
        return False
    return True


def _survivors(mark: str) -> list[int]:
    """Return the processes of a trial that still live some time after its driver has ended."""
    deadline_s = time.monotonic() + _GONE_S
    while (pids := list(_marked(mark))) and time.monotonic() < deadline_s:
        time.sleep(0.01)
    return pids


def _marked(mark: str) -> Iterator[int]:
    for path in Path("/proc").glob("[0-9]*/environ"):
        try:
            if f"{VARIABLE}={mark}".encode() in path.read_bytes():
                yield int(path.parent.name)
        except OSError:
            continue


def _drive(folder: str) -> None:
    def acknowledge(event: RunEvent) -> None:
        sys.stdout.write(f"{event.kind} {event.text}\n")
        sys.stdout.flush()

    sys.stdout.write("ready\n")
    sys.stdout.flush()
    run(make_spec(Path(folder), *EXPERIMENTS), acknowledge)


if __name__ == "__main__":
    if sys.argv[1:2] == ["drive"]:
        _drive(sys.argv[2])
    else:
        os.environ["PYTHONPATH"] = str(Path(__file__).parents[2])
        for bar in measure_runner_kills(int(sys.argv[1]) if sys.argv[1:] else TRIALS):
            sys.stdout.write(f"{bar.name}: {bar.measured} ({bar.bar})\n")
