"""One manifest on one image of one host: its container runs, and its records are collected."""

import json
import shutil
import tarfile
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any, Literal

from pydantic import ValidationError

from sdbench import exit_codes
from sdbench.containers.engine import JOB_LABEL, Emit, Engine
from sdbench.errors import EnvironmentProblem
from sdbench.runner.events import read_line
from sdbench.schema.base import Model
from sdbench.store.bundle import load_record, verify_files
from sdbench.store.layout import RECORD_NAME
from sdbench.store.lock import LOCK_FOLDER

RESULTS = "/results"
# Values of container.flags for every step but the one that fetches weights.
OFFLINE = {"NETWORK": "none", "OFFLINE": "1"}
_EXIT_KILLED = 137

JobEnd = Literal["complete", "paused", "interrupted", "failed"]


class Job(Model):
    """One manifest on one image of one host; kept as a label of its containers, so that it can be found again."""

    schedule_id: str
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
        return f"sdbench-{self.schedule_id}-{self.number}"


def read_job(labels: Mapping[str, str] | None) -> Job | None:
    """Return the job that the labels of a container or volume name, or None if they name none of ours."""
    try:
        return Job.model_validate_json((labels or {}).get(JOB_LABEL, ""))
    except ValidationError:
        return None


@dataclass(frozen=True)
class Finished:
    """How one container of a job ended: ``message`` says why if it failed."""

    end: JobEnd
    exit_code: int
    message: str = ""


def finish_container(engine: Engine, container: Any, emit: Emit) -> Finished:
    """Follow a started container to its end, remove it, and return how it ended.

    Raises:
        LostConnection: the engine is gone; the container is left to continue.
    """
    ended: JobEnd | None = None
    last_line = ""

    def show(line: str) -> None:
        nonlocal ended, last_line
        event, text = read_line(line)
        if event.get("kind") == "written" and event.get("ended") in ("complete", "paused", "interrupted"):
            ended = event["ended"]
        elif event and text:
            emit(text)
        elif text:
            last_line = text.removeprefix("sdbench: ")

    engine.follow(container.id, show)
    container = engine.client.containers.get(container.id)
    state = container.attrs["State"]
    engine.remove(container)
    code = int(state["ExitCode"])
    if code == _EXIT_KILLED:
        message = "the container was killed, not by its own memory limit: see dmesg whether the host ran out of memory"
        if state.get("OOMKilled"):
            message = "out of memory: raise --memory, or measure a smaller batch"
        return Finished("failed", exit_codes.ENVIRONMENT, message)
    if ended is None:
        return Finished("failed", code, last_line or f"it ended with status {code}")
    return Finished(ended, code)


def create_container(
    engine: Engine, job: Job, command: Sequence[str], changes: dict[str, str], manifest: bytes = b""
) -> Any:
    """Return a new container for a command of sdbench; a manifest is put in the job's volume.

    ``changes`` are values of container.flags that differ from those of every container of the job.

    Raises:
        EnvironmentProblem: the engine refuses.
    """
    uid = engine.user_ids.partition(":")[0]
    values = {
        "USER_IDS": engine.user_ids,
        "RESULTS": job.volume,
        "CACHE": f"sdbench-cache-{uid}",
        "STATE": f"sdbench-state-{uid}",
        "LOCKS": str(LOCK_FOLDER),
        "HOST_FACTS": engine.describe_host(job.image_id),
        "JOB": job.model_dump_json(),
        "SCHEDULE": job.schedule_id,
        "GPUS": job.gpus,
        "CPUS": job.cpus,
        "MEMORY": job.memory,
    }
    container = engine.create(job.image_id, list(command), values | changes)
    if manifest:
        try:
            engine.put_file(container, RESULTS, job.manifest_name, manifest)
        except BaseException:
            engine.remove(container)
            raise
    return container


def collect(engine: Engine, job: Job, out: Path, suffix: str) -> list[Path]:
    """Copy the sealed runs of a job to ``out``, check each, remove the job's volume, and return their folders.

    Raises:
        EnvironmentProblem: ``out`` is not writable, or a run is not complete.
    """
    from docker.errors import NotFound

    with _read_results(engine, job) as archive:
        try:
            out.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=out, prefix=".collecting-") as temporary:
                extract_within(archive, Path(temporary))
                records = sorted(Path(temporary).glob(f"*/*/{RECORD_NAME}"))
                folders = [_keep(record.parent, out, suffix) for record in records]
        except OSError as error:
            raise EnvironmentProblem(
                f"cannot write in {out}: {error.strerror}; the records stay in the engine: "
                "collect them with sdbench run --attach --out FOLDER"
            ) from None
    with suppress(NotFound):  # somebody has removed it meanwhile
        engine.client.volumes.get(job.volume).remove(force=True)
    return folders


def extract_within(archive: tarfile.TarFile, folder: Path) -> None:
    """Extract an archive of plain files and folders into ``folder``, and nothing anywhere else.

    Python's own filter for this came with 3.11.4; Debian 12 has 3.11.2.

    Raises:
        EnvironmentProblem: the archive holds a link, a device, or a path outside the folder.
    """
    for member in archive.getmembers():
        path = (folder / member.name).resolve()
        if not (member.isfile() or member.isdir()) or not path.is_relative_to(folder.resolve()):
            raise EnvironmentProblem(
                f"the container's results hold {member.name!r}, which is not a plain file; nothing was extracted"
            )
        member.mode = 0o755 if member.isdir() else 0o644
    # Every member was checked above; without a filter Python 3.12 and 3.13 warn.
    archive.extraction_filter = getattr(tarfile, "fully_trusted_filter", None)
    archive.extractall(folder)  # noqa: S202


def _keep(folder: Path, out: Path, suffix: str) -> Path:
    verify_files(folder, load_record(folder))
    target = out / f"{folder.name}{suffix}"
    number = 1
    while target.exists():
        number += 1
        target = out / f"{folder.name}{suffix}-{number}"
    return Path(shutil.move(folder, target))


def has_ended(engine: Engine, job: Job) -> bool:
    """Return whether a job's volume holds a run that has nothing left to measure."""
    return any(json.loads(record).get("ended") == "complete" for record in read_files(engine, job, f"/{RECORD_NAME}"))


def read_files(engine: Engine, job: Job, ending: str) -> list[bytes]:
    """Return the content of the files in a job's volume whose paths end like this."""
    with _read_results(engine, job) as archive:
        files = [archive.extractfile(member) for member in archive if member.name.endswith(ending)]
        return [file.read() for file in files if file is not None]


def _read_results(engine: Engine, job: Job) -> tarfile.TarFile:
    container = create_container(engine, job, ["--version"], OFFLINE)
    try:
        chunks, _ = container.get_archive(RESULTS)
        return tarfile.open(fileobj=BytesIO(b"".join(chunks)))
    finally:
        engine.remove(container)
