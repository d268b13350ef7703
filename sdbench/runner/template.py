"""Templates: processes that have imported a backend's libraries, and fork a worker for each launch of a round."""

import contextlib
import os
import secrets
import select
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence

from pydantic import ValidationError

from sdbench.errors import EnvironmentProblem
from sdbench.processes import outlives, read_start_ticks
from sdbench.runner.worker_process import (
    DEATH_S,
    Pipes,
    Start,
    open_pipes,
    report_stuck,
)
from sdbench.schema.wire import (
    FORK,
    REAP,
    TEMPLATE_EVENT,
    ExitedEvent,
    FailureEvent,
    ForkedEvent,
    TemplateEvent,
    TemplateReady,
)

TEMPLATE_COMMAND = (sys.executable, "-P", "-m", "sdbench.worker.template")
_EVENT_BYTES_MAX = 65_536
_OUTPUT_BYTES = 16_000
_ID_BYTES = 8
STACK_DUMP_S = 1.0
_TICK_S = 0.5


class TemplateDied(Exception):
    """A template ended before it had forked the worker. Its attributes are those of a worker that died on import."""

    def __init__(
        self, return_code: int, output_tail: str, failure: FailureEvent | None = None, *, timed_out: bool
    ) -> None:
        super().__init__(f"return code {return_code}")
        self.return_code = return_code
        self.output_tail = output_tail
        self.failure = failure
        self.timed_out = timed_out


class Template:
    """One template process, ready to fork."""

    def __init__(
        self,
        command: Sequence[str],
        backend: str,
        environment: Mapping[str, str],
        deadline_s: float,
        on_tick: Callable[[], None],
    ) -> None:
        """Start the process and wait until it has imported the libraries of ``backend``, calling ``on_tick`` meanwhile.

        Raises:
            TemplateDied: it died, or was not ready at ``deadline_s`` (monotonic).
            EnvironmentProblem: a library cannot be imported.
        """
        self.template_id = secrets.token_hex(_ID_BYTES)
        # A file and not a pipe: nobody reads while it imports.
        self._output = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the template
        self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._process = subprocess.Popen(
                [*command, str(theirs.fileno()), str(os.getpid()), backend],
                stdin=subprocess.DEVNULL,
                stdout=self._output,
                stderr=subprocess.STDOUT,
                pass_fds=(theirs.fileno(),),
                start_new_session=True,
                env=environment,
            )
        try:
            self.unsafe = self._wait_until_ready(backend, deadline_s, on_tick)
        except BaseException:
            self.close()
            raise

    def _wait_until_ready(self, backend: str, deadline_s: float, on_tick: Callable[[], None]) -> str | None:
        event, is_last = None, False
        while event is None and not is_last:
            # A process that is dead by now may have sent its last event before.
            is_last = self.return_code is not None or time.monotonic() >= deadline_s
            event = self.receive(min(deadline_s, time.monotonic() + _TICK_S))
            on_tick()
        if isinstance(event, FailureEvent) and event.out_of_memory is None:
            raise EnvironmentProblem(
                f"cannot import the libraries of backend {backend!r}: {event.error_type}: "
                f"{' '.join(event.message.split())}; install them again"
            )
        if not isinstance(event, TemplateReady):
            raise self.died(event)
        return event.unsafe

    def fork(self, deadline_s: float, template_s: float = 0.0) -> "ForkedWorker":
        """Return a new worker; ``template_s`` is the time (s) that this template took to start for it.

        Raises:
            TemplateDied: there is none, or it did not answer before ``deadline_s`` (monotonic).
        """
        with open_pipes() as (pipes, fds):
            with contextlib.suppress(ConnectionError):
                socket.send_fds(self._control, [FORK], fds)
            event = self.receive(deadline_s)
            if not isinstance(event, ForkedEvent):
                raise self.died(event)
        return ForkedWorker(self, event.pid, pipes, template_s)

    def receive(self, deadline_s: float) -> TemplateEvent | None:
        """Return the next event; None when the template is dead, or when there is none before ``deadline_s``."""
        left_s = max(0.0, deadline_s - time.monotonic())
        if not select.select([self._control], [], [], left_s)[0]:
            return None
        with contextlib.suppress(ConnectionResetError):
            if message := self._control.recv(_EVENT_BYTES_MAX):
                with contextlib.suppress(ValidationError):
                    return TEMPLATE_EVENT.validate_json(message)
                self._process.kill()
        self._wait()
        return None

    def reap(self) -> None:
        """Let the template forget a worker of which nothing is left."""
        with contextlib.suppress(ConnectionError):
            self._control.send(REAP)

    def died(self, event: TemplateEvent | None) -> TemplateDied:
        """Return the error for a template that gave ``event`` instead of what was expected; it is dead then."""
        timed_out = event is None and self._process.poll() is None
        if timed_out:
            self._process.send_signal(signal.SIGUSR1)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(timeout=STACK_DUMP_S)
        failure = event if isinstance(event, FailureEvent) else None
        self._process.kill()
        return_code = self._wait()
        self._output.seek(max(0, self._output.seek(0, os.SEEK_END) - _OUTPUT_BYTES))
        tail = self._output.read().decode(errors="replace")
        return TemplateDied(return_code, tail, failure, timed_out=timed_out)

    @property
    def return_code(self) -> int | None:
        """The return code of a dead template, None while it lives."""
        return self._process.poll()

    def close(self) -> None:
        """End the process, which has nothing to lose."""
        with self._control, self._output:
            self._process.kill()
            self._wait()

    def _wait(self) -> int:
        try:
            return self._process.wait(timeout=DEATH_S)
        except subprocess.TimeoutExpired:
            raise report_stuck(self._process.pid) from None


class ForkedWorker:
    """A worker that a template forked. The kernel kills it with its template."""

    def __init__(self, template: Template, pid: int, pipes: Pipes, template_s: float) -> None:
        self.pid = pid
        self.pipes = pipes
        self.start = Start("fork", template.template_id, template_s)
        self._template = template
        self._return_code: int | None = None
        self._start_ticks = read_start_ticks(pid)

    def poll(self) -> int | None:
        """Return the return code of a dead worker, None while it lives."""
        return self.wait(0.0)

    def wait(self, timeout_s: float) -> int | None:
        """Return the return code as soon as the worker is dead, None if it outlives ``timeout_s``."""
        if self._return_code is None:
            event = self._template.receive(time.monotonic() + timeout_s)
            self._return_code = event.return_code if isinstance(event, ExitedEvent) else self._template.return_code
        return self._return_code

    def send_signal(self, number: signal.Signals) -> None:
        """Send a signal to the worker."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, number)

    def kill(self) -> int:
        """Kill whatever is left of the worker's process group, reap it, and return the return code.

        Raises:
            EnvironmentLost: the kernel cannot end it.
        """
        # A worker that has only just been forked has no group yet.
        for kill in (os.killpg, os.kill):
            with contextlib.suppress(ProcessLookupError):
                kill(self.pid, signal.SIGKILL)
        return_code = self.wait(DEATH_S)
        if return_code is None:
            # One of the two is stuck.
            return_code = self._template.died(None).return_code
        if outlives(self.pid, self._start_ticks, DEATH_S):
            raise report_stuck(self.pid)
        self._template.reap()
        return return_code
