"""``python -m sdbench.worker.template FD PARENT BACKEND``: import a backend's libraries, then fork a worker per launch.

Importing takes five seconds of a launch of seven. A template does only that: it opens no device, builds no network and
runs no operator, so that a process forked from it is one in which nothing was measured before (ADR 16).
"""

import ctypes
import os
import socket
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

from sdbench.processes import die_with
from sdbench.schema.wire import (
    FORK,
    ExitedEvent,
    ForkedEvent,
    TemplateEvent,
    TemplateReady,
    UnusableForkEvent,
)
from sdbench.worker.events import EventWriter, describe_failure
from sdbench.worker.launch import dump_stacks_when_asked, import_libraries, measure_and_report

# Threads that a backend's libraries leave after their import and after a fork, and that hold no lock: onnxruntime's
# waits for work that only a session gives. OpenBLAS (of numpy and scipy) stops its own before a fork.
_HARMLESS_THREADS = {"onnxruntime": 1}
_CUDA_NOT_INITIALIZED = 3  # CUDA_ERROR_NOT_INITIALIZED in cuda.h
_MESSAGE_BYTES = 16
_FD_COUNT = 3


def main(arguments: list[str]) -> None:
    """Import the libraries and serve until the supervisor closes the socket; returns where an import fails."""
    control_fd, parent_pid, backend = int(arguments[0]), int(arguments[1]), arguments[2]
    die_with(parent_pid)
    dump_stacks_when_asked()
    with socket.socket(fileno=control_fd) as control:
        try:
            import_s = import_libraries(backend)
        except Exception as error:  # noqa: BLE001 - the supervisor reports it: a package may raise anything
            send(control, describe_failure(error, "import"))
            return
        send(control, TemplateReady(import_s=import_s, unsafe=reason_not_to_fork(_HARMLESS_THREADS.get(backend, 0))))
        serve(control, lambda events_fd: _measure(events_fd, import_s))


def serve(control: socket.socket, run_worker: Callable[[int], int]) -> NoReturn:
    """Fork a worker for each request; a worker exits with what ``run_worker`` returns, given the descriptor for events.

    It exits with ``_exit``, because tearing the interpreter down takes another second.
    """
    while True:
        message, fds, _, _ = socket.recv_fds(control, _MESSAGE_BYTES, _FD_COUNT)
        for fd in fds:
            os.set_inheritable(fd, False)  # a process that a worker starts has no use for them
        if message != FORK:
            os._exit(0)  # the supervisor closed the round; there is nothing to clean up
        template_pid, pid = os.getpid(), _fork()
        if pid == 0:
            control.close()
            return_code = _become_worker(fds, template_pid, run_worker)
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(return_code)
        for fd in fds:
            os.close(fd)
        send(control, ForkedEvent(pid=pid))
        end = os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
        if end is None:
            raise RuntimeError("a blocking wait returned nothing")
        return_code = end.si_status if end.si_code == os.CLD_EXITED else -end.si_status
        send(control, ExitedEvent(return_code=return_code))
        control.recv(_MESSAGE_BYTES)  # REAP: until then the worker's pid cannot be reused
        os.waitpid(pid, 0)


def send(control: socket.socket, event: TemplateEvent) -> None:
    """Send an event to the supervisor."""
    control.send(event.model_dump_json().encode())


def reason_not_to_fork(harmless_threads: int) -> str | None:
    """Return why a process forked from this one could hang or fail; None where it is safe."""
    # Libraries that know of forks stop their threads before one: only threads that stay count.
    if (pid := _fork()) == 0:
        os._exit(0)
    os.waitpid(pid, 0)
    count = len(list(Path("/proc/self/task").iterdir())) - 1
    if count > harmless_threads:
        return f"library threads that still run after the import: {count}, known to be harmless: {harmless_threads}"
    if cuda_is_initialized(Path("/proc/self/maps").read_text()):
        return "a library initialized CUDA while it was imported"
    return None


def cuda_is_initialized(maps: str) -> bool:
    """Return whether a library that this process has mapped called cuInit; ``maps`` as in /proc/self/maps.

    The driver's library itself answers CUDA_ERROR_NOT_INITIALIZED until then. Asking it initializes nothing.
    """
    paths = {line.split(maxsplit=5)[-1].strip() for line in maps.splitlines() if "/libcuda.so" in line}
    return any(
        ctypes.CDLL(path).cuDeviceGetCount(ctypes.byref(ctypes.c_int())) != _CUDA_NOT_INITIALIZED for path in paths
    )


def _fork() -> int:
    with warnings.catch_warnings():
        # Python 3.12 warns of any thread; which of them matter is checked above.
        warnings.simplefilter("ignore", DeprecationWarning)
        return os.fork()


def _become_worker(fds: list[int], template_pid: int, run_worker: Callable[[int], int]) -> int:
    os.setsid()
    die_with(template_pid)
    request_fd, output_fd, events_fd = fds
    for fd, standard in ((request_fd, 0), (output_fd, 1), (output_fd, 2)):
        os.dup2(fd, standard)
    os.close(request_fd)
    os.close(output_fd)
    return run_worker(events_fd)


def _measure(events_fd: int, import_s: float) -> int:
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda._is_in_bad_fork():  # noqa: SLF001 - the only way to ask
        return measure_and_report(events_fd, import_s)
    with os.fdopen(events_fd, "wb", buffering=0) as stream:
        EventWriter(stream).emit(UnusableForkEvent(reason="torch used CUDA before the fork"))
    return 0


if __name__ == "__main__":
    main(sys.argv[1:])
