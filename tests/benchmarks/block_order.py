"""False alarms of orders of blocks under periodic noise, as in ADR 17: ``python -m tests.benchmarks.block_order``."""

import sys
from collections.abc import Callable, Iterator
from functools import partial
from math import log1p
from random import Random
from typing import Any

import numpy as np
from scipy.special import stdtr

from sdbench.compare.levels import LAUNCHES_PER_BLOCK
from sdbench.compare.policy import ALPHA, ALPHA_OF_ANY_CHANGE, BLOCKS_MAX, MARGIN, draw_image_order, draw_session_order
from sdbench.compare.simulation import Looks, simulate_session
from sdbench.stats.noise import LAUNCH_NOISE, NoiseModel, periodic, swinging
from tests.benchmarks.adjustment import split_arms

TRIALS = 10_000
SEED = 17
EXPERIMENTS = (1, 2, 3, 4, 6)
IMAGE_LAUNCHES = (6, 8, 12, 20)
_ORDERS = 1_000


def _half_slow(random: Any, trials: int, launches: int, period: int) -> Any:
    phase = random.integers(0, period, (trials, 1))
    slow = (np.arange(launches) + phase) % period < period // 2
    return random.normal(0, LAUNCH_NOISE / 3, (trials, launches)) + 0.05 * slow


NOISE: dict[str, NoiseModel] = {
    **{f"1 of {period} launches slow": partial(periodic, period=period) for period in (2, 3, 4, 5, 8, 16)},
    **{f"half of {period} launches slow": partial(_half_slow, period=period) for period in (4, 8, 16)},
    **{f"sine of {period:.3g} launches": partial(swinging, period=period) for period in (8 / 3, 3, 4, 5, 8, 16)},
}


def _coin(random: Random) -> tuple[int, ...]:
    return tuple(random.choice((-1, 1)) for _ in range(BLOCKS_MAX))


def _pairs(random: Random) -> tuple[int, ...]:
    return tuple(sign * first for first in _coin(random)[::2] for sign in (1, -1))


def _fixed(_random: Random) -> tuple[int, ...]:
    return (1,) * BLOCKS_MAX


def _draw(order: Callable[[Random], tuple[int, ...]]) -> Any:
    return np.array([order(Random(seed)) for seed in range(_ORDERS)])


def session_alarms(model: NoiseModel, orders: Any) -> float:
    """Return the rate of false alarms of the first experiment, in the worst of several numbers of experiments."""
    looks = Looks(MARGIN, orders=orders)
    trials = (simulate_session("", partial(_every, model, count), TRIALS, SEED, 0.0, looks) for count in EXPERIMENTS)
    return max(item.false_alarms for item in trials) / TRIALS


def _every(model: NoiseModel, experiments: int, random: Any, trials: int, launches: int) -> Any:
    """The launches of one of several experiments whose blocks are interleaved."""
    logs = model(random, trials, experiments * launches).reshape(trials, -1, experiments, LAUNCHES_PER_BLOCK)
    return logs[:, :, 0].reshape(trials, launches)


def image_alarms(model: NoiseModel, orders: Any) -> float:
    """Return the rate of false alarms of two images compared launch by launch, for the worst number of launches."""
    return max(_compare_images(model, orders, launches) for launches in IMAGE_LAUNCHES)


def _compare_images(model: NoiseModel, orders: Any, launches: int) -> float:
    random = np.random.default_rng(SEED)
    blocks = 2 * launches // LAUNCHES_PER_BLOCK
    logs = model(random, TRIALS, 2 * launches).reshape(TRIALS, blocks, LAUNCHES_PER_BLOCK)
    is_abba = orders[random.integers(0, _ORDERS, TRIALS), :blocks, None] > 0
    arms = split_arms(logs, is_abba)
    squares = [arm.var(axis=1, ddof=1) / launches for arm in arms]
    center, error = arms[0].mean(axis=1) - arms[1].mean(axis=1), np.sqrt(sum(squares))
    freedom = error**4 / (sum(square**2 for square in squares) / (launches - 1))
    beyond, any_change = (2 * stdtr(freedom, -(np.abs(center) - edge) / error) for edge in (log1p(MARGIN), 0.0))
    return float(((beyond <= ALPHA) & (any_change <= ALPHA_OF_ANY_CHANGE)).mean())


def rows() -> Iterator[str]:
    """Yield the rows of ADR 17's table."""
    coin, pairs, session, fixed, image = map(_draw, (_coin, _pairs, draw_session_order, _fixed, draw_image_order))
    yield "| noise | coins | balanced pairs | as `ab` | images: ABBA ABBA | images: as `ab` | images: as drawn |"
    for name, model in NOISE.items():
        rates = [session_alarms(model, orders) for orders in (coin, pairs, session)]
        rates += [image_alarms(model, orders) for orders in (fixed, session, image)]
        yield f"| {name} | {' | '.join(f'{100 * rate:.2g} %' for rate in rates)} |"


if __name__ == "__main__":
    for row in rows():
        sys.stdout.write(f"{row}\n")
        sys.stdout.flush()
