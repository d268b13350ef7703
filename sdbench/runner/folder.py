"""The folder of a run: found again when the same run is asked for again, or made new."""

import contextlib
import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import TypeAdapter

from sdbench.errors import EnvironmentProblem, RecordError, UserError
from sdbench.probes.telemetry import Telemetry
from sdbench.schema.base import sha256_of
from sdbench.schema.fingerprint import Fingerprint
from sdbench.schema.outcome import Failed, Launch, OutOfMemory, TimedOut
from sdbench.store.bundle import load_record
from sdbench.store.files import sync_folder, write_whole
from sdbench.store.journal import Journal, cut_torn_tail, read_journal
from sdbench.store.names import JOURNAL_NAME, MANIFEST_NAME, RECORD_NAME, TELEMETRY_NAME

if TYPE_CHECKING:
    from sdbench.runner.active import RunSpec

BadEnd = OutOfMemory | Failed | TimedOut
_BAD_END: TypeAdapter[BadEnd] = TypeAdapter(BadEnd)


class RunFolder:
    """An open run: its journal, its telemetry, and what they already hold."""

    def __init__(self, path: Path, journal: Journal, telemetry: Journal, entries: tuple[dict[str, Any], ...]) -> None:
        self.path = path
        self._journal = journal
        self._telemetry = telemetry
        self._entries = entries
        self.run_id: str = entries[0]["run_id"]
        self.created_utc: str = entries[0]["created_utc"]
        self.resumed = entries[-1]["kind"] == "resume"

    def finished_launches(self) -> Iterator[tuple[str, Launch]]:
        """Yield experiment id and launch of every launch that the journal holds."""
        for entry in self._entries:
            if entry["kind"] == "launch":
                yield entry["experiment_id"], Launch.model_validate_json(json.dumps(entry["launch"]))

    def bad_ends(self) -> Iterator[tuple[str, BadEnd, float]]:
        """Yield experiment id, outcome and the last launch's time (s) of every experiment that ended badly."""
        for entry in self._entries:
            if entry["kind"] == "end":
                outcome = _BAD_END.validate_json(json.dumps(entry["outcome"]))
                yield entry["experiment_id"], outcome, entry["wall_s"]

    def append_launch(self, experiment_id: str, launch: Launch) -> None:
        """Write a finished launch to the journal."""
        self._journal.append({"kind": "launch", "experiment_id": experiment_id, "launch": launch.to_json_dict()})

    def append_bad_end(self, experiment_id: str, outcome: BadEnd, wall_s: float) -> None:
        """Write how an experiment ended without a figure to the journal, and the time (s) its last launch took."""
        self._journal.append(
            {"kind": "end", "experiment_id": experiment_id, "outcome": outcome.to_json_dict(), "wall_s": wall_s}
        )

    def append_telemetry(self, experiment_id: str, index: int, telemetry: Telemetry) -> None:
        """Write a launch's telemetry: its series, and why the columns that are not there could not be read."""
        self._telemetry.append(
            {
                "experiment_id": experiment_id,
                "index": index,
                "series": [item.to_json_dict() for item in telemetry.series()],
                "unknown": {name: unknown.reason for name, unknown in telemetry.unknown()},
            }
        )


@contextlib.contextmanager
def open_run_folder(spec: "RunSpec", fingerprint: Fingerprint) -> Iterator[RunFolder]:
    """Open the folder of an unfinished run of the same request on the same machine and software, or a new one.

    Raises:
        UserError: the output folder is a file.
        EnvironmentProblem: the output folder is not writable.
        RecordError: the journal to continue is damaged.
    """
    key = resume_key(spec, fingerprint)
    with contextlib.ExitStack() as stack:
        try:
            path, first = _prepare_folder(spec, key)
            journal = stack.enter_context(Journal(path / JOURNAL_NAME))
            telemetry = stack.enter_context(Journal(path / TELEMETRY_NAME))
            sync_folder(path)
        except (FileExistsError, NotADirectoryError):
            raise UserError(f"--out {spec.out} is not a folder; choose another") from None
        except OSError as error:
            raise EnvironmentProblem(
                f"cannot write in {spec.out}: {error.strerror}; choose another folder with --out"
            ) from None
        journal.append(first)
        entries, _ = read_journal(path / JOURNAL_NAME)
        yield RunFolder(path, journal, telemetry, entries)


def _prepare_folder(spec: "RunSpec", key: str) -> tuple[Path, dict[str, Any]]:
    """Return a run's folder, new or continued, and the journal entry that says which."""
    path = None if spec.fresh else find_unfinished(spec.out, key)
    if path is None:
        path = _make_folder(spec)
        write_whole(path / MANIFEST_NAME, spec.manifest_text.encode())
        return path, _start_entry(path, key)
    cut_torn_tail(path / JOURNAL_NAME)
    if (path / TELEMETRY_NAME).is_file():
        cut_torn_tail(path / TELEMETRY_NAME)
    # The journal is the truth from here on; a record sealed at the interruption would soon be wrong.
    (path / RECORD_NAME).unlink(missing_ok=True)
    return path, {"kind": "resume", "utc": _timestamp("%Y-%m-%dT%H:%M:%SZ")}


def resume_key(spec: "RunSpec", fingerprint: Fingerprint) -> str:
    """Return the hash of what must be alike for a run to be continued: request, plan, device and machine."""
    # A run beside others is none that a run alone goes on with; without a group the key is what it always was.
    group = {"device_group": spec.device_group.to_json_dict()} if spec.device_group else {}
    return sha256_of(
        group
        | {
            "request": spec.request.to_json_dict(),
            "planned": [item.to_json_dict() for item in spec.planned],
            "device": spec.device.torch_name,
            "hardware": fingerprint.hardware_sha256,
            "configuration": fingerprint.configuration_sha256,
            "software": fingerprint.software_sha256,
        }
    )


def find_unfinished(out: Path, key: str) -> Path | None:
    """Return the newest run folder in ``out`` with this resume key that was not sealed as complete, or None."""
    if not out.is_dir():
        return None
    for journal in sorted(out.glob(f"*/{JOURNAL_NAME}"), reverse=True):
        if _first_key(journal) == key and _may_continue(journal.parent):
            return journal.parent
    return None


def _first_key(journal: Path) -> str | None:
    try:
        with journal.open("rb") as stream:
            entry = json.loads(stream.readline())["entry"]
        return str(entry["key"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _may_continue(folder: Path) -> bool:
    """Tell whether a run has no record yet, or one sealed at a stop; a damaged record is left alone."""
    if not (folder / RECORD_NAME).exists():
        return True
    try:
        return load_record(folder).ended in ("interrupted", "paused")
    except RecordError:
        return False


def _make_folder(spec: "RunSpec") -> Path:
    stem = Path(spec.request.manifest_name).stem + (f"-{spec.session.side}" if spec.session else "")
    spec.out.mkdir(parents=True, exist_ok=True)
    base = f"{stem}-{_timestamp('%Y%m%dT%H%M%SZ')}"
    for number in range(100):
        path = spec.out / (base if number == 0 else f"{base}-{number}")
        try:
            path.mkdir()
        except FileExistsError:
            if not path.is_dir():
                raise
            continue
        return path
    raise EnvironmentProblem(
        f"cannot make a new folder in {spec.out}: {base} and 99 more exist; choose another with --out"
    )


def _start_entry(path: Path, key: str) -> dict[str, Any]:
    created_utc = _timestamp("%Y-%m-%dT%H:%M:%SZ")
    return {
        "kind": "start",
        "key": key,
        "created_utc": created_utc,
        "run_id": f"{path.name}-{sha256_of([key, created_utc])[:8]}",
    }


def _timestamp(pattern: str) -> str:
    return datetime.now(UTC).strftime(pattern)
