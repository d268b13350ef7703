"""Launches of the virtual backend in this process: starting one costs a hundred times what it simulates."""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from io import BytesIO
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

from sdbench.probes.devices import choose_device
from sdbench.probes.fingerprint import collect_fingerprint
from sdbench.probes.virtual import VARIABLE
from sdbench.runner import launch, run
from sdbench.runner.process import Watch, WorkerEnd
from sdbench.runner.worker_process import Start
from sdbench.schema.fingerprint import Fingerprint
from sdbench.schema.wire import WorkerRequest
from sdbench.worker.events import EventWriter, describe_failure
from sdbench.worker.launch import run_launch


@contextmanager
def launches_in_process() -> Iterator[None]:
    """Let launches of the virtual backend run in this process, on one fingerprint of the machine."""
    fingerprint = cache(lambda: collect_fingerprint(choose_device("cpu")))

    def run_worker(request: WorkerRequest, _timeout_s: float, watch: Watch, start: Callable[[float], Any]) -> WorkerEnd:
        os.environ[VARIABLE] = start(0.0).environment[VARIABLE]
        try:
            watch.on_start(os.getpid())
            events: Any = SimpleNamespace(write=BytesIO().write)
            measurement = run_launch(request.model_dump_json().encode(), EventWriter(events), 0.0)
            return WorkerEnd(start=Start("spawn"), measurement=measurement)
        except MemoryError as error:
            return WorkerEnd(start=Start("spawn"), failure=describe_failure(error, "measure"))
        finally:
            del os.environ[VARIABLE]

    class InProcess:
        def __init__(self, _note_worker: object) -> None: ...

        def start_round(self) -> None: ...

        def close(self) -> None: ...

        def spawn(self, _commands: Sequence[str], environment: dict[str, str], _start: Start) -> Any:
            return SimpleNamespace(environment=environment)

    def read_fingerprint(_spec: object) -> Fingerprint:
        return fingerprint()

    with (
        patch.object(launch, "run_worker", run_worker),
        patch.object(run, "Launcher", InProcess),
        patch.object(run, "read_fingerprint", read_fingerprint),
    ):
        yield
