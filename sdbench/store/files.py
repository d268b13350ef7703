"""Reading regular files of bounded size, and writing files that appear complete or not at all."""

import contextlib
import hashlib
import os
import secrets
import shutil
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path

from sdbench.errors import EnvironmentProblem, RecordError, UserError
from sdbench.schema.record import BundledFile
from sdbench.units import format_bytes


def read_file(path: Path, limit_bytes: int) -> bytes:
    """Return the bytes of a regular file.

    Raises:
        RecordError: the file is missing, unreadable, a pipe or device, or larger than ``limit_bytes``.
    """
    try:
        # Without O_NONBLOCK, opening a pipe waits for a writer.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(descriptor, "rb") as stream:
            status = os.fstat(stream.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise RecordError(f"{path}: not a regular file; name another, or restore it from a copy")
            content = b"" if status.st_size > limit_bytes else stream.read(limit_bytes + 1)
    except OSError as error:
        raise RecordError(f"cannot read {path}: {error.strerror}; check the path") from None
    refuse_size(max(status.st_size, len(content)), limit_bytes, str(path))
    return content


def refuse_size(size_bytes: int, limit_bytes: int, name: str) -> None:
    """Check that what ``name`` stands for is not too large.

    Raises:
        RecordError: it is larger than ``limit_bytes``.
    """
    if size_bytes > limit_bytes:
        raise RecordError(f"{name}: larger than the limit of {format_bytes(limit_bytes)}; name another file")


def make_folder(folder: Path) -> None:
    """Create a folder for results, unless it is there.

    Raises:
        EnvironmentProblem: it cannot be created, or not be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise EnvironmentProblem(f"cannot create {folder}: {error.strerror}; choose another with --out") from None
    if not os.access(folder, os.W_OK | os.X_OK):
        raise EnvironmentProblem(f"cannot write to {folder}; choose another folder with --out")


def write_whole(path: Path, *parts: bytes | memoryview) -> None:
    """Write a file's ``parts``, one after the other: temporary file, fsync, rename, fsync of the folder.

    Raises:
        UserError: ``path`` is a folder or a device, which a rename would replace.
        EnvironmentProblem: the folder is not writable or the disk is full; an earlier file stays as it was.
    """
    if path.exists() and not path.is_file():
        raise UserError(f"{path} exists and is not a regular file; name another file")
    with _draft_of(path, "check the folder and the free space") as draft:
        _write(draft, *parts)
        draft.replace(path)


def create_whole(path: Path, content: bytes) -> bool:
    """Do what ``write_whole`` does with a link, which loses to a file that exists; return whether it won.

    Raises:
        EnvironmentProblem: the folder is not writable, or has no hard links, or the disk is full.
    """
    with _draft_of(path, "check the folder, its free space, and that it has hard links") as draft:
        _write(draft, content)
        try:
            path.hardlink_to(draft)
        except FileExistsError:
            return False
    return True


def write_whole_folder(folder: Path, files: Mapping[str, bytes]) -> None:
    """Write a new folder of files by their paths in it: a draft next to it, fsync of each, rename, fsync of the parent.

    Raises:
        EnvironmentProblem: the folder is not writable, or exists already, or the disk is full.
    """
    with _draft_of(folder, "check the folder and the free space") as draft:
        draft.mkdir()
        for name, content in files.items():
            (draft / name).parent.mkdir(exist_ok=True)
            _write(draft / name, content)
        for inside in {(draft / name).parent for name in files}:
            sync_folder(inside)
        draft.rename(folder)


@contextlib.contextmanager
def _draft_of(path: Path, hint: str) -> Iterator[Path]:
    """Yield a new name next to ``path``, which starts with a dot; then remove it and sync the folder."""
    draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            yield draft
        finally:
            if draft.is_dir():
                shutil.rmtree(draft, ignore_errors=True)
            else:
                draft.unlink(missing_ok=True)
        sync_folder(path.parent)
    except OSError as error:
        raise EnvironmentProblem(f"cannot write {path}: {error.strerror}; {hint}") from None


def _write(path: Path, *parts: bytes | memoryview) -> None:
    with path.open("xb") as stream:
        for part in parts:
            stream.write(part)
        stream.flush()
        os.fsync(stream.fileno())


def sync_folder(folder: Path) -> None:
    """Wait until the names in ``folder`` are on the disk."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def describe_file(folder: Path, path: Path) -> BundledFile:
    """Return the name within ``folder``, hash and size (bytes) of a file."""
    with path.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    return BundledFile(path=path.relative_to(folder).as_posix(), sha256=digest, size_bytes=path.stat().st_size)
