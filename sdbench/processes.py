"""No process outlives the one that started it; where one does, that is known."""

import ctypes
import os
import select
import signal
from pathlib import Path

_PR_SET_PDEATHSIG = 1  # linux/prctl.h
# proc(5), /proc/PID/stat, counted after the name in parentheses: starttime is field 22 of all.
_START_FIELD = 19


def die_with(parent_pid: int) -> None:
    """Ask the kernel to kill this process when its parent dies, also when that has already happened."""
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent_pid:
        os._exit(1)


def read_start_ticks(pid: int) -> int:
    """Return when a process started (clock ticks since boot): with its id, what no other process of this boot has.

    0 where there is no such process.
    """
    try:
        return int(Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()[_START_FIELD])
    except (OSError, IndexError, ValueError):
        return 0


def outlives(pid: int, start_ticks: int, limit_s: float) -> bool:
    """Return whether a process that started at ``start_ticks`` is still there after ``limit_s`` seconds."""
    try:
        # Also of another user. It is readable when the last thread is dead, which a stuck one never is.
        descriptor = os.pidfd_open(pid)
    except OSError:
        return False
    try:
        return read_start_ticks(pid) == start_ticks and not select.select([descriptor], [], [], limit_s)[0]
    finally:
        os.close(descriptor)


def return_freed_memory() -> None:
    """Give what was freed back to the kernel, which counts it as this process's own until then; glibc only."""
    if (trim := getattr(ctypes.CDLL(None), "malloc_trim", None)) is not None:
        trim(0)
