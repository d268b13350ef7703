"""Files that appear whole or not at all."""

import hashlib
import os
import tempfile
from pathlib import Path

from sdbench.errors import EnvironmentProblem
from sdbench.schema.record import BundledFile


def write_whole(path: Path, content: bytes) -> None:
    """Write ``content`` to ``path``: temporary file, fsync, rename, fsync of the folder.

    Raises:
        EnvironmentProblem: the folder is not writable or the disk is full; an earlier file stays as it was.
    """
    temporary: str | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(content)
            stream.flush()
            os.fchmod(stream.fileno(), 0o644)
            os.fsync(stream.fileno())
        Path(temporary).replace(path)
        temporary = None
        sync_folder(path.parent)
    except OSError as error:
        raise EnvironmentProblem(
            f"cannot write {path}: {error.strerror}; check the folder and the free space"
        ) from None
    finally:
        if temporary is not None:
            Path(temporary).unlink(missing_ok=True)


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
