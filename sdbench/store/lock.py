"""Locks on files, and with them one run per device at a time, over all users of a machine.

A lock file is never unlinked: with unlinking, two processes can hold "the" lock at once. The kernel releases
a lock when its holder dies, however it dies; workers do not inherit it (O_CLOEXEC).
"""

import contextlib
import hashlib
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path

from filelock import lock_descriptor

from sdbench.errors import EnvironmentProblem
from sdbench.processes import outlives, read_start_ticks

# Not $TMPDIR: all users of a machine must meet in one folder.
LOCK_FOLDER = Path("/tmp/sdbench-locks")  # noqa: S108 - sticky, and the files hold nothing but process ids
_HOLDER_CHARACTERS_MAX = 200
_BYTES_MAX = 1000
# How often who waits tries again: rarely, because the other process may be measuring.
_POLL_S = 1.0
# The line after the holder's: the worker that was started last, by its id and start.
_WORKER = re.compile(r"^worker (\d{1,9}) (\d{1,18})$", re.MULTILINE)
# A killed worker frees its memory first, which took the kernel under 1 s for a full-size model.
_WORKER_DEATH_S = 30.0


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
    lock_key: str,
    on_wait: Callable[[str], None],
    folder: Path | None = None,
    *,
    purpose: Callable[[], str] = str,
    worker_death_s: float = _WORKER_DEATH_S,
) -> Iterator[Callable[[int], None]]:
    """Hold the lock of a device; while another run has it, pass its holder to ``on_wait`` and wait.

    ``purpose`` returns what others who wait are shown with the process: what runs, and until when at most. It is called
    when the lock is held. Yields what notes the id of each worker that is started. The kernel releases the lock of a
    dead supervisor, but a worker that is stuck in the driver outlives it and still has the device: the next holder
    waits for it for ``worker_death_s``, and refuses then.

    Raises:
        EnvironmentProblem: the lock file cannot be opened, or a worker of an earlier run does not end.
    """
    folder = folder or LOCK_FOLDER
    path = folder / (hashlib.sha256(lock_key.encode()).hexdigest()[:16] + ".lock")
    with _open_lock(path, for_all_users=True) as descriptor:
        if not lock_descriptor(descriptor, blocking=False):
            holder = _read(descriptor).partition("\n")[0].strip()
            on_wait(f"process {holder}" if holder else "another process")
            lock_descriptor(descriptor, poll_interval=_POLL_S)
        _wait_for_worker(_read(descriptor), worker_death_s)
        holder = f"{os.getpid()} ({text})" if (text := purpose()) else str(os.getpid())
        holder = " ".join(holder.split())[:_HOLDER_CHARACTERS_MAX]
        _write(descriptor, holder)
        yield lambda pid: _write(descriptor, f"{holder}\nworker {pid} {read_start_ticks(pid)}")


def _read(descriptor: int) -> str:
    return os.pread(descriptor, _BYTES_MAX, 0).decode(errors="replace")


def _write(descriptor: int, text: str) -> None:
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, text.encode(), 0)


def _wait_for_worker(text: str, limit_s: float) -> None:
    """Wait until the worker that a lock file's text names is dead.

    Raises:
        EnvironmentProblem: it is not; after a restart of the machine it is, or its id belongs to another process.
    """
    worker = _WORKER.search(text)
    if worker is not None and outlives(int(worker[1]), int(worker[2]), limit_s):
        raise EnvironmentProblem(
            f"process {worker[1]}, a worker of an earlier run, still has the device: nothing is measured next to it; "
            "kill it, or where it cannot be killed (state D: stuck in the driver) reset the GPU or restart the machine"
        )


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
