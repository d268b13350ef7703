"""A run as one file: a ZIP archive whose bytes follow from its content, addressed by its SHA-256.

Files are stored as they are, in one order, with one date and one mode, and nothing next to them. So the same run gives
the same bytes everywhere, every byte of an archive is accounted for, and nothing in it can unfold to more than it is.
"""

import hashlib
import io
import re
import stat
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import PurePosixPath

from sdbench.errors import RecordError
from sdbench.schema.record import Record
from sdbench.store.bundle import parse_record
from sdbench.store.layout import IMAGE_FOLDER, MANIFEST_NAME, RECORD_BYTES_MAX, RECORD_NAME, TELEMETRY_NAME
from sdbench.store.run import parse_telemetry
from sdbench.units import format_bytes

ARCHIVE_ENDING = ".zip"
# A published run of 10,000 experiments takes a tenth of it; one create-only PUT may be five times as large.
ARCHIVE_BYTES_MAX = RECORD_BYTES_MAX
# The earliest date of a ZIP archive.
_DATE = (1980, 1, 1, 0, 0, 0)
_UNIX = 3
# Of the record that ends an archive, of what points to a larger one, and of a file's entry with its name.
# Source: PKWARE's APPNOTE.TXT 6.3.10, sections 4.3.12 to 4.3.16.
_END_BYTES, _LOCATOR_BYTES, _ENTRY_BYTES_MAX = 22, 20, 46 + 256
_MODE = stat.S_IFREG | 0o644
_FILE_NAME = re.compile(rf"{RECORD_NAME}|{MANIFEST_NAME}|{TELEMETRY_NAME}|{IMAGE_FOLDER}/[0-9a-z-]{{1,200}}\.webp")
# The names of folders and objects come of it.
_RUN_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,199}")


@dataclass(frozen=True)
class PublishedBundle:
    """A run as it is published: its record, its files by name (``record.json`` among them), and its archive."""

    record: Record
    files: Mapping[str, bytes]
    archive: bytes

    @cached_property
    def sha256(self) -> str:
        """The SHA-256 (hex) of the archive."""
        return hashlib.sha256(self.archive).hexdigest()

    def is_of(self, record: Record) -> bool:
        """Return whether it was made of the run with this record."""
        return self.record.publication is not None and self.record.publication.source_seal == record.seal


def pack(files: Mapping[str, bytes]) -> bytes:
    """Return the archive of files by their names: ``record.json`` first, then by name."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for name in sorted(files, key=lambda name: (name != RECORD_NAME, name)):
            entry = zipfile.ZipInfo(name, _DATE)
            entry.create_system = _UNIX
            entry.external_attr = _MODE << 16
            archive.writestr(entry, files[name])
    return buffer.getvalue()


def unpack(content: bytes, name: str) -> dict[str, bytes]:
    """Return the files of an archive by name; ``name`` stands for the archive in messages.

    Raises:
        RecordError: it is not an archive of a run, or not byte for byte the archive of its files.
    """
    try:
        if problem := _directory_problem(content):
            raise RecordError(f"{name}: {problem}; get it again")
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            entries = archive.infolist()
            if problem := next(_entry_problems(entries, len(content)), None):
                raise RecordError(f"{name}: {problem}; do not trust it")
            files = {entry.filename: archive.read(entry) for entry in entries}
    # RuntimeError is what zipfile raises for an encrypted entry and an unknown compression.
    except (zipfile.BadZipFile, RuntimeError, OSError, ValueError, EOFError) as error:
        detail = " ".join(str(error).split())[:100]
        raise RecordError(f"{name}: not a valid archive of a run ({detail}); get it again") from None
    if pack(files) != content:
        raise RecordError(f"{name}: contains bytes that belong to none of its files: it was changed; get it again")
    return files


def _directory_problem(content: bytes) -> str | None:
    """Return what is wrong with the archive's end; a list of its files, made before, a gigabyte of names would fill."""
    if len(content) > ARCHIVE_BYTES_MAX:
        return f"{format_bytes(len(content))}, too large for a run"
    end = content[-_END_BYTES:]
    if end[:4] != b"PK\x05\x06":
        return "not a valid archive of a run (its end is missing)"
    count, directory_bytes = int.from_bytes(end[10:12], "little"), int.from_bytes(end[12:16], "little")
    is_zip64 = b"PK\x06\x07" in content[-_END_BYTES - _LOCATOR_BYTES : -_END_BYTES]
    return "lists more than it holds" if is_zip64 or directory_bytes > count * _ENTRY_BYTES_MAX else None


def _entry_problems(entries: list[zipfile.ZipInfo], size_bytes: int) -> Iterator[str]:
    for entry in entries:
        path, shown = PurePosixPath(entry.filename), repr(entry.filename[:100])
        if path.is_absolute() or ".." in path.parts:
            yield f"names {shown}, outside its folder"
        if stat.S_ISLNK(entry.external_attr >> 16):
            yield f"{shown} is a link; a run has none"
        if not _FILE_NAME.fullmatch(entry.filename):
            yield f"contains {shown}, which no run has"
        if entry.compress_type != zipfile.ZIP_STORED or entry.compress_size != entry.file_size:
            claim = f"is compressed and claims {format_bytes(entry.file_size)}"
            yield f"{shown} {claim}; a run's files are stored as they are"
    claimed_bytes = sum(entry.file_size for entry in entries)
    if claimed_bytes >= size_bytes:
        yield f"its files claim {format_bytes(claimed_bytes)}, the archive has {format_bytes(size_bytes)}"
    if len({entry.filename for entry in entries}) != len(entries):
        yield "contains two files of one name"


def read_bundle(content: bytes, name: str) -> PublishedBundle:
    """Return the run in an archive after checking everything that can be checked without its origin.

    Raises:
        RecordError: not a valid archive, invalid record, or a file that is missing, too many or differs.
    """
    files = unpack(content, name)
    if RECORD_NAME not in files:
        raise RecordError(f"{name}: contains no {RECORD_NAME}; this is not an archive of a run")
    record = parse_record(files[RECORD_NAME], name)
    check_files(record, files, name)
    return PublishedBundle(record, files, content)


def check_files(record: Record, files: Mapping[str, bytes], name: str) -> None:
    """Check that the files next to a record are exactly those that it names, and that its id can name a folder.

    Raises:
        RecordError: a file is missing, differs, or is not named, or the id is not a name.
    """
    if not _RUN_ID.fullmatch(record.run_id):
        raise RecordError(f"{name}: the record's run_id {record.run_id[:100]!r} is not a name; do not trust it")
    named = {file.path: file for file in record.files}
    for path in sorted({*named, *files} - {RECORD_NAME}):
        if path not in files:
            raise RecordError(f"{name}: the record names {path[:100]!r}, but it is missing; get it again")
        if path not in named:
            raise RecordError(f"{name}: {path!r} is not named by the record; do not trust it")
        if hashlib.sha256(files[path]).hexdigest() != named[path].sha256 or len(files[path]) != named[path].size_bytes:
            raise RecordError(f"{name}: {path!r} was changed after the record was sealed; get it again")
    if TELEMETRY_NAME in files:
        parse_telemetry(files[TELEMETRY_NAME], f"{name}: {TELEMETRY_NAME}")
