"""What the measuring loop adds to a call, against a bare loop over the same pipeline: interleaved, in CPU time.

``python -m sdbench.worker.overhead SECONDS`` measures for about that long and prints an ``Overhead`` as JSON.
"""

import copy
import os
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from itertools import count
from pathlib import Path
from statistics import median
from types import SimpleNamespace

from sdbench.backends.pytorch import PytorchBackend, open_backend
from sdbench.schema.experiment import Experiment
from sdbench.schema.manifest import Protocol
from sdbench.schema.wire import Overhead, SampleEvent
from sdbench.stats.order_statistics import median_interval
from sdbench.worker.clock import MonotonicClock
from sdbench.worker.events import EventWriter
from sdbench.workloads.latency import reason_to_stop, time_call

_PAIRS_MIN = 40
_IDLE_CALLS = 2000
_WARMUP_PAIRS = 4
_CONFIDENCE = 0.95
# One thread: with more, torch's threads spin while they wait, which counts as CPU time. One step: what the loop adds to
# a call does not depend on its length, and is the larger share of a short one.
_EXPERIMENT = Experiment(pipeline="tiny-sd", height=64, width=64, steps=1, threads=1)
# Never converged: the loop asks its rule, with all the statistics behind it, before each of its 20 calls.
_PROTOCOL = Protocol(calls_min=2, calls_max=21, relative_half_width=1e-9, launch_budget_s=1e6)


def measure_overhead(budget_s: float) -> Overhead:
    """Return what our loop costs: against a bare loop, and by itself around a pipeline that does nothing.

    Raises:
        ValueError: too few pairs were timed for an interval of the median.
    """
    with tempfile.TemporaryDirectory() as folder:
        backend = open_backend(_EXPERIMENT, "cpu", Path(folder), 1)
    idle = copy.copy(backend)
    idle.pipeline = lambda **_: SimpleNamespace(images=[])
    read_fd, write_fd = os.pipe()
    with os.fdopen(read_fd, "rb", buffering=0) as reader, os.fdopen(write_fd, "wb", buffering=0) as stream:
        loop, idle_loop = (_measuring_loop(each, EventWriter(stream)) for each in (backend, idle))
        between = partial(reader.read, 4096)
        pairs_s = _time_pairs(loop, lambda: backend.pipeline(**backend.call_arguments()), between, budget_s)
        own_s = median(_time_each(idle_loop, between))
    ratios = sorted(ours_s / bare_s for ours_s, bare_s in pairs_s)
    ranks = median_interval(len(ratios), _CONFIDENCE)
    if ranks is None:
        raise ValueError(f"{len(ratios)} pairs are too few for an interval of the median")
    return Overhead(
        ratio=median(ratios),
        low=ratios[ranks[0] - 1],
        high=ratios[ranks[1] - 1],
        pair_count=len(ratios),
        own_s=own_s,
        call_s=median(bare_s for _, bare_s in pairs_s),
    )


def _measuring_loop(backend: PytorchBackend, events: EventWriter) -> Callable[[], None]:
    """Return one pass of the loop in ``workloads.latency.run``: ask the rule, time a call, keep it, report it."""
    clock = MonotonicClock()
    steady_s: list[float] = []

    def call() -> None:
        if reason_to_stop(steady_s, _PROTOCOL, clock.now_s()) is not None:
            steady_s.clear()
        _, latency_s = time_call(backend, clock)
        steady_s.append(latency_s)
        events.emit(SampleEvent(latency_s=latency_s, warmup=False))

    return call


def _time_pairs(
    ours: Callable[[], None], bare: Callable[[], object], between: Callable[[], object], budget_s: float
) -> list[tuple[float, float]]:
    """Return the CPU times (s) of our and of the bare call, pair by pair."""
    pairs_s: list[tuple[float, float]] = []
    started_s = time.monotonic()
    for index in count(-_WARMUP_PAIRS):
        if index >= _PAIRS_MIN and time.monotonic() - started_s > budget_s:
            break
        # Each goes first in alternate pairs, so that drift of the machine favours neither.
        if index % 2:
            ours_s, bare_s = _cpu_time(ours), _cpu_time(bare)
        else:
            bare_s, ours_s = _cpu_time(bare), _cpu_time(ours)
        between()
        if index >= 0:
            pairs_s.append((ours_s, bare_s))
    return pairs_s


def _time_each(call: Callable[[], None], between: Callable[[], object]) -> list[float]:
    times_s = []
    for _ in range(_IDLE_CALLS):
        times_s.append(_cpu_time(call))
        between()
    return times_s


def _cpu_time(call: Callable[[], object]) -> float:
    start_s = time.process_time()
    call()
    return time.process_time() - start_s


if __name__ == "__main__":
    sys.stdout.write(measure_overhead(float(sys.argv[1])).model_dump_json() + "\n")
