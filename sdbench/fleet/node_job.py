"""One machine of a fleet: run the manifest there, report progress, and return the sealed runs.

``python -m sdbench.fleet.node_job JOB.json WORK`` is a task of Slurm's, which prints its progress.
"""

import os
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from sdbench import exit_codes
from sdbench.errors import RecordError
from sdbench.processes import die_with
from sdbench.runner.events import read_line
from sdbench.runner.interrupts import interrupts_held, terminate_as_interrupt
from sdbench.runner.outcome import exit_code
from sdbench.schema.base import Model, sha256_of
from sdbench.store.bundle import load_record, parse_record, verify_files
from sdbench.store.files import write_whole
from sdbench.store.layout import RECORD_NAME

# The kind of a machine without a GPU, under every engine.
CPU_KIND = "cpu"
_GRACE_S = 30.0
# Holds the exit code and, from the next line on, the last line of output.
_END_NAME = "end.txt"
_NAME = re.compile(r"[^A-Za-z0-9._-]")


class NodeJob(Model):
    """What one machine of a fleet measures; with ``image`` None outside a container."""

    fleet_id: str
    kind: str
    manifest_name: str
    manifest_text: str
    arguments: tuple[str, ...]
    image: str | None

    def folder(self, work: Path) -> Path:
        """Return the job's folder in ``work``; kinds that differ only in characters that names cannot have differ."""
        return work / self.fleet_id / f"{_NAME.sub('-', self.kind)[:100]}-{sha256_of(self.kind)[:6]}"


@dataclass(frozen=True)
class NodeResult:
    """How the command ended: exit code (negative: a signal), files of each sealed run by path, last line of output."""

    exit_code: int
    runs: tuple[dict[str, bytes], ...]
    message: str = ""


def device_options(kind: str) -> list[str]:
    """Return what a machine of a kind is asked to measure on, unless a later option names a device.

    A machine for its GPU whose GPU cannot be used fails, instead of measuring its CPU.
    """
    return ["--device", "cpu" if kind == CPU_KIND else "cuda"]


def job_command(manifest: Path, out: Path, job: NodeJob) -> list[str]:
    """Return the command that measures on a machine, under every engine."""
    command = [sys.executable, "-m", "sdbench", "run", str(manifest), "--out", str(out)]
    arguments = [*device_options(job.kind), *job.arguments]
    if job.image is None:
        return [*command, "--json", *arguments]
    gpus = [] if job.kind == CPU_KIND else ["--gpus", "all"]
    # A container outlives the process that started it; the next attempt on this machine finds it by this id.
    schedule_id = sha256_of([job.fleet_id, job.kind, str(out)])[:12]
    return [*command, "--image", job.image, *gpus, "--schedule-id", schedule_id, *arguments]


def measure(job: NodeJob, work: Path) -> Iterator[str | NodeResult]:
    """Yield the machine's progress as text, then its result.

    Runs that an earlier attempt on this machine finished are returned, not measured again; an unfinished run is
    resumed. ``work`` belongs to one machine, because a run that another one started there would be resumed too.
    """
    folder = job.folder(work)
    if (result := read_result(folder)) and result.runs:
        yield result
        return
    folder.mkdir(parents=True, exist_ok=True)
    manifest = folder / job.manifest_name
    manifest.write_text(job.manifest_text, encoding="utf-8")
    (folder / _END_NAME).unlink(missing_ok=True)
    last_line = ""
    with ExitStack() as stack:
        # preexec_fn makes Popen run the hooks of os.fork (logging has one), in which Python drops a KeyboardInterrupt.
        with interrupts_held():
            process = subprocess.Popen(
                job_command(manifest, folder / "results", job),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,  # where sdbench run --image reports progress
                encoding="utf-8",
                errors="replace",
                preexec_fn=partial(die_with, os.getpid()),  # noqa: PLW1509 - nobody else would collect its runs
            )
            stack.enter_context(process)
            stack.callback(_terminate, process)
        for line in process.stdout or ():
            _, text = read_line(line)
            # Those are paths on the machine, from which the runs are collected.
            if text and not text.startswith(("record  ", "report  ")):
                yield text
                last_line = text
        code = process.wait()
    write_whole(folder / _END_NAME, f"{code}\n{last_line}".encode())
    yield NodeResult(code, sealed_runs(folder / "results"), last_line)


def _terminate(process: "subprocess.Popen[str]") -> None:
    """End a process; a run that is asked to stop seals the record with the launches so far."""
    process.terminate()
    try:
        process.wait(_GRACE_S)
    except subprocess.TimeoutExpired:
        process.kill()


def read_result(folder: Path) -> NodeResult | None:
    """Return how an attempt in a folder ended; None if it did not, so that the same command has to resume it."""
    runs = sealed_runs(folder / "results")
    try:
        code, _, last_line = (folder / _END_NAME).read_text(encoding="utf-8").partition("\n")
    except FileNotFoundError:
        # A sealed run is complete even if its process died before it wrote its end.
        return NodeResult(exit_code(parse_record(runs[0][RECORD_NAME], str(folder))), runs) if runs else None
    return NodeResult(int(code), runs, last_line)


def sealed_runs(out: Path) -> tuple[dict[str, bytes], ...]:
    """Return the files of each complete run in a folder, by their paths in the run."""
    runs = []
    for path in sorted(out.glob(f"*/{RECORD_NAME}")):
        try:
            record = load_record(path.parent)
            verify_files(path.parent, record)
        except RecordError:
            continue
        if record.ended == "complete":
            names = [RECORD_NAME, *(file.path for file in record.files)]
            runs.append({name: (path.parent / name).read_bytes() for name in names})
    return tuple(runs)


def main(arguments: Sequence[str]) -> int:
    """Measure in the folder ``WORK``, which belongs to this machine, and return the exit code of ``sdbench run``."""
    job = NodeJob.model_validate_json(Path(arguments[0]).read_bytes())
    try:
        with terminate_as_interrupt():
            for event in measure(job, Path(arguments[1])):
                if isinstance(event, NodeResult):
                    return event.exit_code if event.exit_code >= 0 else exit_codes.of_signal(-event.exit_code)
                sys.stdout.write(f"{event}\n")
                sys.stdout.flush()
    except KeyboardInterrupt:
        pass
    return exit_codes.INTERRUPTED


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
