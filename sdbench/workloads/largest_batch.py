"""Workload ``largest-batch``: how many images one call can make before memory runs out.

This is the search. Its answer is measured afterwards in fresh processes, as any other batch.
"""

import re
from contextlib import AbstractContextManager, nullcontext

from sdbench.backends.base import Backend, where_memory_ran_out
from sdbench.probes.memory_limit import MemoryLimit, choose_host_limit, host_memory_bounded
from sdbench.schema.base import Known, Reading, Unknown
from sdbench.schema.outcome import MemoryFigures
from sdbench.schema.study import BatchProbe, BatchSearch
from sdbench.stats.batch_search import PROBE_STEPS, Tried, choose_next_batch, find_bracket
from sdbench.workloads.base import Findings, Session
from sdbench.workloads.latency import time_call

_MESSAGE_CHARACTERS = 500
# All that oneDNN says when it gets no memory. It has other reasons too, but not for a network that has just run.
_ONEDNN = re.compile(r"could not (create|execute) a primitive|could not create a memory")


def run(session: Session) -> Findings:
    """Return the search: the probes in order, and the largest batch that fits."""
    experiment = session.experiment
    backend = session.open_backend(experiment)
    loaded = resident(session.read_memory(), backend)
    limit = _choose_limit(backend, experiment.memory_limit_bytes)
    probes = list(session.known_probes)
    first_call_s: float | None = None
    session.say_stage("probe")
    while (batch := _choose_batch(probes, limit, loaded, experiment.batch_max)) is not None:
        session.say_probing(batch)
        probe = _probe(session, backend, batch, limit, ran_before=any(probe.fits for probe in probes))
        session.say_probe(probe)
        probes.append(probe)
        first_call_s = probe.wall_s if first_call_s is None else first_call_s
    largest, _ = find_bracket(_tried(probes), experiment.batch_max)
    started_s = session.clock.now_s()
    session.start_energy()
    return Findings(
        batch=max(1, largest),
        series=(),
        stop_reason="precise enough",
        first_call_s=first_call_s or 0.0,
        memory=session.read_memory(),
        energy=session.stop_energy(0, session.clock.now_s() - started_s),
        checks=(),
        images=(),
        notices=backend.notices(),
        environment=backend.describe(),
        exports=backend.exports(),
        study=BatchSearch(
            limit_bytes=limit.limit_bytes,
            limit_source=limit.source,
            loaded_bytes=loaded,
            probes=tuple(probes),
            largest_batch=largest,
            batch_max=experiment.batch_max,
        ),
    )


def resident(figures: MemoryFigures, backend: Backend) -> Reading[int]:
    """Return the figure that runs out first (bytes): torch's reserved peak on a GPU, resident memory on the host.

    Where torch does not allocate itself, what the driver charges to the process stands for its peak.
    """
    if backend.device_memory_limit_bytes() is None:
        return figures.host_rss_peak_bytes
    reserved = figures.torch_reserved_peak_bytes
    return reserved if isinstance(reserved, Known) else figures.device_process_bytes


def _choose_limit(backend: Backend, asked_bytes: int | None) -> MemoryLimit:
    device_bytes = backend.device_memory_limit_bytes()
    if device_bytes is None:
        return choose_host_limit(asked_bytes)
    if asked_bytes is not None and asked_bytes < device_bytes:
        return MemoryLimit(asked_bytes, "memory_limit_bytes")
    return MemoryLimit(device_bytes, "what is free on the device and what torch holds")


def _probe(session: Session, backend: Backend, batch: int, limit: MemoryLimit, *, ran_before: bool) -> BatchProbe:
    """Return what one call with ``batch`` images gave; ``ran_before`` tells that a smaller batch has run here."""
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


def _choose_batch(probes: list[BatchProbe], limit: MemoryLimit, loaded: Reading[int], batch_max: int) -> int | None:
    loaded_bytes = loaded.value if isinstance(loaded, Known) else None
    return choose_next_batch(_tried(probes), limit.limit_bytes, loaded_bytes, batch_max)


def _tried(probes: list[BatchProbe]) -> list[Tried]:
    return [
        Tried(item.batch, item.fits, item.peak_bytes.value if isinstance(item.peak_bytes, Known) else None)
        for item in probes
    ]
