"""Which arm a block of ABBA or BAAB begins with: by chance, but so that no periodic noise can keep in step with it."""

from cmath import exp, pi
from functools import cache
from random import Random

# Up to 64 blocks, two neighbouring frequencies differ by half a period.
_FREQUENCIES = 65
# n signs in step with a frequency add up to n, signs by coin to about n^0.5. Simulated with slow places and sines of
# periods of 2 to 32 launches, on 1 to 6 experiments: no false alarm in 10,000 sessions each; with no limit in up to
# 1.8 %, and with the second block of each pair the mirror of the first in up to 11 % (ADR 17).
_EXPONENT = 0.75
# Noise may repeat every few blocks and have several frequencies: one launch in five.
_PERIODS = range(3, 9)
_IN_STEP_MAX = 0.8


def draw_order(random: Random, count: int, first_look: int) -> tuple[int, ...]:
    """Return 1 for each of ``count`` blocks that is ABBA and -1 for each that is BAAB.

    Drawn with equal chances from the orders of which, from ``first_look`` blocks on, no beginning follows a frequency
    or repeats itself: the discrete Fourier transform of n signs is at most n^0.75 (constant and alternating orders are
    its two ends), and no period of 3 to 8 blocks that fits twice agrees with more than four fifths of them.
    """
    signs: list[int] = []
    sums = [0j] * _FREQUENCIES
    while len(signs) < count:
        signs.append(1 if random.getrandbits(1) else -1)
        sums = [total + signs[-1] * wave for total, wave in zip(sums, _waves(count)[len(signs) - 1], strict=True)]
        # Starting over at the first beginning that fails leaves all orders that pass equally likely.
        if len(signs) >= first_look and (_follows_one(sums, len(signs)) or _repeats(signs)):
            signs, sums = [], [0j] * _FREQUENCIES
    return tuple(signs)


def _follows_one(sums: list[complex], count: int) -> bool:
    return bool(max(map(abs, sums)) > count**_EXPONENT)


def _repeats(signs: list[int]) -> bool:
    count = len(signs)
    return any(
        sum(abs(sum(signs[place::period])) for place in range(period)) > _IN_STEP_MAX * count
        for period in _PERIODS
        if count >= 2 * period
    )


@cache
def _waves(count: int) -> tuple[tuple[complex, ...], ...]:
    """Return each frequency, from constant to alternating, at each of ``count`` places."""
    frequencies = [index / (2 * (_FREQUENCIES - 1)) for index in range(_FREQUENCIES)]
    return tuple(tuple(exp(2j * pi * frequency * place) for frequency in frequencies) for place in range(count))
