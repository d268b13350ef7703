"""What our loop adds to a call, against a bare loop over the same pipeline: interleaved, in CPU time."""

import copy
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from types import SimpleNamespace

from sdbench.backends.pytorch import PytorchBackend, open_backend
from sdbench.schema.experiment import Experiment
from sdbench.schema.manifest import Protocol
from sdbench.worker.clock import MonotonicClock
from sdbench.worker.events import EventWriter
from sdbench.workloads.latency import reason_to_stop, time_call
from tests.benchmarks.figures import Figure

LIMIT = 0.005
PAIRS_MIN = 40
PAIRS_MAX = 400
BUDGET_S = 75.0
IDLE_CALLS = 2000
WARMUP_PAIRS = 4
CONFIDENCE = 0.95
# One thread: with more, torch's threads spin while they wait, and CPU time then counts the waiting.
EXPERIMENT = Experiment(architecture="tiny", height=64, width=64, steps=4, threads=1)
# Never precise enough: the loop asks its rule, with all the statistics behind it, before each of its 20 calls.
PROTOCOL = Protocol(calls_min=2, calls_max=21, relative_half_width=1e-9, launch_budget_s=1e6)


def measure_overhead() -> list[Figure]:
    """Return what our loop costs: against a bare loop, and by itself around a pipeline that does nothing."""
    with tempfile.TemporaryDirectory() as folder:
        backend = open_backend(EXPERIMENT, "cpu", Path(folder), 1)
    idle = copy.copy(backend)
    idle.pipeline = lambda **_: SimpleNamespace(images=[])
    read_fd, write_fd = os.pipe()
    with os.fdopen(read_fd, "rb", buffering=0) as reader, os.fdopen(write_fd, "wb", buffering=0) as stream:
        loop, idle_loop = (MeasuringLoop(each, EventWriter(stream)) for each in (backend, idle))
        pairs_s = _time_pairs(loop.call, lambda: bare_call(backend), lambda: reader.read(4096))
        own_s = median(_time_each(idle_loop.call, lambda: reader.read(4096)))
    return [
        _versus_bare([ours_s / bare_s for ours_s, bare_s in pairs_s]),
        _alone(own_s, median(bare for _, bare in pairs_s)),
    ]


def _versus_bare(ratios: list[float]) -> Figure:
    low, high = median_interval(ratios, CONFIDENCE)
    measured = f"{median(ratios) - 1:+.2%} [{low - 1:+.2%}, {high - 1:+.2%}], {len(ratios)} pairs"
    return Figure("our loop / a bare loop, CPU time", measured, f"within {LIMIT:.1%}", judge(low, high))


def _alone(own_s: float, bare_s: float) -> Figure:
    share = own_s / bare_s
    measured = f"{share:.2%} ({own_s * 1e6:.0f} us of {bare_s * 1e3:.0f} ms)"
    return Figure("our loop around nothing / a bare call", measured, f"below {LIMIT:.1%}", share < LIMIT)


def judge(low: float, high: float) -> bool | None:
    """Return whether an interval of the ratio lies within the bar, or None when the machine is too busy to tell."""
    if max(abs(low - 1), abs(high - 1)) <= LIMIT:
        return True
    wholly_beyond = low > 1 + LIMIT or high < 1 - LIMIT
    return False if wholly_beyond else None


class MeasuringLoop:
    """One turn of the loop in ``workloads.latency.run``: ask the rule, time a call, keep it, tell the supervisor."""

    def __init__(self, backend: PytorchBackend, events: EventWriter) -> None:
        self._backend = backend
        self._events = events
        self._clock = MonotonicClock()
        self._steady_s: list[float] = []

    def call(self) -> None:
        """Do all that one timed call costs our worker."""
        if reason_to_stop(self._steady_s, PROTOCOL, self._clock.now_s()) is not None:
            self._steady_s.clear()
        _, latency_s = time_call(self._backend, self._clock)
        self._steady_s.append(latency_s)
        self._events.say_sample(latency_s, warmup=False)


def bare_call(backend: PytorchBackend) -> None:
    """Call the same pipeline with the same arguments, and nothing else."""
    backend.pipeline(**backend.arguments)


def _time_pairs(
    ours: Callable[[], None], bare: Callable[[], None], between: Callable[[], object]
) -> list[tuple[float, float]]:
    """Return the CPU times (s) of our and of the bare call, pair by pair."""
    pairs_s: list[tuple[float, float]] = []
    started_s = time.monotonic()
    for index in range(-WARMUP_PAIRS, PAIRS_MAX):
        if index >= PAIRS_MIN and time.monotonic() - started_s > BUDGET_S:
            break
        # Turn by turn each goes first, so that a drift of the machine favours neither.
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
    for _ in range(IDLE_CALLS):
        times_s.append(_cpu_time(call))
        between()
    return times_s


def _cpu_time(call: Callable[[], None]) -> float:
    start_s = time.process_time()
    call()
    return time.process_time() - start_s


def median_interval(values: list[float], confidence: float) -> tuple[float, float]:
    """Return the order-statistic interval of the median: k-th smallest to k-th largest, exact by the binomial."""
    from scipy.stats import binom

    ordered = sorted(values)
    below = int(binom.ppf((1 - confidence) / 2, len(ordered), 0.5)) - 1
    if below < 0:
        raise ValueError(f"{len(ordered)} values are too few for an interval of the median")
    return ordered[below], ordered[-1 - below]
