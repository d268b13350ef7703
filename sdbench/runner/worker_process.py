"""A worker as the supervisor sees it: three pipes and a process, spawned whole or forked from a template."""

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from sdbench.errors import EnvironmentLost
from sdbench.schema.manifest import Isolation
from sdbench.schema.outcome import RecordWarning

# -P: a diffusers.py in the current folder is not what is to be measured.
WORKER_COMMAND = (sys.executable, "-P", "-m", "sdbench.worker")
# A killed process frees its memory first, which took the kernel under 1 s for a full-size model.
DEATH_S = 30.0


@dataclass(frozen=True)
class Pipes:
    """The supervisor's ends: where it writes the request, and where it reads output and events."""

    request_fd: int
    output_fd: int
    events_fd: int


@dataclass(frozen=True)
class Start:
    """How a worker was started: forked from this template, or spawned, with a warning if that was not asked for.

    ``template_s`` is the time (s) that its template took to start for it; 0 where there was one.
    """

    isolation: Isolation
    template_id: str | None = None
    template_s: float = 0.0
    warnings: tuple[RecordWarning, ...] = ()


class WorkerProcess(Protocol):
    """A worker, leader of a process group of its own. Return codes are negative for a signal, as those of ``Popen``."""

    pid: int
    pipes: Pipes
    start: Start

    def poll(self) -> int | None:
        """Return the return code of a dead worker, None while it lives."""

    def wait(self, timeout_s: float) -> int | None:
        """Return the return code as soon as the worker is dead, None if it outlives ``timeout_s``."""

    def send_signal(self, number: signal.Signals) -> None:
        """Send a signal to the worker."""

    def kill(self) -> int:
        """Kill whatever is left of the worker's process group, reap it, and return the return code.

        Raises:
            EnvironmentLost: the kernel cannot end it.
        """


def report_stuck(pid: int) -> EnvironmentLost:
    """Return the error for a process that SIGKILL did not end."""
    return EnvironmentLost(
        f"process {pid} of this run cannot be killed: it is stuck in the kernel, most likely in the GPU's driver; look "
        "for Xid in dmesg, reset the GPU or restart the machine; the same command then resumes"
    )


@contextlib.contextmanager
def open_pipes() -> Iterator[tuple[Pipes, tuple[int, int, int]]]:
    """Yield the supervisor's and the worker's ends; the worker's are closed then, and where it fails to start all."""
    fds: list[int] = []
    try:
        for _ in range(3):
            fds += os.pipe()
        request_read, request_write, output_read, output_write, events_read, events_write = fds
        yield Pipes(request_write, output_read, events_read), (request_read, output_write, events_write)
        fds = [request_read, output_write, events_write]
    finally:
        for fd in fds:
            os.close(fd)


class SpawnedWorker:
    """A worker that was spawned, and imports its libraries itself."""

    def __init__(self, command: Sequence[str], environment: Mapping[str, str], start: Start) -> None:
        self.start = start
        with open_pipes() as (self.pipes, (request_fd, output_fd, events_fd)):
            self._process = subprocess.Popen(
                [*command, str(events_fd), str(os.getpid())],
                stdin=request_fd,
                stdout=output_fd,
                stderr=subprocess.STDOUT,
                pass_fds=(events_fd,),
                start_new_session=True,
                env=environment,
            )
        self.pid = self._process.pid

    def poll(self) -> int | None:
        """Return the return code of a dead worker, None while it lives."""
        return self._process.poll()

    def wait(self, timeout_s: float) -> int | None:
        """Return the return code as soon as the worker is dead, None if it outlives ``timeout_s``."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            return self._process.wait(timeout=timeout_s)
        return None

    def send_signal(self, number: signal.Signals) -> None:
        """Send a signal to the worker."""
        self._process.send_signal(number)

    def kill(self) -> int:
        """Kill whatever is left of the worker's process group, reap it, and return the return code.

        Raises:
            EnvironmentLost: the kernel cannot end it.
        """
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        return_code = self.wait(DEATH_S)
        if return_code is None:
            raise report_stuck(self.pid)
        return return_code
