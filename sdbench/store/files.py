"""Files that appear whole or not at all."""

import hashlib
import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from sdbench.errors import EnvironmentProblem, UserError

if TYPE_CHECKING:
    from sdbench.schema.record import BundledFile


def write_whole(path: Path, content: bytes) -> None:
    """Write ``content`` to ``path``: temporary file, fsync, rename, fsync of the folder.

    Raises:
        UserError: ``path`` is a folder or a device, which a rename would replace.
        EnvironmentProblem: the folder is not writable or the disk is full; an earlier file stays as it was.
    """
    if path.exists() and not path.is_file():
        raise UserError(f"{path} is there and is no ordinary file; name another file")
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


def write_whole_folder(folder: Path, files: Mapping[str, bytes]) -> None:
    """Write a new folder of files by their paths in it: a draft beside it, fsync of each, rename, fsync of the parent.

    What a crash leaves of a draft starts with a dot.

    Raises:
        EnvironmentProblem: the folder is not writable, or there already, or the disk is full.
    """
    draft: Path | None = None
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        draft = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
        for name, content in files.items():
            path = draft / name
            path.parent.mkdir(exist_ok=True)
            with path.open("wb") as stream:
                stream.write(content)
                stream.flush()
                os.fsync(stream.fileno())
        for inside in {(draft / name).parent for name in files}:
            sync_folder(inside)
        draft.chmod(0o755)
        draft.rename(folder)
        draft = None
        sync_folder(folder.parent)
    except OSError as error:
        raise EnvironmentProblem(
            f"cannot write {folder}: {error.strerror}; check the folder and the free space"
        ) from None
    finally:
        if draft is not None:
            shutil.rmtree(draft, ignore_errors=True)


def sync_folder(folder: Path) -> None:
    """Wait until the names in ``folder`` are on the disk."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def describe_file(folder: Path, path: Path) -> "BundledFile":
    """Return the name within ``folder``, hash and size (bytes) of a file."""
    from sdbench.schema.record import BundledFile

    with path.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    return BundledFile(path=path.relative_to(folder).as_posix(), sha256=digest, size_bytes=path.stat().st_size)
