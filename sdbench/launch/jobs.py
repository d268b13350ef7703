"""A manifest over images and hosts: one job for each pair, its container runs, and the record it leaves."""

import json
import os
import re
import shutil
import tarfile
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import ValidationError

from sdbench.errors import EnvironmentProblem
from sdbench.launch.engine import JOB_LABEL, LOCK_FOLDER, Engine
from sdbench.launch.problems import as_problem
from sdbench.schema.base import Model
from sdbench.schema.record import Record
from sdbench.store.bundle import load_record, verify_files
from sdbench.store.names import RECORD_NAME

RESULTS = "/results"
_EXIT_KILLED = 137
_EXIT_MISSING = 1
_EXIT_ENVIRONMENT = 3
_TOKEN = "HF_TOKEN"  # noqa: S105 - a variable's name

Say = Callable[[str], None]
JobEnd = Literal["complete", "paused", "interrupted", "failed"]


class Job(Model):
    """One manifest on one image of one host; kept as a label of its containers, so that it can be found again."""

    launch_id: str
    number: int
    image: str
    image_id: str
    manifest_name: str
    arguments: tuple[str, ...]
    gpus: str
    cpus: str
    memory: str
    rounds: int | None

    @property
    def volume(self) -> str:
        """The volume that holds the job's runs until they are collected."""
        return f"sdbench-{self.launch_id}-{self.number}"

    @property
    def label(self) -> str:
        """The job as JSON in one line."""
        return json.dumps(self.to_json_dict(), separators=(",", ":"))


@dataclass(frozen=True)
class Finished:
    """How one container of a job ended: ``message`` says why where it failed."""

    end: JobEnd
    exit_code: int
    message: str = ""


def run_container(engine: Engine, job: Job, manifest: bytes, say: Say, on_start: Callable[[Any], None]) -> Finished:
    """Run ``sdbench run`` in a container and return how it ended; the container is removed.

    Raises:
        EnvironmentProblem: the engine refuses, or what is to be measured is not there.
        LostConnection: the engine is gone; the container is left to go on.
    """
    rounds = ["--rounds", str(job.rounds)] if job.rounds else []
    command = ["run", f"{RESULTS}/{job.manifest_name}", "--out", "results", "--json", *rounds, *job.arguments]
    container = _create(engine, job, command, manifest, {"NETWORK": "none", "OFFLINE": "1"})
    return finish_container(engine, _start(engine, container, on_start), say)


def finish_container(engine: Engine, container: Any, say: Say) -> Finished:
    """Follow a started container to its end, remove it, and return how it ended.

    Raises:
        LostConnection: the engine is gone; the container is left to go on.
    """
    reader = _EventReader(say)
    engine.follow(container.id, reader.read)
    container = engine.client.containers.get(container.id)
    state = container.attrs["State"]
    engine.remove(container)
    code = int(state["ExitCode"])
    if code == _EXIT_KILLED:
        if state.get("OOMKilled"):
            return Finished("failed", _EXIT_ENVIRONMENT, "out of memory: raise --memory, or measure a smaller batch")
        message = "the container was killed, not by its own memory limit: see dmesg whether the host ran out of memory"
        return Finished("failed", _EXIT_ENVIRONMENT, message)
    if reader.ended is None:
        return Finished("failed", code or _EXIT_ENVIRONMENT, reader.last_line or f"it ended with status {code}")
    return Finished(reader.ended, code)


def collect(engine: Engine, job: Job, out: Path, suffix: str) -> list[Path]:
    """Copy the sealed runs of a job to ``out``, check each, remove the job's volume, and return their folders.

    Raises:
        EnvironmentProblem: ``out`` is not writable, or a run is not whole.
    """
    container = _create(engine, job, ["--version"], None, {"NETWORK": "none"})
    try:
        folders = _extract(engine, container, out, suffix)
    finally:
        engine.remove(container)
    engine.remove_volume(job.volume)
    return folders


def _extract(engine: Engine, container: Any, out: Path, suffix: str) -> list[Path]:
    try:
        out.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=out, prefix=".collecting-") as temporary:
            with engine.opened_folder(container, RESULTS) as archive:
                extract_within(archive, Path(temporary))
            found = sorted(path.parent for path in Path(temporary).glob(f"*/*/{RECORD_NAME}"))
            return [_keep(folder, out, suffix) for folder in found]
    except OSError as error:
        raise EnvironmentProblem(
            f"cannot write in {out}: {error.strerror}; the records stay in the engine: "
            "collect them with sdbench launch --attach --out FOLDER"
        ) from None


def extract_within(archive: tarfile.TarFile, folder: Path) -> None:
    """Extract an archive of plain files and folders into ``folder``, and nothing anywhere else.

    Python's own filter for this came with 3.11.4; Debian 12 has 3.11.2.

    Raises:
        EnvironmentProblem: the archive holds a link, a device, or a name that leads out of the folder.
    """
    for member in archive.getmembers():
        place = (folder / member.name).resolve()
        if not (member.isfile() or member.isdir()) or not place.is_relative_to(folder.resolve()):
            raise EnvironmentProblem(f"the container's results hold {member.name!r}, which is no plain file; not taken")
        # Only the owner's bits, and never more than reading and writing asks for.
        member.mode = 0o755 if member.isdir() else 0o644
    archive.extractall(folder)  # noqa: S202 - every member was looked at


def _keep(folder: Path, out: Path, suffix: str) -> Path:
    record: Record = load_record(folder)
    verify_files(folder, record)
    place = out / f"{folder.name}{suffix}"
    number = 1
    while place.exists():
        number += 1
        place = out / f"{folder.name}{suffix}-{number}"
    return Path(shutil.move(folder, place))


def read_job(container: Any) -> Job | None:
    """Return the job that a container belongs to, or None where its label is none of ours."""
    return read_job_label(container.labels)


def read_job_label(labels: Mapping[str, str]) -> Job | None:
    """Return the job that labels name, or None where they name none of ours."""
    try:
        return Job.model_validate_json(labels.get(JOB_LABEL, ""))
    except ValidationError:
        return None


def manifest_of(engine: Engine, job: Job) -> bytes:
    """Return the manifest that a job's volume holds; empty if the launch ended before it wrote it."""
    return _read_volume(engine, job).get(f"results/{job.manifest_name}", b"")


def has_ended(engine: Engine, job: Job) -> bool:
    """Return whether a job's volume holds a run that has nothing left to measure."""
    records = (content for name, content in _read_volume(engine, job).items() if name.endswith(f"/{RECORD_NAME}"))
    return any(json.loads(content).get("ended") == "complete" for content in records)


def _read_volume(engine: Engine, job: Job) -> dict[str, bytes]:
    """The records and the manifest in a job's volume by their names."""
    container = _create(engine, job, ["--version"], None, {"NETWORK": "none"})
    try:
        with engine.opened_folder(container, RESULTS) as archive:
            wanted = [member for member in archive if member.name.endswith((RECORD_NAME, job.manifest_name))]
            files = ((member.name, archive.extractfile(member)) for member in wanted)
            return {name: file.read() for name, file in files if file is not None}
    finally:
        engine.remove(container)


def slug(text: str) -> str:
    """Return a text as part of a folder's name."""
    return re.sub(r"[^A-Za-z0-9.]+", "-", text.removeprefix("ssh://")).strip("-.")[-60:]


def fetch_weights(engine: Engine, job: Job, manifest: bytes, say: Say, on_start: Callable[[Any], None]) -> None:
    """Download pinned weights that are missing: the only step with a network, and with the token.

    Raises:
        EnvironmentProblem: they cannot be had.
        LostConnection: the engine is gone.
    """
    command = ["fetch", f"{RESULTS}/{job.manifest_name}", *job.arguments]
    check = _create(engine, job, [*command, "--check"], manifest, {"NETWORK": "none", "OFFLINE": "1"})
    if _wait_quietly(engine, _start(engine, check, on_start)) != _EXIT_MISSING:
        return
    say("fetching weights")
    values = {"NETWORK": "bridge", "OFFLINE": "0", "TOKEN_NAME": _TOKEN if os.environ.get(_TOKEN) else ""}
    code = finish_container(engine, _start(engine, _create(engine, job, command, manifest, values), on_start), say)
    if code.exit_code:
        raise EnvironmentProblem(f"{engine.name}: the weights cannot be fetched: {code.message}")


def _wait_quietly(engine: Engine, container: Any) -> int:
    engine.follow(container.id, lambda _line: None)
    code = int(engine.client.containers.get(container.id).attrs["State"]["ExitCode"])
    engine.remove(container)
    return code


def _create(engine: Engine, job: Job, command: list[str], manifest: bytes | None, changes: dict[str, str]) -> Any:
    uid = engine.user_ids.partition(":")[0]
    values = {
        "USER_IDS": engine.user_ids,
        "RESULTS": job.volume,
        "CACHE": f"sdbench-cache-{uid}",
        "STATE": f"sdbench-state-{uid}",
        "LOCKS": LOCK_FOLDER,
        "HOST_FACTS": engine.describe_host(job.image_id),
        "JOB": job.label,
        "LAUNCH": job.launch_id,
        "GPUS": job.gpus,
        "CPUS": job.cpus,
        "MEMORY": job.memory,
        **changes,
    }
    container = engine.create(job.image_id, command, values)
    if manifest is not None:
        try:
            engine.put_file(container, RESULTS, job.manifest_name, manifest)
        except BaseException:
            engine.remove(container)
            raise
    return container


def _start(engine: Engine, container: Any, on_start: Callable[[Any], None]) -> Any:
    from docker.errors import DockerException

    on_start(container)
    try:
        container.start()
    except DockerException as error:
        # A container that never started is left behind by the engine.
        engine.remove(container)
        raise as_problem(f"{engine.name}: the container cannot start", error) from None
    # Again: who stops a launch between the two calls could not reach a container that did not run yet.
    on_start(container)
    return container


class _EventReader:
    """Reads what ``sdbench run --json`` prints: JSON events to words, other lines as they are."""

    def __init__(self, say: Say) -> None:
        self.ended: JobEnd | None = None
        self.last_line = ""
        self._say = say

    def read(self, line: str) -> None:
        try:
            event = json.loads(line)
        except ValueError:
            event = None
        if not isinstance(event, dict):
            if line.strip():
                self.last_line = line.strip().removeprefix("sdbench: ")
            return
        if event.get("kind") == "written" and event.get("ended") in ("complete", "paused", "interrupted"):
            self.ended = event["ended"]
        elif event.get("kind") in ("waiting", "resumed", "launch", "ended"):
            self._say(f"{event['kind']:8} {event.get('text', '')}")
