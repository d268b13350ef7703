"""Probes of the search for the largest batch, against doubling and halving, on machines with memory on a line."""

import random
from collections.abc import Callable
from statistics import fmean

from sdbench.stats.batch_search import PROBES_AIM, Tried, choose_next_batch, find_bracket
from tests.benchmarks.bars import Bar

BATCH_MAX = 256
LOADED_BYTES = 3e9
MACHINES_PER_ANSWER = 20
# Peaks off by a percent, and a limit off by two: GPUs do better, hosts worse.
PEAK_NOISE = 0.01
LIMIT_NOISE = 0.02


def measure_search() -> list[Bar]:
    """Return how many probes both searches take, over answers from 1 to 256."""
    rng = random.Random(20260101)
    ours = []
    for answer in [*range(1, BATCH_MAX + 1)] * MACHINES_PER_ANSWER:
        base, slope = LOADED_BYTES + rng.uniform(0, 1.5e9), rng.uniform(0.1e9, 4e9)
        limit = base + slope * (answer + rng.random())
        ours.append(
            count_probes(
                lambda batch, base=base, slope=slope: base + slope * batch,  # type: ignore[misc]
                limit,
                limit * rng.uniform(1 - LIMIT_NOISE, 1 + LIMIT_NOISE),
                lambda: rng.uniform(1 - PEAK_NOISE, 1 + PEAK_NOISE),
            )
        )
    doubling = [count_doubling_probes(answer) for answer in range(1, BATCH_MAX + 1)]
    within = sum(count <= PROBES_AIM for count in ours) / len(ours)
    return [
        Bar(
            "largest batch: probes, ours / doubling and halving",
            f"{fmean(ours) / fmean(doubling):.2f} (mean {fmean(ours):.1f} of {fmean(doubling):.1f}, "
            f"most {max(ours)} of {max(doubling)})",
        ),
        Bar("largest batch: answers within 8 probes", f"{within:.1%}", "at least 99%", within >= 0.99),
    ]


def count_probes(
    peak_bytes: Callable[[int], float], limit_bytes: float, stated_limit_bytes: float, noise: Callable[[], float]
) -> int:
    """Return how many batches our search tries on a machine whose peak is a function of the batch."""
    tried: list[Tried] = []
    while (batch := choose_next_batch(tried, stated_limit_bytes, LOADED_BYTES, BATCH_MAX)) is not None:
        fits = peak_bytes(batch) <= limit_bytes
        tried.append(Tried(batch, fits, peak_bytes(batch) * noise() if fits else None))
    return len(tried)


def count_doubling_probes(answer: int) -> int:
    """Return how many batches doubling, then halving, tries until it knows ``answer``."""
    tried: list[Tried] = []
    batch = 1
    while True:
        low, high = find_bracket(tried, BATCH_MAX)
        if high - low <= 1:
            return len(tried)
        batch = min(max(1, 2 * low), BATCH_MAX) if high == BATCH_MAX + 1 else (low + high) // 2
        tried.append(Tried(batch, batch <= answer, None))
