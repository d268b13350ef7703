"""An append-only journal: one CRC-checked JSON line per finished step, on the disk before the next step starts."""

import contextlib
import json
import os
import zlib
from pathlib import Path
from typing import Any, Self

from sdbench.errors import EnvironmentProblem, RecordError
from sdbench.schema.base import canonical_json
from sdbench.store.files import read_file
from sdbench.store.layout import JOURNAL_BYTES_MAX


class Journal:
    """An open journal. Each line is ``{"crc32": ..., "entry": ...}``, written with O_APPEND and fdatasync."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._fd)

    def append(self, entry: dict[str, Any]) -> None:
        """Write one entry and wait until the disk has it.

        Raises:
            EnvironmentProblem: the disk is full or broken; what was written before stays valid.
        """
        line = encode_line(entry)
        length = os.fstat(self._fd).st_size
        try:
            written = 0
            while written < len(line):
                written += os.write(self._fd, line[written:])
            os.fdatasync(self._fd)
        except OSError as error:
            with contextlib.suppress(OSError):  # a torn line is cut on the next reading
                os.ftruncate(self._fd, length)
            raise EnvironmentProblem(
                f"cannot write {self.path}: {error.strerror}; what was finished before is kept: "
                "make room and run the same command again to continue"
            ) from None


def encode_line(entry: dict[str, Any]) -> bytes:
    """Return the journal line of an entry."""
    text = canonical_json(entry)
    return f'{{"crc32":"{zlib.crc32(text.encode()):08x}","entry":{text}}}\n'.encode()


def read_journal(path: Path) -> tuple[tuple[dict[str, Any], ...], int]:
    """Return the entries of a journal and the length (bytes) of its valid part; a torn last line is left out.

    Raises:
        RecordError: a whole line is damaged, or the file cannot be read or is too large.
    """
    return decode_journal(read_file(path, JOURNAL_BYTES_MAX), str(path))


def decode_journal(content: bytes, name: str) -> tuple[tuple[dict[str, Any], ...], int]:
    """Return what ``read_journal`` does for the bytes of a journal; ``name`` stands for it in messages.

    Raises:
        RecordError: a whole line is damaged.
    """
    # What follows the last line break is torn, whatever it is: a line is written together with its break.
    *lines, torn = content.split(b"\n")
    entries: list[dict[str, Any]] = []
    for number, line in enumerate(lines, start=1):
        entry = _decode_line(line)
        if entry is None:
            raise RecordError(
                f"{name}:{number}: the line is damaged (its checksum does not match); "
                "restore the file from a copy, or start over with --fresh"
            )
        entries.append(entry)
    return tuple(entries), len(content) - len(torn)


def cut_torn_tail(path: Path) -> tuple[dict[str, Any], ...]:
    """Return the entries of a journal, with the errors of ``read_journal``, after cutting a torn last line on disk."""
    entries, valid_bytes = read_journal(path)
    if valid_bytes < path.stat().st_size:
        os.truncate(path, valid_bytes)
    return entries


def _decode_line(line: bytes) -> dict[str, Any] | None:
    try:
        wrapped = json.loads(line)
        entry = wrapped["entry"]
        is_valid = f"{zlib.crc32(canonical_json(entry).encode()):08x}" == wrapped["crc32"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    return entry if is_valid and isinstance(entry, dict) else None
