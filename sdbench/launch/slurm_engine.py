"""A fleet on Slurm: one array job, an element for each kind, each on a node of its own.

All elements of an array share their constraint, so the array is submitted on hold, each element is given the feature
that its kind is, and then the hold is taken off.
"""

import re
import shlex
import signal
import subprocess
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from sdbench.errors import EnvironmentProblem
from sdbench.launch.fleet import Event, Lost
from sdbench.launch.member import Member, Progress, Runs, describe_line, member_command, sealed_runs

_POLL_S = 1.0
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
# Stands for the folder that only the node knows.
_PLACE = Path("PLACE")
_CODE_NAME = "exit-code"
# A shell adds this to the number of a signal.
_SHELL_SIGNAL = 128
_ASKED_TO_END = (_SHELL_SIGNAL + signal.SIGINT, _SHELL_SIGNAL + signal.SIGTERM)
_NODE_LOST = ("NODE_FAIL", "BOOT_FAIL")


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
        self._waiting.append((member, node))

    def events(self) -> Iterator[tuple[str, Event]]:
        """Yield what the elements said since the last call; wait a second if they said nothing."""
        if self._waiting:
            self._submit(self._waiting)
            self._waiting = []
        states = self._states()
        if states is None:
            # The controller does not answer; what runs goes on.
            time.sleep(_POLL_S)
            return
        quiet = True
        for job, (member, node) in list(self._jobs.items()):
            state = states.get(job, "COMPLETED")
            if state in ("PENDING", "CONFIGURING", "RUNNING", "COMPLETING", "SUSPENDED"):
                for text in (state.lower(), self._progress_of(member, node) if state == "RUNNING" else ""):
                    if text and text not in self._said[job]:
                        self._said[job].add(text)
                        quiet = False
                        yield member.kind, Progress(text)
                continue
            del self._jobs[job]
            quiet = False
            yield member.kind, self._end_of(member, node, state)
        if quiet:
            time.sleep(_POLL_S)

    def clear(self, member: Member, node: str) -> None:
        """Leave what Slurm's nodes wrote: it lies in the fleet's own folder, beside its journal."""

    def jobs(self) -> tuple[str, ...]:
        """Return the numbers of the array jobs that have not ended."""
        return tuple(sorted({element.partition("_")[0] for element in self._jobs}))

    def _submit(self, members: Sequence[tuple[Member, str]]) -> None:
        folder = self._out / members[0][0].fleet_id
        script = folder / f"array-{len(list(folder.glob('array-*.sh')))}.sh"
        script.write_text(render_script([member for member, _ in members], folder), encoding="utf-8")
        for member, _ in members:
            (folder / member.manifest_name).write_text(member.manifest_text, encoding="utf-8")
        job = call("sbatch", "--parsable", "--hold", *self._options, str(script)).strip().partition(";")[0]
        for number, (member, node) in enumerate(members):
            element = f"{job}_{number}"
            if member.kind != _CPU_KIND:
                call("scontrol", "update", f"JobId={element}", f"Features={_feature(member.kind)}")
            # This machine, or a run that it began would not go on.
            call("scontrol", "update", f"JobId={element}", f"ReqNodeList={node}")
            self._jobs[element] = (member, node)
        call("scontrol", "release", job)

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

    def _progress_of(self, member: Member, node: str) -> str:
        """What a machine's log says last of how it gets on; nothing while it says nothing."""
        log = self._out / member.fleet_id / member.folder_name / node / "log"
        try:
            with log.open("rb") as stream:
                stream.seek(max(0, log.stat().st_size - _LOG_BYTES))
                lines = stream.read().split(b"\n")[:-1]
        except OSError:
            return ""
        return next((text for line in reversed(lines) if line[:1] == b"{" and (text := describe_line(line))), "")

    def _end_of(self, member: Member, node: str, state: str) -> Event:
        folder = self._out / member.fleet_id
        places = sorted(folder.glob(f"{member.folder_name}/*/results"))
        # Of attempts on several nodes the one that ended is whole.
        found = next((runs for place in places if (runs := sealed_runs(place))), ())
        if found:
            return Runs(0 if state == "COMPLETED" else 1, found)
        if state in _NODE_LOST:
            return Lost(f"the machine is gone ({state})", node_is_gone=True)
        logs = sorted(folder.glob(f"{member.folder_name}/*/log"))
        message = logs[-1].read_text(encoding="utf-8", errors="replace")[-2000:].strip() if logs else ""
        code = self._exit_code(member, node) if state == "FAILED" else 1
        return Runs(code, (), message or f"Slurm says {state}; see {folder}")

    def _exit_code(self, member: Member, node: str) -> int:
        """What a machine's command ended with, negative where a signal ended it."""
        try:
            code = int((self._out / member.fleet_id / member.folder_name / node / _CODE_NAME).read_text())
        except (OSError, ValueError):
            return 1
        return _SHELL_SIGNAL - code if code > _SHELL_SIGNAL and code not in _ASKED_TO_END else code


def render_script(members: Sequence[Member], folder: Path) -> str:
    """Return the script of an array job: element N measures the N-th kind, on a node that it has to itself.

    What a node writes lies in a folder of the node's name, so that another node starts anew. Where a node is lost the
    driver decides, not Slurm.
    """
    fleet_id = members[0].fleet_id
    cases = "\n".join(
        f"{number}) kind={shlex.quote(member.folder_name)}; measure() {{ exec {_command_line(member, folder)}; }} ;;"
        for number, member in enumerate(members)
    )
    return f"""#!/bin/bash
#SBATCH --job-name={fleet_id}
#SBATCH --array=0-{len(members) - 1}
#SBATCH --nodes=1
#SBATCH --exclusive
#SBATCH --no-requeue
#SBATCH --output=/dev/null
case $SLURM_ARRAY_TASK_ID in
{cases}
esac
place={shlex.quote(str(folder))}/$kind/$SLURMD_NODENAME
mkdir -p "$place"
# A driver that was killed asks again for what this machine may have finished meanwhile.
if compgen -G "$place/results/*/record.json" >/dev/null; then exit 0; fi
( measure >"$place/log" 2>&1 )
code=$?
echo $code >"$place/{_CODE_NAME}"
exit $code
"""


def _command_line(member: Member, folder: Path) -> str:
    command = member_command(folder / member.manifest_name, _PLACE, member)
    return " ".join('"$place/results"' if word == str(_PLACE) else shlex.quote(word) for word in command)


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
    if not _FEATURE.fullmatch(kind):
        raise EnvironmentProblem(f"--engine slurm: {kind!r} is no name of a feature; name nodes' features in letters")
    return kind
