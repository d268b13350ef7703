"""A run as one file: a ZIP archive whose bytes follow from its content, addressed by its SHA-256.

Files are stored as they are, in one order, with one date and one mode, and nothing beside them. So the same run gives
the same bytes everywhere, every byte of an archive is accounted for, and nothing in it can unfold to more than it is.
"""

import hashlib
import io
import re
import stat
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath

from sdbench.errors import RecordError
from sdbench.schema.record import Record
from sdbench.store.bundle import parse_record
from sdbench.store.names import IMAGE_FOLDER, MANIFEST_NAME, RECORD_BYTES_MAX, RECORD_NAME, TELEMETRY_NAME
from sdbench.units import format_bytes

ARCHIVE_ENDING = ".zip"
# A published run of 10,000 experiments takes a tenth of it; one create-only PUT may be five times as large.
ARCHIVE_BYTES_MAX = RECORD_BYTES_MAX
# The earliest that a ZIP archive can say.
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
    """A run as it is published: its record, its files by name (``record.json`` among them), its archive's SHA-256."""

    record: Record
    files: Mapping[str, bytes]
    sha256: str


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
        RecordError: it is no archive of a run, or not byte for byte the archive of its files.
    """
    if len(content) > ARCHIVE_BYTES_MAX:
        raise RecordError(f"{name}: {format_bytes(len(content))}, too large for a run; do not trust it")
    _refuse_directory(content, name)
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            _refuse_entries(archive.infolist(), len(content), name)
            files = {entry.filename: archive.read(entry) for entry in archive.infolist()}
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, OSError, ValueError, EOFError) as error:
        raise RecordError(
            f"{name}: not a sound archive of a run ({' '.join(str(error).split())[:100]}); get it again"
        ) from None
    if pack(files) != content:
        raise RecordError(f"{name}: holds bytes that belong to none of its files: it was changed; get it again")
    return files


def _refuse_directory(content: bytes, name: str) -> None:
    """Look at the end of the archive before a list of its files is made, which a gigabyte of names would fill."""
    end = content[-_END_BYTES:]
    if end[:4] != b"PK\x05\x06":
        raise RecordError(f"{name}: not a sound archive of a run (it does not end as one); get it again")
    count, directory_bytes = int.from_bytes(end[10:12], "little"), int.from_bytes(end[12:16], "little")
    if (
        directory_bytes > count * _ENTRY_BYTES_MAX
        or b"PK\x06\x07" in content[-_END_BYTES - _LOCATOR_BYTES : -_END_BYTES]
    ):
        raise RecordError(f"{name}: lists more than it holds; do not trust it")


def _refuse_entries(entries: list[zipfile.ZipInfo], size_bytes: int, name: str) -> None:
    for entry in entries:
        path = PurePosixPath(entry.filename)
        if path.is_absolute() or ".." in path.parts:
            raise RecordError(f"{name}: names {entry.filename[:100]!r}, outside its folder; do not trust it")
        if stat.S_ISLNK(entry.external_attr >> 16):
            raise RecordError(f"{name}: {entry.filename[:100]!r} is a link; a run has none: do not trust it")
        if not _FILE_NAME.fullmatch(entry.filename):
            raise RecordError(f"{name}: holds {entry.filename[:100]!r}, which no run has; do not trust it")
        if entry.compress_type != zipfile.ZIP_STORED or entry.compress_size != entry.file_size:
            raise RecordError(
                f"{name}: {entry.filename[:100]!r} is compressed and claims {format_bytes(entry.file_size)}; "
                "a run's files are stored as they are: do not trust it"
            )
    claimed_bytes = sum(entry.file_size for entry in entries)
    if claimed_bytes >= size_bytes:
        raise RecordError(
            f"{name}: its files claim {format_bytes(claimed_bytes)}, the archive has {format_bytes(size_bytes)}; "
            "do not trust it"
        )
    if len({entry.filename for entry in entries}) != len(entries):
        raise RecordError(f"{name}: holds two files of one name; do not trust it")


def read_bundle(content: bytes, name: str) -> PublishedBundle:
    """Return the run in an archive after checking everything that can be checked without its origin.

    Raises:
        RecordError: no sound archive, no sound record, or a file that is missing, too many or differs.
    """
    files = unpack(content, name)
    if RECORD_NAME not in files:
        raise RecordError(f"{name}: holds no {RECORD_NAME}; this is no archive of a run")
    record = parse_record(files[RECORD_NAME], name)
    check_files(record, files, name)
    return PublishedBundle(record, files, hashlib.sha256(content).hexdigest())


def check_files(record: Record, files: Mapping[str, bytes], name: str) -> None:
    """Check that the files beside a record are exactly those that it names, and that its id can name a folder.

    Raises:
        RecordError: a file is missing, differs, or is not named, or the id is no name.
    """
    if not _RUN_ID.fullmatch(record.run_id):
        raise RecordError(f"{name}: the record's run_id {record.run_id[:100]!r} is no name; do not trust it")
    named = {file.path: file for file in record.files}
    for path in sorted({*named, *files} - {RECORD_NAME}):
        if path not in files:
            raise RecordError(f"{name}: the record names {path[:100]!r}, but it is missing; get it again")
        if path not in named:
            raise RecordError(f"{name}: {path!r} is not named by the record; do not trust it")
        if hashlib.sha256(files[path]).hexdigest() != named[path].sha256 or len(files[path]) != named[path].size_bytes:
            raise RecordError(f"{name}: {path!r} was changed after the record was sealed; get it again")
