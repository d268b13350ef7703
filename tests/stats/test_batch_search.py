import random
from collections.abc import Callable
from functools import partial

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sdbench.stats.batch_search import PROBES_AIM, Tried, choose_next_batch, find_bracket

LOADED_BYTES = 3.0e9
BATCH_MAX = 256


def search(
    peak_bytes: Callable[[int], float],
    limit_bytes: float,
    stated_limit_bytes: float | None = None,
    batch_max: int = BATCH_MAX,
    noise: Callable[[], float] = lambda: 1.0,
) -> tuple[int, list[Tried]]:
    """Search on a machine whose memory is a function of the batch.

    ``stated_limit_bytes`` is the limit it reports, and ``noise`` the error of a measured peak.
    """
    tried: list[Tried] = []
    stated = limit_bytes if stated_limit_bytes is None else stated_limit_bytes
    while (batch := choose_next_batch(tried, stated, LOADED_BYTES, batch_max)) is not None:
        fits = peak_bytes(batch) <= limit_bytes
        tried.append(Tried(batch, fits, peak_bytes(batch) * noise() if fits else None))
        assert len(tried) <= 2 * BATCH_MAX
    return find_bracket(tried, batch_max)[0], tried


def count_doubling_probes(answer: int, batch_max: int = BATCH_MAX) -> int:
    """How many probes doubling, then halving, needs."""
    low, high, batch, count = 0, batch_max + 1, 1, 0
    while batch <= batch_max:
        count += 1
        if batch > answer:
            high = batch
            break
        low, batch = batch, 2 * batch
    while high - low > 1:
        middle = (low + high) // 2
        count += 1
        low, high = (middle, high) if middle <= answer else (low, middle)
    return count


@pytest.mark.parametrize("answer", range(1, BATCH_MAX + 1))
def test_straight_line_of_memory_is_answered_within_the_aim(answer: int) -> None:
    largest, tried = search(lambda batch: LOADED_BYTES + 0.7e9 + 0.9e9 * batch, LOADED_BYTES + 0.7e9 + 0.9e9 * answer)
    assert largest == answer
    assert len(tried) <= PROBES_AIM


def test_noise_of_a_percent_and_a_limit_off_by_two_rarely_exceed_the_aim() -> None:
    rng = random.Random(20260101)
    counts = []

    def straight_line(batch: int, base_bytes: float, per_image_bytes: float) -> float:
        return base_bytes + per_image_bytes * batch

    for answer in [*range(1, BATCH_MAX + 1)] * 8:
        per_image, workspace = rng.uniform(0.1e9, 4e9), rng.uniform(0, 1.5e9)
        limit = LOADED_BYTES + workspace + per_image * (answer + rng.random())
        largest, tried = search(
            partial(straight_line, base_bytes=LOADED_BYTES + workspace, per_image_bytes=per_image),
            limit,
            limit * rng.uniform(0.98, 1.02),
            noise=partial(rng.uniform, 0.99, 1.01),
        )
        assert largest == answer
        counts.append(len(tried))
    assert sum(count <= PROBES_AIM for count in counts) > 0.99 * len(counts)
    assert max(counts) <= 2 * PROBES_AIM


@settings(max_examples=200, deadline=None)
@given(answer=st.integers(0, BATCH_MAX), lie=st.floats(0.01, 100))
def test_answer_is_right_however_wrong_the_prediction(answer: int, lie: float) -> None:
    largest, tried = search(lambda batch: LOADED_BYTES + 1e9 * batch, LOADED_BYTES + 1e9 * answer + 1, lie * 1e10)
    assert largest == answer
    assert len({item.batch for item in tried}) == len(tried)


def test_fewer_probes_than_doubling_on_average() -> None:
    ours = [len(search(lambda b: LOADED_BYTES + 1e9 * b, LOADED_BYTES + 1e9 * n)[1]) for n in range(1, 257)]
    assert sum(ours) < 0.5 * sum(map(count_doubling_probes, range(1, 257)))


def test_no_measured_peak_means_doubling() -> None:
    tried = [Tried(1, fits=True, peak_bytes=None)]
    assert choose_next_batch(tried, 1e9, None, BATCH_MAX) == 2


def test_not_even_one_image_ends_the_search() -> None:
    tried = [Tried(1, fits=False, peak_bytes=None)]
    assert choose_next_batch(tried, 1e9, None, BATCH_MAX) is None
    assert find_bracket(tried, BATCH_MAX) == (0, 1)


def test_answer_that_did_not_hold_later_wins_over_what_fitted() -> None:
    tried = [Tried(1, True, 1e9), Tried(8, True, 8e9), Tried(9, False, None), Tried(8, False, None)]
    assert find_bracket(tried, BATCH_MAX) == (1, 8)
