"""What our loop adds to a call, against a bare loop over the same pipeline: interleaved, in CPU time."""

import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

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
BUDGET_S = 90.0
WARMUP_PAIRS = 4
CONFIDENCE = 0.95
# One thread: with more, torch's threads spin while they wait, and CPU time then counts the waiting.
EXPERIMENT = Experiment(architecture="tiny", height=64, width=64, steps=4, threads=1)
# Never precise enough: the loop asks its rule, with all the statistics behind it, before each of its 20 calls.
PROTOCOL = Protocol(calls_min=2, calls_max=21, relative_half_width=1e-9, launch_budget_s=1e6)


def measure_overhead() -> list[Figure]:
    """Return the ratio of CPU times ours/bare as the median over pairs of calls, with its interval."""
    with tempfile.TemporaryDirectory() as folder:
        backend = open_backend(EXPERIMENT, "cpu", Path(folder), 1)
    read_fd, write_fd = os.pipe()
    with os.fdopen(read_fd, "rb", buffering=0) as reader, os.fdopen(write_fd, "wb", buffering=0) as stream:
        loop = MeasuringLoop(backend, EventWriter(stream))
        ratios = _time_pairs(loop.call, lambda: bare_call(backend), lambda: reader.read(4096))
    low, high = median_interval(ratios, CONFIDENCE)
    center = median(ratios)
    measured = f"{center - 1:+.2%} [{low - 1:+.2%}, {high - 1:+.2%}], {len(ratios)} pairs"
    return [Figure("our loop / a bare loop, CPU time", measured, f"within {LIMIT:.1%}", judge(low, high))]


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
    backend.pipeline(**backend._arguments)


def _time_pairs(ours: Callable[[], None], bare: Callable[[], None], between: Callable[[], object]) -> list[float]:
    ratios: list[float] = []
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
            ratios.append(ours_s / bare_s)
    return ratios


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
