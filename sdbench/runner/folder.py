"""The folder of a run: a new one, or that of an unfinished run of the same request."""

import contextlib
import json
import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sdbench.errors import EnvironmentProblem, RecordError, UserError
from sdbench.runner.spec import RunSpec
from sdbench.schema.base import sha256_of
from sdbench.schema.fingerprint import Fingerprint
from sdbench.store.bundle import load_record
from sdbench.store.files import sync_folder, write_whole
from sdbench.store.journal import Journal, cut_torn_tail, read_journal
from sdbench.store.layout import JOURNAL_NAME, MANIFEST_NAME, RECORD_NAME, TELEMETRY_NAME

# Runs of one request may start in the same second on machines that share nothing else.
_ID_BYTES = 4


@dataclass(frozen=True)
class RunFolder:
    """An open run: its journal, its telemetry, and the entries that the journal had when it was opened."""

    path: Path
    journal: Journal
    telemetry: Journal
    entries: tuple[dict[str, Any], ...]


def check_output_folder(out: Path) -> None:
    """Make the folder that run folders go into, so that a run which cannot write there fails before it waits.

    Raises:
        UserError: it is a file.
        EnvironmentProblem: it is not writable.
    """
    with _explained(out):
        out.mkdir(parents=True, exist_ok=True)


@contextlib.contextmanager
def _explained(out: Path) -> Iterator[None]:
    """Raise a file in the place of the output folder as UserError, and other OSErrors as EnvironmentProblem."""
    try:
        yield
    except (FileExistsError, NotADirectoryError):
        raise UserError(f"--out {out} is not a folder; choose another") from None
    except OSError as error:
        raise EnvironmentProblem(f"cannot write in {out}: {error.strerror}; choose another folder with --out") from None


@contextlib.contextmanager
def open_run_folder(spec: RunSpec, fingerprint: Fingerprint) -> Iterator[RunFolder]:
    """Open the folder of an unfinished run of the same request on the same machine and software, or a new one.

    Raises:
        UserError: the output folder is a file.
        EnvironmentProblem: the output folder is not writable.
        RecordError: the journal to continue is damaged.
    """
    key = spec.key or resume_key(spec, fingerprint)
    with contextlib.ExitStack() as stack:
        with _explained(spec.out):
            path, first = _prepare_folder(spec, key)
            journal = stack.enter_context(Journal(path / JOURNAL_NAME))
            telemetry = stack.enter_context(Journal(path / TELEMETRY_NAME))
            sync_folder(path)
        journal.append(first)
        entries, _ = read_journal(path / JOURNAL_NAME)
        yield RunFolder(path, journal, telemetry, entries)


def _prepare_folder(spec: RunSpec, key: str) -> tuple[Path, dict[str, Any]]:
    path = spec.resumes
    if path is None and not spec.fresh and spec.session is None:
        path = find_unfinished(spec.out, key)
    if path is None:
        path = _make_folder(spec)
        write_whole(path / MANIFEST_NAME, spec.plan.loaded.text.encode())
        created_utc = utc_now()
        run_id = f"{path.name}-{secrets.token_hex(_ID_BYTES)}"
        session = {"session": spec.session.to_json_dict()} if spec.session else {}
        return path, {"kind": "start", "key": key, "created_utc": created_utc, "run_id": run_id} | session
    cut_torn_tail(path / JOURNAL_NAME)
    if (path / TELEMETRY_NAME).is_file():
        cut_torn_tail(path / TELEMETRY_NAME)
    # From here on the journal is newer than the record that was sealed at the interruption.
    (path / RECORD_NAME).unlink(missing_ok=True)
    return path, {"kind": "resume", "utc": utc_now()}


def resume_key(spec: RunSpec, fingerprint: Fingerprint) -> str:
    """Return the hash of what makes two runs the same: plan, machine, and the request but for its budget."""
    # A run next to others is not resumed by a run alone.
    more: dict[str, Any] = {"device_group": spec.device_group.to_json_dict()} if spec.device_group else {}
    # More time does not make another run, but what an arm sets does.
    request = spec.plan.request.model_copy(update={"budget_s": None})
    if spec.session is not None:
        more["environment"] = dict(spec.environment)
    if spec.python is not None:
        more["python"] = spec.python.key
    return sha256_of(
        more
        | {
            "request": request.to_json_dict(),
            "planned": [item.to_json_dict() for item in spec.plan.planned],
            "device": spec.plan.device.torch_name,
            "hardware": fingerprint.hardware_sha256,
            "configuration": fingerprint.configuration_sha256,
            "software": fingerprint.software_sha256,
        }
    )


def find_unfinished(out: Path, key: str) -> Path | None:
    """Return the newest run folder in ``out`` with this resume key that was not sealed as complete, or None."""
    folders = sorted((journal.parent for journal in out.glob(f"*/{JOURNAL_NAME}")), reverse=True)
    return next((folder for folder in folders if _has_key(folder, key) and may_continue(folder)), None)


def _has_key(folder: Path, key: str) -> bool:
    start = read_start(folder)
    return start is not None and start.get("key") == key


def read_start(folder: Path) -> dict[str, Any] | None:
    """Return the first entry of a run's journal; None where it cannot be read: a damaged run is left alone."""
    try:
        with (folder / JOURNAL_NAME).open("rb") as stream:
            entry = json.loads(stream.readline())["entry"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return entry if isinstance(entry, dict) else None


def may_continue(folder: Path) -> bool:
    """Return whether a run has no record yet, or one of a run that was interrupted or paused."""
    try:
        return not (folder / RECORD_NAME).exists() or load_record(folder).ended in ("interrupted", "paused")
    except (OSError, RecordError):
        return False


def _make_folder(spec: RunSpec) -> Path:
    stem = Path(spec.plan.request.manifest_name).stem + (f"-{spec.session.arm}" if spec.session else "")
    spec.out.mkdir(parents=True, exist_ok=True)
    base = f"{stem}-{utc_now('%Y%m%dT%H%M%SZ')}"
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


def utc_now(pattern: str = "%Y-%m-%dT%H:%M:%SZ") -> str:
    """Return the time in UTC, by default as ISO 8601 with whole seconds."""
    return datetime.now(UTC).strftime(pattern)
