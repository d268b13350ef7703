"""Locks on files, and with them one run per device at a time, over all users of a machine.

A lock file is never unlinked: with unlinking, two processes can hold "the" lock at once. The kernel releases
a lock when its holder dies, however it dies; workers do not inherit it (O_CLOEXEC).
"""

import contextlib
import hashlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path

from filelock import lock_descriptor

from sdbench.errors import EnvironmentProblem

# Not $TMPDIR: all users of a machine must meet in one folder.
LOCK_FOLDER = Path("/tmp/sdbench-locks")  # noqa: S108 - sticky, and the files hold nothing but a process id
_HOLDER_BYTES_MAX = 200
# How often who waits tries again: rarely, because the other process may be measuring.
_POLL_S = 1.0


def make_lock_folder(folder: Path) -> None:
    """Make a folder in which every user of the machine may write lock files, and remove only their own."""
    folder.mkdir(parents=True, exist_ok=True)
    with contextlib.suppress(PermissionError):  # its owner has done it
        folder.chmod(0o1777)


@contextlib.contextmanager
def hold_file(path: Path, *, refusal: str | None = None) -> Iterator[None]:
    """Hold the lock of a file; while another process has it, wait, or refuse with this text where there is one.

    Raises:
        EnvironmentProblem: the lock file cannot be opened, or another process has its lock and ``refusal`` says so.
    """
    with _open_lock(path) as descriptor:
        if not lock_descriptor(descriptor, blocking=refusal is None, poll_interval=_POLL_S):
            raise EnvironmentProblem(refusal)
        yield


@contextlib.contextmanager
def hold_device(
    lock_key: str, on_wait: Callable[[str], None], folder: Path | None = None, *, purpose: Callable[[], str] = str
) -> Iterator[None]:
    """Hold the lock of a device; while another run has it, pass its holder to ``on_wait`` and wait.

    ``purpose`` returns what others who wait are shown with the process: what runs, and until when at most. It is called
    when the lock is held.

    Raises:
        EnvironmentProblem: the lock file cannot be opened.
    """
    folder = folder or LOCK_FOLDER
    path = folder / (hashlib.sha256(lock_key.encode()).hexdigest()[:16] + ".lock")
    with _open_lock(path, for_all_users=True) as descriptor:
        if not lock_descriptor(descriptor, blocking=False):
            holder = os.pread(descriptor, _HOLDER_BYTES_MAX, 0).decode(errors="replace").strip()
            on_wait(f"process {holder}" if holder else "another process")
            lock_descriptor(descriptor, poll_interval=_POLL_S)
        os.ftruncate(descriptor, 0)
        holder = f"{os.getpid()} ({text})" if (text := purpose()) else str(os.getpid())
        os.pwrite(descriptor, holder.encode()[:_HOLDER_BYTES_MAX], 0)
        yield


@contextlib.contextmanager
def _open_lock(path: Path, *, for_all_users: bool = False) -> Iterator[int]:
    """Open a lock file, and close it, which releases its lock. FileLock refuses one of another user in /tmp."""
    flags = os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW
    try:
        if for_all_users and not path.parent.is_dir():
            make_lock_folder(path.parent)
        # Another user's file in a sticky folder must be opened without O_CREAT (fs.protected_regular).
        descriptor = os.open(path, flags if path.exists() else flags | os.O_CREAT, 0o666 if for_all_users else 0o644)
        if for_all_users:
            with contextlib.suppress(PermissionError):  # the owner has done it
                os.fchmod(descriptor, 0o666)
    except OSError as error:
        raise EnvironmentProblem(f"cannot open the lock {path}: {error.strerror}; make it writable") from None
    try:
        yield descriptor
    finally:
        os.close(descriptor)
