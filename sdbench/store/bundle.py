"""The sealed bundle of a run: a folder with record.json, and the files that the record names by hash."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
from pydantic import ValidationError

from sdbench.errors import RecordError
from sdbench.schema.migrations import CURRENT_VERSION, migrate_record, refuse_other_versions
from sdbench.schema.outcome import Series
from sdbench.schema.record import BundledFile, Record, compute_seal
from sdbench.store.collector import pause_collector
from sdbench.store.files import describe_file, write_whole
from sdbench.store.journal import read_journal
from sdbench.store.names import (
    IMAGE_FOLDER,
    JOURNAL_NAME,
    MANIFEST_NAME,
    RECORD_BYTES_MAX,
    RECORD_NAME,
    SOURCE_NAME,
    TELEMETRY_NAME,
)
from sdbench.units import format_bytes

Telemetry = tuple[tuple[str, int, tuple[Series, ...]], ...]


def seal_record(folder: Path, unsealed: dict[str, Any]) -> Record:
    """Write ``record.json`` with the hashes of the bundle's files and the seal, and return the record.

    Raises:
        EnvironmentProblem: the folder is not writable or the disk is full.
    """
    names = [JOURNAL_NAME, TELEMETRY_NAME, MANIFEST_NAME, SOURCE_NAME]
    paths = [folder / name for name in names if (folder / name).is_file()]
    paths += sorted((folder / IMAGE_FOLDER).glob("*.webp"))
    sealed, encoded = encode_sealed(unsealed, [describe_file(folder, path) for path in paths])
    write_whole(folder / RECORD_NAME, encoded)
    return sealed


def encode_sealed(unsealed: dict[str, Any], named: Sequence[BundledFile]) -> tuple[Record, bytes]:
    """Return the record that names these files, sealed, and the bytes of its ``record.json``."""
    content = unsealed | {"files": [file.to_json_dict() for file in named]}
    # Through the model once, so that the seal is over exactly what a reader computes it from.
    draft = Record.model_validate_json(json.dumps(content | {"seal": "0" * 64})).to_json_dict()
    sealed = draft | {"seal": compute_seal(draft)}
    encoded = encode_json(sealed)
    return Record.model_validate_json(encoded), encoded


def encode_json(content: dict[str, Any]) -> bytes:
    """Return the bytes in which a ``record.json`` is written."""
    # The same bytes as json.dumps(indent=1), which is written in Python and takes eight times as long.
    compact = json.dumps(content, ensure_ascii=False, allow_nan=False).encode()
    return msgspec.json.format(compact, indent=1) + b"\n"


def record_path(path: Path) -> Path:
    """Return the record file that ``path`` (a bundle's folder, or a record file) means.

    Raises:
        RecordError: there is none.
    """
    if path.is_dir():
        if (path / RECORD_NAME).is_file():
            return path / RECORD_NAME
        if (path / JOURNAL_NAME).is_file():
            raise RecordError(
                f"{path}: the run has not ended (a journal, no record); run the same command again to continue it"
            )
        raise RecordError(f"{path}: no {RECORD_NAME} in this folder; name a run's folder")
    return path


def find_runs(path: Path) -> tuple[Path, ...]:
    """Return the runs that ``path`` means: itself, or if it is a folder that only holds runs, each of them by name."""
    if not path.is_dir() or any((path / name).exists() for name in (RECORD_NAME, JOURNAL_NAME)):
        return (path,)
    # What starts with a dot is a draft that a crash left.
    found = (file.parent for file in path.glob(f"*/{RECORD_NAME}") if not file.parent.name.startswith("."))
    return tuple(sorted(found)) or (path,)


def load_record(path: Path, *, check_seal: bool = True) -> Record:
    """Return the record at ``path`` (a bundle's folder or its record file) after checking its seal.

    ``check_seal`` is False only where the user forces it, and what is shown says so.

    Raises:
        RecordError: no record, damaged, of a future version, or changed after it was sealed.
    """
    with pause_collector():
        return _read_record(record_path(path), check_seal=check_seal)


def _read_record(file: Path, *, check_seal: bool) -> Record:
    try:
        if file.stat().st_size > RECORD_BYTES_MAX:
            raise RecordError(f"{file}: over {format_bytes(RECORD_BYTES_MAX)}, too large for a record")
        content = file.read_bytes()
    except OSError as error:
        raise RecordError(f"cannot read {file}: {error.strerror}; check the path") from None
    return parse_record(content, str(file), check_seal=check_seal)


def parse_record(content: bytes, name: str, *, check_seal: bool = True) -> Record:
    """Return the record in the bytes of a ``record.json``; ``name`` stands for it in messages.

    Raises:
        RecordError: no record, damaged, of a future version, or changed after it was sealed.
    """
    try:
        stored = json.loads(content, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise RecordError(
            f"{name}: not valid JSON ({' '.join(str(error).split())[:120]}); "
            "name a run folder or a record, or restore it from a copy"
        ) from None
    if not isinstance(stored, dict):
        raise RecordError(f"{name}: not a record, but a JSON {type(stored).__name__}")
    version = refuse_other_versions(stored, name)
    if check_seal:
        try:
            seal = compute_seal(stored)
        except (UnicodeEncodeError, RecursionError):
            raise RecordError(f"{name}: holds a text that is no Unicode, or too deep; do not trust it") from None
        if stored.get("seal") != seal:
            raise RecordError(
                f"{name}: the seal does not match: the record was changed after it was sealed; restore it from a copy"
            )
    if version != CURRENT_VERSION:
        content = json.dumps(migrate_record(stored, name)).encode()
    # What was parsed takes as much memory as the record, and is of no more use.
    del stored
    try:
        return Record.model_validate_json(content)
    except ValidationError as error:
        detail = error.errors()[0]
        place = ".".join(str(part) for part in detail["loc"])
        raise RecordError(f"{name}: {place}: {detail['msg']}; restore it from a copy") from None


def verify_files(folder: Path, record: Record) -> None:
    """Check that every file the record names is there and unchanged.

    Raises:
        RecordError: a file is missing or differs.
    """
    for named in record.files:
        path = folder / named.path
        if not path.resolve().is_relative_to(folder.resolve()):
            raise RecordError(f"{folder}: the record names {named.path!r}, outside its folder; do not trust it")
        if not path.is_file():
            raise RecordError(f"{path}: the record names this file, but it is missing; restore it from a copy")
        if describe_file(folder, path) != named:
            raise RecordError(f"{path}: the file was changed after the record was sealed; restore it from a copy")


def load_telemetry(folder: Path) -> Telemetry:
    """Return per launch its experiment id, index and telemetry series; empty when the bundle has none.

    Raises:
        RecordError: the file is damaged.
    """
    path = folder / TELEMETRY_NAME
    if not path.is_file():
        return ()
    entries, _ = read_journal(path)
    # A launch that was cut off after its telemetry was written is measured again: the last one counts.
    latest = {(entry["experiment_id"], entry["index"]): entry["series"] for entry in entries}
    return tuple(
        (experiment_id, index, tuple(Series.model_validate_json(json.dumps(item)) for item in series))
        for (experiment_id, index), series in latest.items()
    )


def load_images(folder: Path, record: Record) -> dict[str, bytes]:
    """Return the bytes (WebP) of the bundle's images by their path within it."""
    return {
        named.path: (folder / named.path).read_bytes()
        for named in record.files
        if named.path.startswith(f"{IMAGE_FOLDER}/") and (folder / named.path).is_file()
    }


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is not a number")
