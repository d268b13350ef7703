"""Simulated trials of the very rules that `ab` and `compare` judge by: false alarms, finds, and coverage.

All trials of a model run side by side as arrays; the rules themselves are those of `verdicts` and `units`.
"""

from dataclasses import dataclass
from math import log1p
from typing import Any

from sdbench.compare.units import TURNS_PER_BLOCK
from sdbench.compare.verdicts import ALPHA, ALPHA_OF_ANY_CHANGE, BLOCKS_MAX, BLOCKS_MIN, LOOKS_REPEATED
from sdbench.schema.base import Model
from sdbench.stats.noise import NoiseModel

COVERAGE_CONFIDENCE = 0.95


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
    def false_alarm_bound(self) -> float:
        """The 95 % upper bound of the rate of "faster" or "slower", one-sided and exact (Clopper & Pearson 1934)."""
        return upper_bound(self.faster + self.slower, self.trials)


class Coverage(Model):
    """How often an interval of 95 % held the true ratio; ``paired`` are blocks, else ``launches`` a side."""

    name: str
    paired: bool
    launches: int
    trials: int
    covered: int

    @property
    def rate(self) -> float:
        """The share of intervals that held it."""
        return self.covered / self.trials


@dataclass(frozen=True)
class Looks:
    """The rule of a session: when to look, what a look may err, and how much is too small to matter."""

    margin: float
    experiments: int = 1
    blocks_max: int = BLOCKS_MAX


def simulate_session(name: str, model: NoiseModel, trials: int, seed: int, change: float, looks: Looks) -> Trials:
    """Return what `ab` would say in ``trials`` sessions of a system against itself made slower by ``change``.

    Each block is ABBA or BAAB by chance. A trial ends at the first look, from the seventh block on, that resolves it.
    """
    import numpy as np
    from scipy.special import stdtr

    random = np.random.default_rng(seed)
    differences = _draw_blocks(random, model, trials, looks.blocks_max) + log1p(change)
    edge = log1p(looks.margin)
    open_ones = np.ones(trials, dtype=bool)
    counts = {"faster": 0, "slower": 0, "same": 0}
    blocks = 0
    for count in range(BLOCKS_MIN, looks.blocks_max + 1):
        seen = differences[open_ones, :count]
        center = seen.mean(axis=1)
        error = np.maximum(seen.std(axis=1, ddof=1) / count**0.5, 1e-300)
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
        mean_blocks=(blocks + left * looks.blocks_max) / trials,
        **counts,
    )


def _draw_blocks(random: Any, model: NoiseModel, trials: int, blocks: int) -> Any:
    """Mean of b minus mean of a in each block, whichever of them began it: (trials, blocks) float64."""
    import numpy as np

    logs = model(random, trials, blocks * TURNS_PER_BLOCK).reshape(trials, blocks, TURNS_PER_BLOCK)
    signs = np.where(random.random((trials, blocks, 1)) < 1 / 2, 1.0, -1.0) * np.array([-1, 1, 1, -1])
    return (signs * logs).sum(axis=2) / (TURNS_PER_BLOCK / 2)


def _p_changed(center: Any, error: Any, freedom: int, edge: float) -> Any:
    """``verdicts.p_changed`` at the level of blocks, for arrays; tested to be the same."""
    import numpy as np
    from scipy.special import stdtr

    strictness = LOOKS_REPEATED * ALPHA / ALPHA_OF_ANY_CHANGE
    beyond, any_change = (2 * stdtr(freedom, -(np.abs(center) - shift) / error) for shift in (edge, 0.0))
    return np.maximum(beyond, strictness * any_change)


def simulate_coverage(
    name: str, model: NoiseModel, trials: int, seed: int, launches: int, *, paired: bool = False
) -> Coverage:
    """Return how often the interval of a ratio holds the true ratio of 1: Welch's from ``launches`` a side, or paired.

    The two sides take turns, as launches of images do; ``paired`` takes as many blocks of ABBA or BAAB.
    """
    import numpy as np
    from scipy.special import stdtrit

    random = np.random.default_rng(seed)
    if paired:
        differences = _draw_blocks(random, model, trials, launches)
        error = np.maximum(differences.std(axis=1, ddof=1) / launches**0.5, 1e-300)
        inside = np.abs(differences.mean(axis=1)) <= stdtrit(launches - 1, 0.5 + COVERAGE_CONFIDENCE / 2) * error
        return Coverage(name=name, paired=True, launches=launches, trials=trials, covered=int(inside.sum()))
    logs = model(random, trials, 2 * launches)
    sides = logs[:, 0::2], logs[:, 1::2]
    squares = [side.var(axis=1, ddof=1) / launches for side in sides]
    total = np.maximum(squares[0] + squares[1], 1e-300)
    freedom = total**2 / ((squares[0] ** 2 + squares[1] ** 2) / (launches - 1))
    half: Any = stdtrit(freedom, 0.5 + COVERAGE_CONFIDENCE / 2) * np.sqrt(total)
    covered = np.abs(sides[0].mean(axis=1) - sides[1].mean(axis=1)) <= half
    return Coverage(name=name, paired=False, launches=launches, trials=trials, covered=int(covered.sum()))


def upper_bound(events: int, trials: int, confidence: float = 0.95) -> float:
    """Return the one-sided upper bound of a rate seen ``events`` times in ``trials`` (Clopper & Pearson 1934)."""
    from scipy.special import betaincinv

    return 1.0 if events >= trials else float(betaincinv(events + 1, trials - events, confidence))
