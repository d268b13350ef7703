"""One worker process from start to end: its events, its time limit, its death."""

import contextlib
import os
import selectors
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from sdbench.probes.readings import value_or
from sdbench.probes.sysfs import ROOT, read_text
from sdbench.runner.template import STACK_DUMP_S, TemplateDied
from sdbench.runner.worker_process import Start, WorkerProcess
from sdbench.schema.ceilings import Ceilings
from sdbench.schema.wire import (
    WORKER_EVENT,
    CeilingsEvent,
    FailureEvent,
    Measurement,
    ProbeEvent,
    ProbingEvent,
    Request,
    ResultEvent,
    SampleEvent,
    StageEvent,
    UnusableForkEvent,
)
from sdbench.schema.workload_results import BatchProbe

# 10 Hz: the telemetry's rate; a wake-up costs the supervisor some 0.3 ms of CPU.
TICK_S = 0.1
# Twice what is kept: it is redacted before it is cut to size.
STDERR_TAIL_BYTES = 16_000
# A result with one 512x512 image in base64 is under 2 MB; more without a line break is not an event.
LINE_BYTES_MAX = 64 * 2**20
# After its last event a worker only has to exit; freeing a full-size model took under 1 s.
EXIT_GRACE_S = 30.0


# A template died before it had forked the worker.
_DIED_EARLY = Start("fork")


@dataclass
class WorkerEnd:
    """What a worker has sent so far and how it ended, before it is judged. ``probing`` is the batch it is trying.

    ``unusable_fork`` is why this launch has to be repeated in a spawned process.
    """

    stage: str = "start"
    start: Start = _DIED_EARLY
    measurement: Measurement | None = None
    ceilings: Ceilings | None = None
    failure: FailureEvent | None = None
    unusable_fork: str | None = None
    garbage: str | None = None
    probes: tuple[BatchProbe, ...] = ()
    probing: int | None = None
    timed_out: bool = False
    return_code: int = 0
    out_of_memory_kills: int = 0
    output_tail: str = ""
    wall_s: float = 0.0
    supervisor_cpu_s: float = 0.0

    @property
    def has_reported(self) -> bool:
        """Whether the last event has come: the worker only has to exit."""
        return (self.measurement or self.ceilings or self.failure or self.unusable_fork) is not None


@dataclass(frozen=True)
class Watch:
    """Callbacks while a worker runs: once with its pid, at each event, and at each tick."""

    on_start: Callable[[int], None]
    on_event: Callable[[StageEvent | SampleEvent | ProbingEvent], None]
    on_tick: Callable[[], None]


def run_worker(request: Request, timeout_s: float, watch: Watch, start: Callable[[float], WorkerProcess]) -> WorkerEnd:
    """Start a worker, hand it ``request``, and return how it ended. It is dead when this returns or raises.

    Its wall time is without the start of a template, which is the round's.

    ``start`` gets the time (s, monotonic) by which the worker must have ended. The worker has a session of its own, so
    that Ctrl-C reaches only the supervisor, and the kernel kills it when its parent dies.

    Raises:
        EnvironmentProblem: a library that the worker needs cannot be imported.
        EnvironmentLost: the worker cannot be killed, and is not dead.
    """
    started_s, cpu_started_s = time.monotonic(), time.process_time()
    kills_before = count_out_of_memory_kills()
    try:
        end = _follow(request, watch, start, started_s + timeout_s)
    except TemplateDied as death:
        end = WorkerEnd(
            stage="import",
            failure=death.failure,
            timed_out=death.timed_out,
            return_code=death.return_code,
            output_tail=death.output_tail,
        )
    end.out_of_memory_kills = count_out_of_memory_kills() - kills_before
    end.wall_s = time.monotonic() - started_s - end.start.template_s
    end.supervisor_cpu_s = time.process_time() - cpu_started_s
    return end


def _follow(request: Request, watch: Watch, start: Callable[[float], WorkerProcess], deadline_s: float) -> WorkerEnd:
    watcher = _Watcher(start(deadline_s), watch, deadline_s)
    try:
        watcher.send(request)
        watcher.follow()
    finally:
        watcher.stop()
    watcher.end.output_tail = bytes(watcher.tail).decode(errors="replace")
    return watcher.end


def count_out_of_memory_kills(root: Path = ROOT) -> int:
    """Return how many processes this kernel has killed for memory since boot; 0 where that is unknown."""
    lines = value_or(read_text(root, "proc/vmstat"), "").splitlines()
    return next((int(line.split()[1]) for line in lines if line.startswith("oom_kill ")), 0)


class _Watcher:
    """Reads a worker's two pipes until it is gone; blocks in select between events and ticks."""

    def __init__(self, process: WorkerProcess, watch: Watch, deadline_s: float) -> None:
        self.process = process
        self.watch = watch
        self.deadline_s = deadline_s
        self.end = WorkerEnd(start=process.start)
        self.tail = bytearray()
        self._pending = bytearray()
        self._selector = selectors.DefaultSelector()
        for fd, read in ((process.pipes.events_fd, self._read_events), (process.pipes.output_fd, self._read_output)):
            os.set_blocking(fd, False)
            self._selector.register(fd, selectors.EVENT_READ, read)

    def send(self, request: Request) -> None:
        """Write the request; a worker that died at once is explained by following its pipes."""
        with contextlib.suppress(BrokenPipeError), os.fdopen(self.process.pipes.request_fd, "wb") as pipe:
            pipe.write(request.model_dump_json().encode())

    def follow(self) -> None:
        """Return when both pipes are closed, or when the worker broke a rule and is to be stopped."""
        self.watch.on_start(self.process.pid)
        next_tick_s = time.monotonic() + TICK_S
        while self._selector.get_map() and self.end.garbage is None:
            now_s = time.monotonic()
            if now_s >= self.deadline_s:
                self._time_out()
                return
            for key, _ in self._selector.select(max(0.0, min(next_tick_s, self.deadline_s) - now_s)):
                key.data(key.fd)
            if time.monotonic() >= next_tick_s:
                self.watch.on_tick()
                next_tick_s = max(next_tick_s + TICK_S, time.monotonic())
            if self.process.poll() is not None:
                while ready := self._selector.select(0):
                    for key, _ in ready:
                        key.data(key.fd)
                return  # dead; a child of it that still holds a pipe open is not waited for
            if self.end.has_reported:
                self.deadline_s = min(self.deadline_s, time.monotonic() + EXIT_GRACE_S)

    def stop(self) -> None:
        """Kill whatever is left of the worker's process group and reap it."""
        if self.end.has_reported or not self._selector.get_map():
            # It has reported all it will: freeing memory and exiting may take a moment.
            self.process.wait(EXIT_GRACE_S)
        try:
            self.end.return_code = self.process.kill()
            while self._read_output(self.process.pipes.output_fd):
                pass
        finally:
            self._selector.close()
            os.close(self.process.pipes.events_fd)
            os.close(self.process.pipes.output_fd)

    def _time_out(self) -> None:
        if self.end.has_reported:
            return  # it has reported; it is only slow to exit
        self.end.timed_out = True
        self.process.send_signal(signal.SIGUSR1)
        self.process.wait(STACK_DUMP_S)

    def _read_events(self, fd: int) -> None:
        self._pending += self._read(fd)
        *lines, rest = bytes(self._pending).split(b"\n")
        self._pending = bytearray(rest)
        for line in lines:
            self._take_event(line)
        if len(self._pending) > LINE_BYTES_MAX:
            self.end.garbage = f"{len(self._pending)} bytes without a line break"

    def _take_event(self, line: bytes) -> None:
        try:
            event = WORKER_EVENT.validate_json(line)
        except ValidationError:
            self.end.garbage = line[:4_000].decode(errors="replace")
            return
        if isinstance(event, StageEvent | FailureEvent):
            self.end.stage = event.stage
        match event:
            case StageEvent() | SampleEvent():
                self.watch.on_event(event)
            case ProbingEvent():
                self.end.probing = event.batch
                self.watch.on_event(event)
            case ProbeEvent():
                self.end.probing = None
                self.end.probes = (*self.end.probes, event.probe)
            case ResultEvent():
                self.end.measurement = event.measurement
            case CeilingsEvent():
                self.end.ceilings = event.ceilings
            case FailureEvent():
                self.end.failure = event
            case UnusableForkEvent():
                self.end.unusable_fork = event.reason

    def _read_output(self, fd: int) -> bool:
        chunk = self._read(fd)
        self.tail += chunk
        del self.tail[:-STDERR_TAIL_BYTES]
        return bool(chunk)

    def _read(self, fd: int) -> bytes:
        try:
            chunk = os.read(fd, 1 << 20)
        except BlockingIOError:
            return b""
        if not chunk and fd in self._selector.get_map():
            self._selector.unregister(fd)
        return chunk
