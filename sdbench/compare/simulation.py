"""Simulated trials of the rules that `ab` and `compare` judge by: false alarms, power and coverage.

All trials of a model are rows of one array; the rules are those of `policy` and `levels`.
"""

from dataclasses import dataclass
from functools import cache
from math import log1p
from random import Random
from typing import Any

from sdbench.compare.levels import LAUNCHES_PER_BLOCK
from sdbench.compare.policy import (
    ALPHA,
    ALPHA_OF_ANY_CHANGE,
    BLOCKS_MAX,
    BLOCKS_MIN,
    LOOKS_REPEATED,
    draw_session_order,
)
from sdbench.schema.base import Model
from sdbench.stats.noise import NoiseModel

COVERAGE_CONFIDENCE = 0.95
# Orders that trials share: drawing one for each of 20,000 takes a minute.
_ORDERS = 1_000


class Trials(Model):
    """What became of simulated comparisons: how many were judged how, and how many blocks they took on average."""

    name: str
    trials: int
    experiments: int
    faster: int
    slower: int
    same: int
    inconclusive: int
    mean_blocks: float

    @property
    def false_alarms(self) -> int:
        """How many were judged "faster" or "slower"."""
        return self.faster + self.slower

    @property
    def false_alarm_bound(self) -> float:
        """The 95 % upper bound of the rate of false alarms, one-sided and exact (Clopper & Pearson 1934)."""
        return upper_bound(self.false_alarms, self.trials)


class Coverage(Model):
    """How often an interval of 95 % contained the true ratio, of ``launches`` of each arm, or blocks if ``paired``."""

    name: str
    paired: bool
    launches: int
    trials: int
    covered: int

    @property
    def rate(self) -> float:
        """The share of intervals that contained it."""
        return self.covered / self.trials


@dataclass(frozen=True)
class Looks:
    """The rule of a session: the ratio that is too small to matter, and how many experiments share the false alarms.

    ``orders`` are orders of its blocks as for ``draw_blocks``, by default those of sessions.
    """

    margin: float
    experiments: int = 1
    orders: Any = None


def simulate_session(name: str, model: NoiseModel, trials: int, seed: int, change: float, looks: Looks) -> Trials:
    """Return the verdicts of `ab` in ``trials`` sessions of a system against itself made slower by ``change``.

    Each ends at the first look, from the seventh block on, that resolves it.
    """
    import numpy as np
    from scipy.special import stdtr

    random = np.random.default_rng(seed)
    differences = draw_blocks(random, model, trials, BLOCKS_MAX, looks.orders) + log1p(change)
    edge = log1p(looks.margin)
    open_ones = np.ones(trials, dtype=bool)
    counts = {"faster": 0, "slower": 0, "same": 0}
    blocks = 0
    for count in range(BLOCKS_MIN, BLOCKS_MAX + 1):
        blocks_so_far = differences[open_ones, :count]
        center = blocks_so_far.mean(axis=1)
        error = np.maximum(blocks_so_far.std(axis=1, ddof=1) / count**0.5, 1e-300)
        beyond = looks.experiments * _p_changed(center, error, count - 1, edge) <= ALPHA
        same = stdtr(count - 1, -(edge - np.abs(center)) / error) <= ALPHA / 2
        counts["slower"] += int((beyond & (center > 0)).sum())
        counts["faster"] += int((beyond & (center < 0)).sum())
        counts["same"] += int(same.sum())
        ended = beyond | same
        blocks += count * int(ended.sum())
        open_ones[open_ones] = ~ended
    left = int(open_ones.sum())
    return Trials(
        name=name,
        trials=trials,
        experiments=looks.experiments,
        inconclusive=left,
        mean_blocks=(blocks + left * BLOCKS_MAX) / trials,
        **counts,
    )


def draw_blocks(random: Any, model: NoiseModel, trials: int, blocks: int, orders: Any = None) -> Any:
    """Return the mean of b minus the mean of a in each block, whichever came first: (trials, blocks) float64.

    Each trial has one of ``orders``, (any number, blocks) of 1 for ABBA and -1 for BAAB; by default those of sessions.
    """
    import numpy as np

    logs = model(random, trials, blocks * LAUNCHES_PER_BLOCK).reshape(trials, blocks, LAUNCHES_PER_BLOCK)
    orders = _draw_orders() if orders is None else orders
    signs = orders[random.integers(0, len(orders), trials), :blocks]
    return signs * (np.array([-1, 1, 1, -1]) * logs).sum(axis=2) / (LAUNCHES_PER_BLOCK / 2)


@cache
def _draw_orders() -> Any:
    """Orders of sessions: (1000, blocks) of 1 for ABBA and -1 for BAAB."""
    import numpy as np

    return np.array([draw_session_order(Random(seed)) for seed in range(_ORDERS)])  # noqa: S311 - a simulation


def _p_changed(center: Any, error: Any, freedom: int, edge: float) -> Any:
    """``policy.p_changed`` at the level of blocks, for arrays; tested to be the same."""
    import numpy as np
    from scipy.special import stdtr

    strictness = LOOKS_REPEATED * ALPHA / ALPHA_OF_ANY_CHANGE
    beyond, any_change = (2 * stdtr(freedom, -(np.abs(center) - shift) / error) for shift in (edge, 0.0))
    return np.maximum(beyond, strictness * any_change)


def simulate_coverage(
    name: str, model: NoiseModel, trials: int, seed: int, launches: int, *, paired: bool = False
) -> Coverage:
    """Return how often the interval of a ratio contains the true ratio of 1: Welch's from ``launches`` each, or paired.

    The two arms are interleaved, as launches of images are; ``paired`` takes as many blocks of ABBA or BAAB.
    """
    import numpy as np
    from scipy.special import stdtrit

    random = np.random.default_rng(seed)
    freedom: Any = launches - 1
    if paired:
        differences = draw_blocks(random, model, trials, launches)
        center, error = differences.mean(axis=1), differences.std(axis=1, ddof=1) / launches**0.5
    else:
        logs = model(random, trials, 2 * launches)
        arms = logs[:, 0::2], logs[:, 1::2]
        squares = [np.maximum(arm.var(axis=1, ddof=1) / launches, 1e-300) for arm in arms]
        center, error = arms[0].mean(axis=1) - arms[1].mean(axis=1), np.sqrt(squares[0] + squares[1])
        freedom = error**4 / ((squares[0] ** 2 + squares[1] ** 2) / (launches - 1))
    inside = np.abs(center) <= stdtrit(freedom, 0.5 + COVERAGE_CONFIDENCE / 2) * np.maximum(error, 1e-300)
    return Coverage(name=name, paired=paired, launches=launches, trials=trials, covered=int(inside.sum()))


def upper_bound(events: int, trials: int, confidence: float = 0.95) -> float:
    """Return the one-sided upper bound of a rate observed ``events`` times in ``trials`` (Clopper & Pearson 1934)."""
    from scipy.special import betaincinv

    return 1.0 if events >= trials else float(betaincinv(events + 1, trials - events, confidence))
