"""Statements that assume no distribution, and how many samples they take."""

from itertools import count
from math import comb


def median_interval(sample_count: int, confidence: float) -> tuple[int, int, float] | None:
    """Return the ranks (from 1) of the order statistics that enclose the median, and their exact coverage.

    None where even the extremes do not cover it: at 0.95 with fewer than six values. Binomial, exact.
    """
    best = None
    below = 0
    for rank in range(1, sample_count // 2 + 1):
        below += comb(sample_count, rank - 1)
        coverage = 1 - 2 * below / 2**sample_count
        if coverage < confidence:
            break
        best = rank, sample_count - rank + 1, coverage
    return best


def smallest_rank_test_p(first: int, second: int) -> float:
    """Return the smallest two-sided p that Mann and Whitney's U test can give for samples of these sizes."""
    return min(1.0, 2 / comb(first + second, first))


def samples_for_percentile(percentile: float, beyond: int, confidence: float = 0.99) -> int:
    """Return how many samples show a latency percentile when ``beyond`` of them are slower than its bound.

    The smallest n with P(X <= beyond) <= 1 - confidence for X binomial (n, 1 - percentile), as MLPerf's load generator
    stops early (loadgen, early_stopping.cc).
    """
    from scipy.special import bdtr

    return next(n for n in count(beyond + 1) if bdtr(beyond, n, 1 - percentile) <= 1 - confidence)
