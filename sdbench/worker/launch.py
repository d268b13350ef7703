"""One launch from request to measurement: import, load, run the workload, read the probes."""

import base64
import faulthandler
import os
import signal
import sys
import time
from importlib import import_module

from sdbench.backends import BACKENDS
from sdbench.probes.cgroup import count_usable_cpus
from sdbench.probes.devices import check_card, choose_device
from sdbench.schema.wire import (
    REQUEST,
    CeilingsEvent,
    CeilingsRequest,
    Measurement,
    Picture,
    ResultEvent,
    StageEvent,
    WorkerRequest,
)
from sdbench.worker.clock import open_clock
from sdbench.worker.events import EventWriter
from sdbench.workloads import WORKLOADS
from sdbench.workloads.base import Session, Workload


def dump_stacks_when_asked() -> None:
    """Write where every thread is to standard error on SIGUSR1: the supervisor asks a worker that hangs."""
    faulthandler.register(signal.SIGUSR1, all_threads=True)


def measure_and_report(events_fd: int, import_s: float | None) -> int:
    """Run the request on standard input and return 0; any exception becomes a reported failure here.

    ``import_s`` is the time (s) that the template took to import the libraries, None for a launch of its own.
    """
    with os.fdopen(events_fd, "wb", buffering=0) as stream:
        events = EventWriter(stream)
        try:
            request = REQUEST.validate_json(sys.stdin.buffer.read())
            if isinstance(request, CeilingsRequest):
                events.emit(measure_what_device_reaches(request, events))
            else:
                events.emit(ResultEvent(measurement=run_launch(request, events, import_s)))
        except Exception as error:  # noqa: BLE001 - the worker boundary: the supervisor turns it into an outcome
            events.emit_failure(error)
            sys.excepthook(type(error), error, error.__traceback__)
    return 0


def run_launch(request: WorkerRequest, events: EventWriter, import_s: float | None) -> Measurement:
    """Return everything one launch measured; ``import_s`` as for ``measure_and_report``.

    Raises:
        Exception: whatever the pipeline raises; the caller reports it.
    """
    session = Session(request, open_clock(request.experiment.backend), events.emit)
    if import_s is None:
        session.emit_stage("import")
        import_s = import_libraries(request.experiment.backend)
    workload: Workload = import_module(WORKLOADS[request.experiment.workload])
    output = workload.run(session)
    measured = vars(output) | {
        "warnings": (*output.warnings, *session.backend.warnings()),
        "pictures": tuple(
            Picture(path=path, webp_base64=base64.b64encode(content).decode())
            for path, content in output.pictures.items()
        ),
        "trace_base64": base64.b64encode(output.trace).decode() if output.trace else None,
    }
    measured.pop("trace")
    return Measurement(
        **measured,
        import_s=import_s,
        load_s=session.load_s,
        worker_cpu_s=time.process_time(),
        exports=session.backend.exports(),
        environment=session.backend.describe(),
    )


def measure_what_device_reaches(request: CeilingsRequest, events: EventWriter) -> CeilingsEvent:
    """Return the ceilings of the request's device; raises what torch does where it cannot use it."""
    events.emit(StageEvent(stage="ceilings"))
    import torch

    from sdbench.backends.ceilings import measure_ceilings

    if request.device.startswith("cuda"):
        check_card(choose_device(request.device), torch)
    threads = request.threads or count_usable_cpus()
    ceilings = measure_ceilings(request.device, threads, request.precisions, open_clock("pytorch"))
    return CeilingsEvent(ceilings=ceilings)


def import_libraries(backend: str) -> float:
    """Import what a backend and the workloads need, and return how long (s) it took."""
    started_s = time.perf_counter()
    for path in WORKLOADS.values():
        import_module(path)
    import_module(BACKENDS[backend]).import_libraries()
    return time.perf_counter() - started_s
