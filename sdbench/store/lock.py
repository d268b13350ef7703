"""One run per device at a time, over all users of a machine."""

import contextlib
import fcntl
import hashlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path

from sdbench.errors import EnvironmentProblem

# Not $TMPDIR: all users of a machine must meet in one folder.
LOCK_FOLDER = Path("/tmp/sdbench-locks")  # noqa: S108 - sticky, and the files hold nothing but a process id


@contextlib.contextmanager
def hold_file(path: Path) -> Iterator[None]:
    """Hold the lock of a file, which is never unlinked; wait while another process has it.

    Raises:
        EnvironmentProblem: the lock file cannot be opened.
    """
    descriptor = _open_lock(path)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def try_file(path: Path) -> Iterator[bool]:
    """Hold the lock of a file if no other process has it; yield whether that is so.

    Raises:
        EnvironmentProblem: the lock file cannot be opened.
    """
    descriptor = _open_lock(path)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        yield True
    finally:
        os.close(descriptor)


def _open_lock(path: Path) -> int:
    try:
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
    except OSError as error:
        raise EnvironmentProblem(f"cannot open the lock {path}: {error.strerror}; make it writable") from None


@contextlib.contextmanager
def hold_device(lock_key: str, on_wait: Callable[[str], None], folder: Path | None = None) -> Iterator[None]:
    """Hold the lock of a device; when another run has it, say so through ``on_wait`` and wait.

    The file is never unlinked: with unlinking, two processes were seen to hold "the" lock at once. The kernel
    releases it when the holder dies, however it dies; workers do not inherit it (O_CLOEXEC).

    Raises:
        EnvironmentProblem: the lock file cannot be opened.
    """
    place = folder or LOCK_FOLDER
    path = place / (hashlib.sha256(lock_key.encode()).hexdigest()[:16] + ".lock")
    try:
        if not place.is_dir():
            place.mkdir(parents=True, exist_ok=True)
            place.chmod(0o1777)
        # Another user's file in a sticky folder must be opened without O_CREAT (fs.protected_regular).
        flags = os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW
        descriptor = os.open(path, flags if path.exists() else flags | os.O_CREAT, 0o666)
        with contextlib.suppress(PermissionError):  # the owner has done it
            os.fchmod(descriptor, 0o666)
    except OSError as error:
        raise EnvironmentProblem(f"cannot open the device's lock {path}: {error.strerror}; make it writable") from None
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(descriptor, 64, 0).decode(errors="replace").strip()
            on_wait(f"process {holder}" if holder else "another process")
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, str(os.getpid()).encode(), 0)
        yield
    finally:
        os.close(descriptor)
