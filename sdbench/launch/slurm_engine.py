"""A fleet on Slurm: one array job, an element for each kind, each on a node of its own.

All elements of an array share their constraint, so the array is submitted on hold, each element is given the feature
that its kind is, and then the hold is taken off.
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
from sdbench.launch.fleet import Event, Lost
from sdbench.launch.member import Member, Progress, Runs, read_end, read_last_words
from sdbench.store.files import write_whole

_POLL_S = 1.0
# Between looks at nodes that something waits for.
_LOOK_S = 10.0
# So much of the end of a log is looked at for how a machine gets on.
_LOG_BYTES = 65_536
_TIMEOUT_S = 60
# A node in one of these states takes no work (scontrol's suffixes * ~ # mean not answering or powered down).
_UNUSABLE = re.compile(r"down|drain|fail|maint|unk|\*", re.IGNORECASE)
_NO_FEATURE = "(null)"
_CPU_KIND = "cpu"
_FEATURE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:=-]*")
# What squeue says of a job that ended so long ago that the controller has dropped it.
_FORGOTTEN = "Invalid job id"
_FORGOTTEN_STATE = "COMPLETED"
_NODE_LOST = ("NODE_FAIL", "BOOT_FAIL")
_WORKER_DIED = ("COMPLETED", "FAILED", "OUT_OF_MEMORY")
_ENDED = (*_NODE_LOST, *_WORKER_DIED, "CANCELLED", "TIMEOUT", "DEADLINE", "PREEMPTED", "REVOKED", "SPECIAL_EXIT")


class SlurmEngine:
    """The nodes of a Slurm cluster; a node's kind is its first feature, and ``cpu`` where it has none."""

    def __init__(self, out: Path, options: Sequence[str]) -> None:
        """Make sure that there is a cluster; ``out`` must be on a disk that all nodes share.

        Raises:
            EnvironmentProblem: Slurm's commands are missing, or its controller does not answer.
        """
        self._out, self._options = out.resolve(), tuple(options)
        self._jobs: dict[str, tuple[Member, str]] = {}
        self._said: defaultdict[str, set[str]] = defaultdict(set)
        self._waiting: list[tuple[Member, str]] = []
        self._fleet_id = ""
        self._submitted = False
        self._look_again_s = 0.0
        call("sinfo", "--version")

    def nodes(self) -> Mapping[str, Sequence[str]]:
        """Return the names of the nodes that can work, by kind."""
        found: defaultdict[str, list[str]] = defaultdict(list)
        for line in call("sinfo", "-h", "-N", "-o", "%N|%f|%T").splitlines():
            name, features, state = line.split("|")
            if not _UNUSABLE.search(state):
                kind = _CPU_KIND if features == _NO_FEATURE else features.split(",")[0]
                if name not in found[kind]:
                    found[kind].append(name)
        return {kind: sorted(names) for kind, names in found.items() if names}

    def start(self, member: Member, node: str) -> None:
        """Note a member; all that were noted are one array job at the next look at events."""
        self._fleet_id = member.fleet_id
        self._waiting.append((member, node))

    def events(self) -> Iterator[tuple[str, Event]]:
        """Yield what the elements said since the last call; wait a second if they said nothing."""
        if self._waiting:
            self._submit(self._waiting)
            self._waiting = []
        heard = False
        for kind, event in self._look():
            heard = True
            yield kind, event
        if not heard:
            time.sleep(_POLL_S)

    def _look(self) -> Iterator[tuple[str, Event]]:
        states = self._states()
        gone = self._gone(states or {})
        for job, (member, node) in list(self._jobs.items()):
            # Without an answer of the controller what runs goes on.
            state = states.get(job, _FORGOTTEN_STATE) if states is not None else "Slurm's controller does not answer"
            if state == "PENDING" and node in gone:
                call("scancel", job)
                del self._jobs[job]
                yield member.kind, Lost("the machine is gone before it began", node_is_gone=True)
            elif state in _ENDED:
                del self._jobs[job]
                yield member.kind, self._end_of(member, node, state)
            else:
                for text in (state.lower(), self._progress_of(node) if state == "RUNNING" else ""):
                    if text and text not in self._said[job]:
                        self._said[job].add(text)
                        yield member.kind, Progress(text)

    def _gone(self, states: Mapping[str, str]) -> set[str]:
        """The nodes that elements wait for and that cannot work: looked for now and then, while something waits."""
        waiting = {node for job, (_, node) in self._jobs.items() if states.get(job) == "PENDING"}
        if not waiting or time.monotonic() < self._look_again_s:
            return set()
        self._look_again_s = time.monotonic() + _LOOK_S
        return waiting - {node for nodes in self.nodes().values() for node in nodes}

    def clear(self, member: Member, node: str) -> None:
        """Leave what Slurm's nodes wrote: it lies in the fleet's own folder, beside its journal."""

    def jobs(self) -> tuple[str, ...]:
        """Return the numbers of the array jobs that have not ended."""
        return tuple(sorted({element.partition("_")[0] for element in self._jobs}))

    def _submit(self, members: Sequence[tuple[Member, str]]) -> None:
        fleet_id = members[0][0].fleet_id
        folder = self._out / fleet_id
        features = [_feature(member.kind) for member, _ in members]
        if not self._submitted:
            # What a driver that was killed left waiting is asked for anew here.
            call("scancel", "--state=PENDING", f"--jobname={fleet_id}")
        number = len(list(folder.glob("array-*.sh")))
        for place, (member, _) in enumerate(members):
            write_whole(folder / f"member-{number}-{place}.json", member.model_dump_json().encode())
        script = folder / f"array-{number}.sh"
        script.write_text(render_script(fleet_id, folder, number, len(members)), encoding="utf-8")
        job = call("sbatch", "--parsable", "--hold", *self._options, str(script)).strip().partition(";")[0]
        self._submitted = True
        try:
            for place, (member, node) in enumerate(members):
                element = f"{job}_{place}"
                if features[place]:
                    call("scontrol", "update", f"JobId={element}", f"Features={features[place]}")
                # This machine, or a run that it began would not go on.
                call("scontrol", "update", f"JobId={element}", f"ReqNodeList={node}")
                self._jobs[element] = (member, node)
            call("scontrol", "release", job)
        except BaseException:
            with contextlib.suppress(EnvironmentProblem):
                call("scancel", job)
            raise

    def _states(self) -> dict[str, str] | None:
        """The states of our elements that Slurm still knows; None while its controller does not answer."""
        found: dict[str, str] = {}
        for job in self.jobs():
            try:
                listed = call("squeue", "-h", "-r", "-t", "all", "-j", job, "-o", "%i %T")
            except EnvironmentProblem as problem:
                if _FORGOTTEN in str(problem):
                    continue
                return None
            found |= dict(line.split(maxsplit=1) for line in listed.splitlines() if " " in line)
        return found

    def _progress_of(self, node: str) -> str:
        """What a machine's log says last of how it gets on; nothing while it says nothing."""
        try:
            with self._log(node).open("rb") as stream:
                stream.seek(max(0, self._log(node).stat().st_size - _LOG_BYTES))
                lines = stream.read().decode(errors="replace").split("\n")[:-1]
        except OSError:
            return ""
        return lines[-1] if lines else ""

    def _end_of(self, member: Member, node: str, state: str) -> Event:
        folder = self._place(node) / member.fleet_id / member.folder_name
        if (end := read_end(folder)) is not None:
            return end
        if (words := read_last_words(folder)) is not None:
            return Runs(words[0], (), words[1])
        if state in _NODE_LOST:
            return Lost(f"the machine is gone ({state})", node_is_gone=True)
        if state in _WORKER_DIED:
            return Lost(f"its worker died ({state})", node_is_gone=False)
        return Runs(1, (), f"Slurm says {state}; see {self._log(node)}")

    def _place(self, node: str) -> Path:
        return self._out / self._fleet_id / "nodes" / node

    def _log(self, node: str) -> Path:
        return self._place(node) / "log"


def render_script(fleet_id: str, folder: Path, number: int, count: int) -> str:
    """Return the script of an array job of ``count`` elements, each on a node that it has to itself.

    What a node writes lies in a folder of the node's name, so that another node starts anew. Where a node is lost the
    driver decides, not Slurm.
    """
    return f"""#!/bin/bash
#SBATCH --job-name={fleet_id}
#SBATCH --array=0-{count - 1}
#SBATCH --nodes=1
#SBATCH --exclusive
#SBATCH --no-requeue
#SBATCH --output=/dev/null
folder={shlex.quote(str(folder))}
place=$folder/nodes/$SLURMD_NODENAME
mkdir -p "$place"
exec {shlex.quote(sys.executable)} -m sdbench.launch.element \\
    "$folder/member-{number}-$SLURM_ARRAY_TASK_ID.json" "$place" >"$place/log" 2>&1
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


def _feature(kind: str) -> str:
    """The feature that a node of a kind has; none for what has no features.

    Raises:
        EnvironmentProblem: no feature can be called so.
    """
    if kind == _CPU_KIND:
        return ""
    if not _FEATURE.fullmatch(kind):
        raise EnvironmentProblem(f"--engine slurm: {kind!r} is no name of a feature; name nodes' features in letters")
    return kind
