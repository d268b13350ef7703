"""The sealed bundle of a run: a folder with record.json, and the files that the record names by hash."""

import gc
import hashlib
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
from pydantic import ValidationError

from sdbench.errors import RecordError
from sdbench.schema.migrations import CURRENT_VERSION, migrate_record, refuse_other_versions
from sdbench.schema.record import BundledFile, Record, Result
from sdbench.store.files import describe_file, read_file, refuse_size, write_whole
from sdbench.store.layout import (
    IMAGE_FOLDER,
    JOURNAL_NAME,
    MANIFEST_NAME,
    RECORD_BYTES_MAX,
    RECORD_NAME,
    SOURCE_NAME,
    TELEMETRY_NAME,
    TRACE_FOLDER,
    TRACE_SUFFIX,
    largest_bytes,
)

_UNSEALED = "0" * 64
# A record's text ends with '"<seal>"', a newline, '}' and a newline.
_SEAL = slice(-68, -4)


class _Header(msgspec.Struct):
    schema: Any = None


def seal_record(folder: Path, unsealed: dict[str, Any]) -> Record:
    """Write ``record.json`` with the hashes of the bundle's files and the seal, and return the record.

    Raises:
        EnvironmentProblem: the folder is not writable or the disk is full.
    """
    names = [JOURNAL_NAME, TELEMETRY_NAME, MANIFEST_NAME, SOURCE_NAME]
    paths = [folder / name for name in names if (folder / name).is_file()]
    paths += sorted((folder / IMAGE_FOLDER).glob("*.webp"))
    paths += sorted((folder / TRACE_FOLDER).glob(f"*{TRACE_SUFFIX}"))
    sealed, encoded = encode_sealed(unsealed, [describe_file(folder, path) for path in paths])
    write_whole(folder / RECORD_NAME, encoded)
    return sealed


def encode_sealed(unsealed: dict[str, Any], named: Sequence[BundledFile]) -> tuple[Record, bytes]:
    """Return the record that names these files, sealed, and the bytes of its ``record.json``."""
    content = unsealed | {"files": [file.to_json_dict() for file in named], "seal": _UNSEALED}
    draft = Record.model_validate_json(json.dumps(content))
    encoded = encode_record(draft.to_json_dict())
    return draft.model_copy(update={"seal": encoded[_SEAL].decode()}), encoded


def encode_record(content: dict[str, Any]) -> bytes:
    """Return the bytes of a ``record.json`` with this content: indented, its seal computed and last."""
    unsealed = {key: value for key, value in content.items() if key != "seal"} | {"seal": _UNSEALED}
    # The same bytes as json.dumps(indent=1), which is written in Python and takes eight times as long.
    compact = json.dumps(unsealed, ensure_ascii=False, allow_nan=False).encode()
    text = msgspec.json.format(compact, indent=1) + b"\n"
    return text[: _SEAL.start] + compute_seal(text).encode() + text[_SEAL.stop :]


def compute_seal(text: bytes) -> str:
    """Return the SHA-256 (hex) of a ``record.json`` with zeros for the digits of its seal, which end it."""
    digest = hashlib.sha256(text[: _SEAL.start])
    digest.update(_UNSEALED.encode())
    digest.update(text[_SEAL.stop :])
    return digest.hexdigest()


def record_path(path: Path) -> Path:
    """Return the record file that ``path`` (a bundle's folder, or a record file) means.

    Raises:
        RecordError: there is none.
    """
    if path.is_dir():
        if (path / RECORD_NAME).is_file():
            _refuse_outside(path, RECORD_NAME)
            return path / RECORD_NAME
        if (path / JOURNAL_NAME).is_file():
            raise RecordError(f"{path}: the run has not ended (no record yet); run the same command to continue it")
        raise RecordError(f"{path}: no {RECORD_NAME} in this folder; name a run's folder")
    return path


def find_runs(path: Path) -> tuple[Path, ...]:
    """Return the runs that ``path`` means: itself, or if it is a folder that only holds runs, each of them by name."""
    if not path.is_dir() or any((path / name).exists() for name in (RECORD_NAME, JOURNAL_NAME)):
        return (path,)
    # What starts with a dot is a draft that a crash left.
    runs = (file.parent for file in path.glob(f"*/{RECORD_NAME}") if not file.parent.name.startswith("."))
    return tuple(sorted(runs)) or (path,)


@contextmanager
def pause_collector() -> Iterator[None]:
    """Keep the collector from looking for cycles.

    A record of 41 MB is read in 2.4 s of CPU instead of 3.9 s; with 10,000 results in memory, a page takes half as
    long.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def load_record(path: Path, *, check_seal: bool = True) -> Record:
    """Return the record at ``path`` (a bundle's folder or its record file) after checking its seal.

    ``check_seal`` is False only where the user forces it, and what is shown says so.

    Raises:
        RecordError: no record, damaged, of a future version, or changed after it was sealed.
    """
    file = record_path(path)
    with pause_collector():
        return parse_record(read_file(file, RECORD_BYTES_MAX), str(file), check_seal=check_seal)


def parse_record(content: bytes, name: str, *, check_seal: bool = True) -> Record:
    """Return the record in the bytes of a ``record.json``; ``name`` stands for it in messages.

    Raises:
        RecordError: no record, damaged, of a future version, or changed after it was sealed.
    """
    try:
        schema = msgspec.json.decode(content, type=_Header).schema
    except msgspec.ValidationError as error:
        raise RecordError(f"{name}: not a record ({error}); name a run folder or a record") from None
    except (msgspec.DecodeError, RecursionError) as error:
        problem = " ".join(str(error).split())[:120]
        raise RecordError(f"{name}: not valid JSON ({problem}); restore it from a copy, or name a record") from None
    version = refuse_other_versions(schema, name)
    if check_seal and content[_SEAL] != compute_seal(content).encode():
        raise RecordError(
            f"{name}: the seal does not match: the record was changed after it was sealed; restore it from a copy"
        )
    if version != CURRENT_VERSION:
        content = json.dumps(migrate_record(json.loads(content), name)).encode()
    return _validate(content, name)


def _validate(content: bytes, name: str) -> Record:
    """Validate result by result: pydantic's tree of 1,000 experiments takes more memory than the record."""
    place = ""
    try:
        parts = msgspec.json.decode(content, type=dict[str, msgspec.Raw])
        emptied = {key: () if key == "results" else part for key, part in parts.items()}
        record = Record.model_validate_json(msgspec.json.encode(emptied))
        results = []
        for number, text in enumerate(msgspec.json.decode(parts["results"], type=list[msgspec.Raw])):
            place = f"results.{number}."
            results.append(Result.model_validate_json(bytes(text)))
    except msgspec.ValidationError:
        raise RecordError(f"{name}: results: not a list; restore it from a copy") from None
    except ValidationError as error:
        detail = error.errors()[0]
        place = (place + ".".join(map(str, detail["loc"]))).rstrip(".")
        raise RecordError(f"{name}: {place}: {detail['msg']}; restore it from a copy") from None
    return record.model_copy(update={"results": tuple(results)})


def verify_files(folder: Path, record: Record) -> None:
    """Check that every file the record names is there and unchanged.

    Raises:
        RecordError: a file is missing or differs.
    """
    for named in record.files:
        path = folder / named.path
        _refuse_outside(folder, named.path)
        if not path.is_file():
            raise RecordError(f"{path}: the record names this file, but it is missing; restore it from a copy")
        refuse_size(path.stat().st_size, largest_bytes(named.path), str(path))
        if describe_file(folder, path) != named:
            raise RecordError(f"{path}: the file was changed after the record was sealed; restore it from a copy")


def read_files(path: Path, record: Record) -> dict[str, bytes]:
    """Return the files of the run at ``path`` by their names, ``record.json`` among them.

    Raises:
        RecordError: a file is missing, not a regular file, or too large.
    """
    file = record_path(path)
    named = {item.path: read_named_file(file.parent, item.path) for item in record.files}
    return named | {RECORD_NAME: read_file(file, RECORD_BYTES_MAX)}


def read_named_file(folder: Path, name: str) -> bytes:
    """Return the bytes of a file of a run by its path in the run's folder.

    Raises:
        RecordError: the file is missing, not a regular file, or too large.
    """
    return read_file(folder / name, largest_bytes(name))


def _refuse_outside(folder: Path, name: str) -> None:
    if not (folder / name).resolve().is_relative_to(folder.resolve()):
        raise RecordError(f"{folder}: {name!r} is outside its folder; do not trust it")
