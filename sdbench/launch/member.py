"""One machine of a fleet: run the manifest there, say how it goes, and hand over the sealed runs whole."""

import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Generator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from pydantic import ValidationError

from sdbench.backends.orphans import die_with
from sdbench.errors import RecordError
from sdbench.runner.ended import exit_code
from sdbench.schema.base import Model, sha256_of
from sdbench.store.bundle import load_record, parse_record, verify_files
from sdbench.store.files import write_whole
from sdbench.store.names import RECORD_NAME

_LINE_CHARACTERS = 500
_GRACE_S = 30.0
_END_NAME = "end.json"
_NAME = re.compile(r"[^A-Za-z0-9._-]")


class Member(Model):
    """What one machine of a fleet is to measure; ``image`` None runs without a container."""

    fleet_id: str
    kind: str
    manifest_name: str
    manifest_text: str
    arguments: tuple[str, ...]
    image: str | None

    @property
    def folder_name(self) -> str:
        """The member's kind as a name of a folder; kinds that differ in letters that names cannot have stay apart."""
        return f"{_NAME.sub('-', self.kind)[:100]}-{sha256_of(self.kind)[:6]}"


class _End(Model):
    """How a machine's command ended, kept beside its runs."""

    exit_code: int
    message: str


@dataclass(frozen=True)
class Progress:
    """What the machine is at, in words."""

    text: str


@dataclass(frozen=True)
class Runs:
    """The machine's end: exit code (negative for a signal), files of each sealed run by their paths, last words."""

    exit_code: int
    runs: tuple[dict[str, bytes], ...]
    message: str = ""


def member_command(manifest: Path, out: Path, member: Member) -> list[str]:
    """Return the command that measures on a machine: the same on every engine."""
    command = [sys.executable, "-m", "sdbench"]
    if member.image is None:
        return [*command, "run", str(manifest), "--out", str(out), "--json", *member.arguments]
    gpus = [] if member.kind == "cpu" else ["--gpus", "all"]
    # One word: what follows begins with a dash.
    arguments = [f"--args={shlex.join(member.arguments)}"] if member.arguments else []
    # A container outlives the process that started it; the next attempt on this machine finds it by this.
    launch_id = sha256_of([member.fleet_id, member.kind, str(out)])[:12]
    options = ["--launch-id", launch_id, "--out", str(out), *arguments]
    return [*command, "launch", str(manifest), "--image", member.image, *gpus, *options]


def work_folder() -> Path:
    """Return where a machine keeps the runs that are not collected yet."""
    state = os.environ.get("XDG_STATE_HOME") or "~/.local/state"
    return Path(os.environ.get("SDBENCH_FLEET_WORK") or Path(state).expanduser() / "sdbench" / "fleet")


def measure_member(member: Member, work: Path) -> Generator[Progress | Runs, None, None]:
    """Yield how the machine gets on, and at last its runs.

    What an earlier attempt on this machine finished is handed over, not measured again; what it began goes on. ``work``
    belongs to one machine: what another machine began there would be spliced.
    """
    folder = work / member.fleet_id / member.folder_name
    out = folder / "results"
    if (end := read_end(folder)) is not None:
        yield end
        return
    folder.mkdir(parents=True, exist_ok=True)
    manifest = folder / member.manifest_name
    manifest.write_text(member.manifest_text, encoding="utf-8")
    (folder / _END_NAME).unlink(missing_ok=True)
    process = subprocess.Popen(
        member_command(manifest, out, member),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        # In a container progress is told there.
        stderr=subprocess.STDOUT,
        # Where this process dies, nobody is left to collect what its child measures.
        preexec_fn=partial(die_with, os.getpid()),  # noqa: PLW1509
    )
    said = ""
    with process:
        try:
            for line in process.stdout or ():
                if text := describe_line(line):
                    yield Progress(text)
                    said = text
            code = process.wait()
        finally:
            # Told to end, a run seals what it has.
            process.terminate()
            try:
                process.wait(_GRACE_S)
            except subprocess.TimeoutExpired:
                process.kill()
    write_whole(folder / _END_NAME, _End(exit_code=code, message=said).model_dump_json().encode())
    yield Runs(code, sealed_runs(out), said)


def read_end(folder: Path) -> Runs | None:
    """Return what an attempt finished in its folder; None where it did not, so that the same command has to go on."""
    runs = sealed_runs(folder / "results")
    try:
        end = _End.model_validate_json((folder / _END_NAME).read_bytes())
    except (OSError, ValidationError):
        # A run that is sealed is whole, though its process died before it could say so.
        return Runs(exit_code(parse_record(runs[0][RECORD_NAME], str(folder))), runs) if runs else None
    return Runs(end.exit_code, runs, end.message) if runs else None


def read_last_words(folder: Path) -> tuple[int, str] | None:
    """Return the exit code and the last words of an attempt whose command ended, though it gave no run."""
    try:
        end = _End.model_validate_json((folder / _END_NAME).read_bytes())
    except (OSError, ValidationError):
        return None
    return end.exit_code, end.message


def sealed_runs(out: Path) -> tuple[dict[str, bytes], ...]:
    """Return the files of each whole run in a folder, by their paths; a run that is not complete is none."""
    found = []
    for path in sorted(out.glob(f"*/{RECORD_NAME}")):
        try:
            record = load_record(path.parent)
            verify_files(path.parent, record)
        except RecordError:
            continue
        if record.ended == "complete":
            names = [RECORD_NAME, *(file.path for file in record.files)]
            found.append({name: (path.parent / name).read_bytes() for name in names})
    return tuple(found)


def describe_line(line: bytes) -> str:
    """Return what a line of ``sdbench run --json`` says to people; nothing for samples and stages, which are many."""
    try:
        event = json.loads(line)
    except ValueError:
        text = line.decode(errors="replace").strip()[:_LINE_CHARACTERS]
        # Where the machine keeps them until they are collected.
        return "" if text.startswith(("record  ", "report  ")) else text
    if not isinstance(event, dict) or event.get("kind") not in ("launch", "launched", "ended", "waiting"):
        return ""
    return f"{event.get('done_count', 0)}/{event.get('total_count', 0)} {event.get('text', '')}"
