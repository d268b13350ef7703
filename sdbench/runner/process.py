"""One worker process from start to end: its events, its time limit, its death."""

import contextlib
import os
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from sdbench.schema.study import BatchProbe
from sdbench.schema.wire import (
    WORKER_EVENT,
    FailureEvent,
    Measurement,
    ProbeEvent,
    ProbingEvent,
    ResultEvent,
    SampleEvent,
    StageEvent,
    WorkerRequest,
)

# -P: a diffusers.py in the current folder is not what is to be measured.
WORKER_COMMAND = (sys.executable, "-P", "-m", "sdbench.worker")
# 10 Hz: the telemetry's rate; a wake-up costs the supervisor some 0.3 ms of CPU.
TICK_S = 0.1
# Twice what is kept: it is redacted before it is cut to size.
STDERR_TAIL_BYTES = 16_000
# A result with one 512x512 image in base64 is under 2 MB; more without a line break is no event.
LINE_BYTES_MAX = 64 * 2**20
# After its last event a worker only has to exit; freeing a full-size model took under 1 s.
EXIT_GRACE_S = 30.0
STACK_DUMP_S = 1.0


@dataclass(frozen=True)
class WorkerEnd:
    """How a worker process ended, before it is judged. ``probing`` is the batch it was trying when it ended."""

    measurement: Measurement | None
    failure: FailureEvent | None
    garbage: str | None
    probes: tuple[BatchProbe, ...]
    probing: int | None
    stage: str
    return_code: int
    timed_out: bool
    out_of_memory_kills: int
    stderr_tail: str
    wall_s: float
    supervisor_cpu_s: float


@dataclass(frozen=True)
class Watch:
    """What is told while a worker runs: its pid once, every event, and every tick."""

    on_start: Callable[[int], None]
    on_event: Callable[[StageEvent | SampleEvent | ProbingEvent], None]
    on_tick: Callable[[], None]


def run_worker(
    request: WorkerRequest,
    timeout_s: float,
    watch: Watch,
    environment: Mapping[str, str],
    command: Sequence[str] = WORKER_COMMAND,
) -> WorkerEnd:
    """Start a worker, hand it ``request``, and return how it ended. It is dead when this returns or raises.

    The worker has a session of its own, so that Ctrl-C reaches only the supervisor, and asks the kernel to die
    with it.
    """
    started_s, cpu_started_s = time.monotonic(), time.process_time()
    kills_before = count_out_of_memory_kills()
    read_fd, write_fd = os.pipe()
    try:
        process = subprocess.Popen(
            [*command, str(write_fd), str(os.getpid())],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            pass_fds=(write_fd,),
            start_new_session=True,
            env={**os.environ, **environment},
        )
    except BaseException:
        os.close(read_fd)
        raise
    finally:
        os.close(write_fd)
    watcher = _Watcher(process, read_fd, watch, started_s + timeout_s)
    try:
        watcher.send(request)
        watcher.follow()
    finally:
        watcher.stop()
    return WorkerEnd(
        measurement=watcher.measurement,
        failure=watcher.failure,
        garbage=watcher.garbage,
        probes=tuple(watcher.probes),
        probing=watcher.probing,
        stage=watcher.stage,
        return_code=process.returncode,
        timed_out=watcher.timed_out,
        out_of_memory_kills=count_out_of_memory_kills() - kills_before,
        stderr_tail=bytes(watcher.tail).decode(errors="replace"),
        wall_s=time.monotonic() - started_s,
        supervisor_cpu_s=time.process_time() - cpu_started_s,
    )


def count_out_of_memory_kills(root: Path = Path("/")) -> int:
    """Return how many processes this kernel has killed for memory since boot; 0 where it does not say."""
    try:
        lines = (root / "proc/vmstat").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith("oom_kill ")), 0)


class _Watcher:
    """Reads a worker's two pipes until it is gone; blocks in select between events and ticks."""

    def __init__(self, process: "subprocess.Popen[bytes]", events_fd: int, watch: Watch, deadline_s: float) -> None:
        self.process = process
        self.watch = watch
        self.deadline_s = deadline_s
        self.stage = "start"
        self.measurement: Measurement | None = None
        self.failure: FailureEvent | None = None
        self.garbage: str | None = None
        self.probes: list[BatchProbe] = []
        self.probing: int | None = None
        self.timed_out = False
        self.tail = bytearray()
        self._events_fd = events_fd
        self._pending = bytearray()
        self._selector = selectors.DefaultSelector()

    def send(self, request: WorkerRequest) -> None:
        """Write the request; a worker that died at once is explained by following its pipes."""
        if self.process.stdin is None:
            raise RuntimeError("the worker was started without a pipe to its standard input")
        with contextlib.suppress(BrokenPipeError), self.process.stdin as pipe:
            pipe.write(request.model_dump_json().encode())

    def follow(self) -> None:
        """Return when both pipes are closed, or when the worker broke a rule and is to be stopped."""
        self.watch.on_start(self.process.pid)
        output = self.process.stdout
        if output is None:
            raise RuntimeError("the worker was started without a pipe from its standard output")
        os.set_blocking(self._events_fd, False)
        os.set_blocking(output.fileno(), False)
        self._selector.register(self._events_fd, selectors.EVENT_READ, self._read_events)
        self._selector.register(output.fileno(), selectors.EVENT_READ, self._read_output)
        next_tick_s = time.monotonic() + TICK_S
        while self._selector.get_map() and self.garbage is None:
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
                self._read_what_is_left()
                return  # dead; a child of it that still holds a pipe open is not waited for
            if self.measurement is not None or self.failure is not None:
                self.deadline_s = min(self.deadline_s, time.monotonic() + EXIT_GRACE_S)

    def _read_what_is_left(self) -> None:
        while ready := self._selector.select(0):
            for key, _ in ready:
                key.data(key.fd)

    def stop(self) -> None:
        """Kill whatever is left of the worker's process group and reap it."""
        if self.measurement is not None or self.failure is not None or not self._selector.get_map():
            # It has said all it will say: freeing memory and exiting may take a moment.
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(timeout=EXIT_GRACE_S)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        self._selector.close()
        os.close(self._events_fd)
        if self.process.stdout is not None:
            self._drain(self.process.stdout.fileno())
            self.process.stdout.close()

    def _time_out(self) -> None:
        if self.measurement is not None or self.failure is not None:
            return  # it has said all; it is only slow to exit
        self.timed_out = True
        self.process.send_signal(signal.SIGUSR1)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(timeout=STACK_DUMP_S)

    def _read_events(self, fd: int) -> None:
        chunk = self._read(fd)
        if not chunk:
            return
        self._pending += chunk
        *lines, rest = bytes(self._pending).split(b"\n")
        self._pending = bytearray(rest)
        for line in lines:
            self._take_event(line)
        if len(self._pending) > LINE_BYTES_MAX:
            self.garbage = f"{len(self._pending)} bytes without a line break"

    def _take_event(self, line: bytes) -> None:
        try:
            event = WORKER_EVENT.validate_json(line)
        except ValidationError:
            self.garbage = line[:4_000].decode(errors="replace")
            return
        match event:
            case StageEvent():
                self.stage = event.stage
                self.watch.on_event(event)
            case SampleEvent():
                self.watch.on_event(event)
            case ProbingEvent():
                self.probing = event.batch
                self.watch.on_event(event)
            case ProbeEvent():
                self.probing = None
                self.probes.append(event.probe)
            case ResultEvent():
                self.measurement = event.measurement
            case FailureEvent():
                self.stage = event.stage
                self.failure = event

    def _read_output(self, fd: int) -> None:
        self.tail += self._read(fd)
        del self.tail[:-STDERR_TAIL_BYTES]

    def _read(self, fd: int) -> bytes:
        try:
            chunk = os.read(fd, 1 << 20)
        except BlockingIOError:
            return b""
        if not chunk:
            self._selector.unregister(fd)
        return chunk

    def _drain(self, fd: int) -> None:
        os.set_blocking(fd, False)
        with contextlib.suppress(BlockingIOError):
            while chunk := os.read(fd, 1 << 16):
                self.tail += chunk
        del self.tail[:-STDERR_TAIL_BYTES]
