"""Workload ``largest-batch``: how many images one call can make before memory runs out.

This is the search. The batch it finds is measured afterwards in fresh processes, like any other.
"""

from contextlib import nullcontext

from sdbench.backends.base import Backend, DeviceRoom, WrongExecution, where_memory_ran_out
from sdbench.probes.memory import MemoryLimit, choose_host_limit, host_memory_bounded
from sdbench.probes.readings import value_or
from sdbench.probes.wsl import is_wsl
from sdbench.schema.base import Reading, Unknown
from sdbench.schema.metrics import read_memory
from sdbench.schema.wire import ProbeEvent, ProbingEvent
from sdbench.schema.workload_results import BatchProbe, BatchSearch
from sdbench.stats.batch_search import PROBE_STEPS, Tried, choose_next_batch, find_bracket
from sdbench.workloads.base import (
    NO_ALLOCATOR_EVENTS,
    NO_REFERENCE_OPERATION,
    Session,
    WorkloadOutput,
    events_since,
)
from sdbench.workloads.latency import time_call
from sdbench.workloads.memory_warnings import describe_events

_MESSAGE_CHARACTERS = 500


def run(session: Session) -> WorkloadOutput:
    """Return the search: the probes in order, and the largest batch that fits."""
    experiment = session.experiment
    backend = session.open_backend(experiment)
    room = backend.read_device_room()
    loaded = read_memory(session.read_memory(), on_gpu=room is not None)
    loaded_bytes = value_or(loaded, None)
    limit = _choose_limit(room, loaded, experiment.memory_limit_bytes)
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
    return WorkloadOutput(
        batch=max(1, largest),
        stop_reason="converged",
        first_call_s=first_call_s or 0.0,
        memory=session.read_memory(),
        allocator=NO_ALLOCATOR_EVENTS,
        energy=session.energy.stop(0, 0.0),
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


def _choose_limit(room: DeviceRoom | None, loaded: Reading[int], requested_bytes: int | None) -> MemoryLimit:
    """Return the limit on what ``read_memory`` returns: on a GPU what is free, and what this process holds of it."""
    if room is None:
        return choose_host_limit(requested_bytes)
    if isinstance(loaded, Unknown):
        # A peak that cannot be read is above no limit: only the device's own refusal ends the search.
        if requested_bytes is not None or is_wsl():
            why = "memory_limit_bytes" if requested_bytes is not None else "what WSL2 pages to the host"
            reason = f"the memory of this process is unknown ({loaded.reason})"
            raise WrongExecution(f"{why} cannot be checked: {reason}; use backend: pytorch, which counts its own")
        return MemoryLimit(room.total_bytes, "all the device has: what this process holds is unknown")
    device_bytes = room.free_bytes + loaded.value
    if requested_bytes is not None and requested_bytes < device_bytes:
        return MemoryLimit(requested_bytes, "memory_limit_bytes")
    return MemoryLimit(device_bytes, "what is free on the device and what this process holds")


def _probe(session: Session, backend: Backend, batch: int, limit: MemoryLimit, *, ran_before: bool) -> BatchProbe:
    """Return what one call with ``batch`` images gave; ``ran_before``: a smaller batch has run here."""
    session.reset_memory()
    on_gpu = backend.read_device_room() is not None
    events = session.read_allocator_events()
    started_s = session.clock.now_s()
    fits, message = False, ""
    peak: Reading[int] = Unknown(reason="memory ran out")
    try:
        with nullcontext() if on_gpu else host_memory_bounded(limit.limit_bytes):
            time_call(backend.with_batch(batch, min(session.experiment.steps, PROBE_STEPS)), session.clock)
        peak = read_memory(session.read_memory(), on_gpu=on_gpu)
        if fits := value_or(peak, 0) <= limit.limit_bytes:
            message = describe_events(events_since(events, session.read_allocator_events()))
        else:
            message = f"its peak of {value_or(peak, 0)} bytes is above the limit"
    except (RuntimeError, MemoryError) as error:
        if where_memory_ran_out(error, ran_before=ran_before) is None:
            raise
        message = str(error)[:_MESSAGE_CHARACTERS] or type(error).__name__
    backend.recover()
    return BatchProbe(
        batch=batch, fits=fits, peak_bytes=peak, wall_s=session.clock.now_s() - started_s, message=message
    )


def _tried(probes: list[BatchProbe]) -> list[Tried]:
    return [Tried(item.batch, item.fits, value_or(item.peak_bytes, None)) for item in probes]
