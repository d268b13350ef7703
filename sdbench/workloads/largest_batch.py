"""Workload ``largest-batch``: how many images one call can make before memory runs out.

This is the search. The batch it finds is measured afterwards in fresh processes, like any other.
"""

import re
from contextlib import AbstractContextManager, nullcontext

from sdbench.backends.base import Backend, where_memory_ran_out
from sdbench.probes.memory import MemoryLimit, choose_host_limit, host_memory_bounded
from sdbench.probes.readings import value_or
from sdbench.schema.base import Known, Reading, Unknown
from sdbench.schema.metrics import read_memory
from sdbench.schema.outcome import MemoryUse
from sdbench.schema.wire import ProbeEvent, ProbingEvent
from sdbench.schema.workload_results import BatchProbe, BatchSearch
from sdbench.stats.batch_search import PROBE_STEPS, Tried, choose_next_batch, find_bracket
from sdbench.workloads.base import NO_REFERENCE_OPERATION, Session, WorkloadOutput
from sdbench.workloads.latency import time_call

_MESSAGE_CHARACTERS = 500
# All that oneDNN reports when it gets no memory. It has other reasons too, but not for a network that has just run.
_ONEDNN = re.compile(r"could not (create|execute) a primitive|could not create a memory")


def run(session: Session) -> WorkloadOutput:
    """Return the search: the probes in order, and the largest batch that fits."""
    experiment = session.experiment
    backend = session.open_backend(experiment)
    loaded = resident(session.read_memory(), backend)
    loaded_bytes = value_or(loaded, None)
    limit = _choose_limit(backend, experiment.memory_limit_bytes)
    probes = list(session.request.known_probes)
    first_call_s: float | None = None
    session.emit_stage("probe")
    most = experiment.batch_max
    while (batch := choose_next_batch(_tried(probes), limit.limit_bytes, loaded_bytes, most)) is not None:
        session.emit(ProbingEvent(batch=batch))
        probe = _probe(session, backend, batch, limit, ran_before=any(probe.fits for probe in probes))
        session.emit(ProbeEvent(probe=probe))
        probes.append(probe)
        first_call_s = probe.wall_s if first_call_s is None else first_call_s
    largest, _ = find_bracket(_tried(probes), most)
    started_s = session.clock.now_s()
    session.energy.start()
    return WorkloadOutput(
        batch=max(1, largest),
        stop_reason="converged",
        first_call_s=first_call_s or 0.0,
        memory=session.read_memory(),
        energy=session.energy.stop(0, session.clock.now_s() - started_s),
        reference_operation=NO_REFERENCE_OPERATION,
        host_bound_ratio=Unknown(reason="a search observes no call"),
        workload_result=BatchSearch(
            limit_bytes=limit.limit_bytes,
            limit_source=limit.source,
            loaded_bytes=loaded,
            probes=tuple(probes),
            largest_batch=largest,
            batch_max=most,
        ),
    )


def resident(memory: MemoryUse, backend: Backend) -> Reading[int]:
    """Return the memory (bytes) that runs out first, from the source for the device."""
    return read_memory(memory, on_gpu=backend.device_memory_limit_bytes() is not None)


def _choose_limit(backend: Backend, requested_bytes: int | None) -> MemoryLimit:
    device_bytes = backend.device_memory_limit_bytes()
    if device_bytes is None:
        return choose_host_limit(requested_bytes)
    if requested_bytes is not None and requested_bytes < device_bytes:
        return MemoryLimit(requested_bytes, "memory_limit_bytes")
    return MemoryLimit(device_bytes, "what is free on the device and what torch holds")


def _probe(session: Session, backend: Backend, batch: int, limit: MemoryLimit, *, ran_before: bool) -> BatchProbe:
    """Return what one call with ``batch`` images gave; ``ran_before``: a smaller batch has run here."""
    session.reset_memory()
    started_s = session.clock.now_s()
    message = ""
    peak: Reading[int] = Unknown(reason="memory ran out")
    try:
        with _bound(backend, limit):
            time_call(backend.with_batch(batch, min(session.experiment.steps, PROBE_STEPS)), session.clock)
        peak = resident(session.read_memory(), backend)
        if isinstance(peak, Known) and peak.value > limit.limit_bytes:
            message = f"its peak of {peak.value} bytes is above the limit"
    except (RuntimeError, MemoryError) as error:
        if where_memory_ran_out(error) is None and not (ran_before and _ONEDNN.search(str(error))):
            raise
        message = str(error)[:_MESSAGE_CHARACTERS]
    backend.recover()
    return BatchProbe(
        batch=batch, fits=not message, peak_bytes=peak, wall_s=session.clock.now_s() - started_s, message=message
    )


def _bound(backend: Backend, limit: MemoryLimit) -> AbstractContextManager[None]:
    return host_memory_bounded(limit.limit_bytes) if backend.device_memory_limit_bytes() is None else nullcontext()


def _tried(probes: list[BatchProbe]) -> list[Tried]:
    return [Tried(item.batch, item.fits, value_or(item.peak_bytes, None)) for item in probes]
