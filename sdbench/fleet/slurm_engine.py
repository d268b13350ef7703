"""A fleet on Slurm: one array job, a task for each kind, each on a node of its own.

All tasks of an array share their constraint, so the array is submitted on hold, each task is given the feature that is
its kind, and then the hold is removed.
"""

import contextlib
import re
import shlex
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from sdbench.errors import EnvironmentProblem
from sdbench.fleet.fleet import Event, Lost
from sdbench.fleet.node_job import CPU_KIND, NodeJob, NodeResult, read_result
from sdbench.store.files import write_whole

_POLL_S = 2.0
# How often the nodes are listed while a task waits: a waiting task is not urgent, and the controller serves many users.
_NODES_POLL_S = 10.0
# How much of the end of a log is searched for its last line.
_LOG_BYTES = 65_536
_TIMEOUT_S = 60
# A node in one of these states takes no work (scontrol's suffixes * ~ # mean not answering or powered down).
_UNUSABLE = re.compile(r"down|drain|fail|maint|unk|\*", re.IGNORECASE)
_FEATURE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:=-]*")
_NODE_LOST = ("NODE_FAIL", "BOOT_FAIL")
_WORKER_DIED = ("COMPLETED", "FAILED", "OUT_OF_MEMORY")
_ENDED = (*_NODE_LOST, *_WORKER_DIED, "CANCELLED", "TIMEOUT", "DEADLINE", "PREEMPTED", "REVOKED", "SPECIAL_EXIT")


class SlurmEngine:
    """The nodes of a Slurm cluster; a node's kind is its first feature, and ``cpu`` where it has none."""

    def __init__(self, out: Path, options: Sequence[str]) -> None:
        """Check that there is a cluster; ``out`` must be on a disk that all nodes share.

        Raises:
            EnvironmentProblem: Slurm's commands are missing, or its controller does not answer.
        """
        self._out, self._options = out.resolve(), tuple(options)
        self._waiting: list[tuple[NodeJob, str]] = []
        self._tasks: dict[str, tuple[NodeJob, str]] = {}
        self._reported: set[tuple[str, str]] = set()
        self._usable: frozenset[str] = frozenset()
        self._listed_s = 0.0
        call("sinfo", "--version")

    def nodes(self) -> Mapping[str, Sequence[str]]:
        """Return the names of the nodes that can work, by kind."""
        names: defaultdict[str, set[str]] = defaultdict(set)
        for line in call("sinfo", "-h", "-N", "-o", "%N|%f|%T").splitlines():
            name, features, state = line.split("|")
            if not _UNUSABLE.search(state):
                names[CPU_KIND if features == "(null)" else features.split(",")[0]].add(name)
        self._usable, self._listed_s = frozenset().union(*names.values()), time.monotonic()
        return {kind: sorted(of_kind) for kind, of_kind in names.items()}

    def start(self, job: NodeJob, node: str) -> None:
        """Queue a job; the next call of ``events`` submits the queue as one array job."""
        self._waiting.append((job, node))

    def events(self) -> Iterator[tuple[str, Event]]:
        """Yield the tasks' events since the last call; wait two seconds if there are none."""
        if self._waiting:
            self._submit()
        events = list(self._poll())
        if not events:
            time.sleep(_POLL_S)
        yield from events

    def clear(self, job: NodeJob, node: str) -> None:
        """Keep what a node wrote: it is in the fleet's own folder, next to its journal."""

    def close(self) -> str:
        """Return the command that cancels the array jobs that have not ended."""
        jobs = sorted({task.partition("_")[0] for task in self._tasks})
        return f"still running in Slurm; to cancel: scancel {' '.join(jobs)}" if jobs else ""

    def _poll(self) -> Iterator[tuple[str, Event]]:
        names = ",".join({job.fleet_id for job, _ in self._tasks.values()})
        states: dict[str, str] | None = None
        # Without an answer of the controller, what runs continues.
        with contextlib.suppress(EnvironmentProblem):
            listed = call("squeue", "-h", "-r", "-t", "all", f"--name={names}", "-o", "%i %T")
            answer = dict(line.split(maxsplit=1) for line in listed.splitlines())
            is_waiting = any(answer.get(task) == "PENDING" for task in self._tasks)
            if is_waiting and time.monotonic() - self._listed_s >= _NODES_POLL_S:
                self.nodes()
            states = answer
        for task, (job, node) in list(self._tasks.items()):
            # The controller forgets a task some time after its end.
            state = "no answer from the controller" if states is None else states.get(task, "COMPLETED")
            if state == "PENDING" and node not in self._usable:
                call("scancel", task)
                del self._tasks[task]
                yield job.kind, Lost("the machine is gone before it started", node_is_gone=True)
            elif state in _ENDED:
                del self._tasks[task]
                yield job.kind, self._outcome(job, node, state)
            else:
                for text in (state.lower(), self._last_line(job, node) if state == "RUNNING" else ""):
                    if text and (task, text) not in self._reported:
                        self._reported.add((task, text))
                        yield job.kind, text

    def _submit(self) -> None:
        jobs, self._waiting = self._waiting, []
        fleet_id = jobs[0][0].fleet_id
        folder = self._out / fleet_id
        for job, _ in jobs:
            if job.kind != CPU_KIND and not _FEATURE.fullmatch(job.kind):
                raise EnvironmentProblem(
                    f"--engine slurm: invalid feature name {job.kind!r}; expected letters, digits and _.:=-"
                )
        if not self._tasks:
            # Tasks that a killed driver left pending are submitted again here.
            call("scancel", "--state=PENDING", f"--jobname={fleet_id}")
        number = len(list(folder.glob("array-*.sh")))
        for index, (job, _) in enumerate(jobs):
            write_whole(folder / f"job-{number}-{index}.json", job.model_dump_json().encode())
        script = folder / f"array-{number}.sh"
        script.write_text(render_script(folder, number, len(jobs)), encoding="utf-8")
        # After the caller's options: the tasks are found by this name.
        options = [*self._options, f"--job-name={fleet_id}"]
        array = call("sbatch", "--parsable", "--hold", *options, str(script)).strip().partition(";")[0]
        try:
            for index, (job, node) in enumerate(jobs):
                task = f"{array}_{index}"
                # The node too, because another could not resume a run that this one started.
                features = [f"Features={job.kind}"] if job.kind != CPU_KIND else []
                call("scontrol", "update", f"JobId={task}", *features, f"ReqNodeList={node}")
                self._tasks[task] = (job, node)
            call("scontrol", "release", array)
        except BaseException:
            with contextlib.suppress(EnvironmentProblem):
                call("scancel", array)
            raise

    def _last_line(self, job: NodeJob, node: str) -> str:
        """The last complete line of a machine's log, which is its progress; empty while there is none."""
        log = self._work(job, node) / "log"
        try:
            with log.open("rb") as stream:
                stream.seek(max(0, log.stat().st_size - _LOG_BYTES))
                return stream.read().decode(errors="replace").rpartition("\n")[0].rpartition("\n")[2]
        except OSError:
            return ""

    def _outcome(self, job: NodeJob, node: str, state: str) -> Event:
        work = self._work(job, node)
        if (result := read_result(job.folder(work))) is not None:
            return result
        if state in _NODE_LOST:
            return Lost(f"the machine is gone ({state})", node_is_gone=True)
        if state in _WORKER_DIED:
            return Lost(f"its worker died ({state})", node_is_gone=False)
        return NodeResult(1, (), f"the Slurm task ended as {state}; see {work / 'log'}")

    def _work(self, job: NodeJob, node: str) -> Path:
        return self._out / job.fleet_id / "nodes" / node


def render_script(folder: Path, number: int, count: int) -> str:
    """Return the script of an array job of ``count`` tasks, each on a node that it has to itself.

    A node writes in a folder of its name, so that another node starts from scratch. The driver decides what follows the
    loss of a node, not Slurm.
    """
    return f"""#!/bin/bash
#SBATCH --array=0-{count - 1}
#SBATCH --nodes=1
#SBATCH --exclusive
#SBATCH --no-requeue
#SBATCH --output=/dev/null
folder={shlex.quote(str(folder))}
work=$folder/nodes/$SLURMD_NODENAME
mkdir -p "$work"
exec {shlex.quote(sys.executable)} -m sdbench.fleet.node_job \\
    "$folder/job-{number}-$SLURM_ARRAY_TASK_ID.json" "$work" >"$work/log" 2>&1
"""


def call(program: str, *arguments: str) -> str:
    """Return what one of Slurm's commands prints.

    Raises:
        EnvironmentProblem: it is missing, does not answer, or fails.
    """
    try:
        done = subprocess.run([program, *arguments], capture_output=True, text=True, timeout=_TIMEOUT_S)
    except FileNotFoundError:
        msg = f"--engine slurm: {program} is not installed; run this on a machine that submits to Slurm"
        raise EnvironmentProblem(msg) from None
    except subprocess.TimeoutExpired:
        raise EnvironmentProblem(f"--engine slurm: {program} does not answer; check the controller") from None
    if done.returncode != 0:
        text = " ".join(done.stderr.split())[:200]
        raise EnvironmentProblem(f"--engine slurm: {program} {arguments[0]} fails: {text}; check the cluster")
    return done.stdout
