"""Simulated trials of the ratio that is adjusted by a reference operation, against the plain one.

``python -m tests.benchmarks.adjustment [TRIALS]`` prints the tables of docs/methodology/adjustment.md: false alarms of
the sequential looks of ``ab`` and of two interleaved runs, coverage of the intervals, and what the adjustment gains.
The rules are those of ``sdbench.compare``, as arrays over trials; a test compares them trial by trial.
"""

import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from itertools import product
from math import ceil, log1p
from random import Random
from typing import Any, Literal

import numpy as np
from scipy.special import stdtr, stdtrit

from sdbench.compare.adjustment import REFERENCE_CHANGED
from sdbench.compare.levels import LAUNCHES_PER_BLOCK
from sdbench.compare.policy import (
    ALPHA,
    ALPHA_OF_ANY_CHANGE,
    BLOCKS_MAX,
    BLOCKS_MIN,
    LOOKS_REPEATED,
    MARGIN,
    draw_image_order,
    draw_session_order,
)
from sdbench.compare.simulation import upper_bound
from tests.benchmarks.adjustment_noise import NOISE, Scenario

TRIALS = 50_000
SEED = 20_261
COUNTS = (7, 10, 20)
# Of each arm, where two interleaved runs are compared once.
LAUNCHES = 8
COVERAGE = 0.95
_TINY = 1e-300
# Orders that trials share: drawing one for each takes minutes.
_ORDERS = 1_000

Design = Literal["blocks", "launches"]
ALARM_COLUMNS = ("noise", "plain", "adjusted", "decided by it", "units, plain", "units, adjusted")
COVERAGE_COLUMNS = ("noise", "n", "plain", "adjusted", "of the verdict", "adjusted used", "error ratio", "width ratio")
REFERENCE_CHANGES = (0.0025, 0.005, 0.01, 0.015, 0.02, 0.03, 0.05)


@dataclass(frozen=True)
class Fit:
    """Estimates of each trial: log ratio, standard error and degrees of freedom."""

    center: Any
    error: Any
    freedom: Any

    def p_beyond(self, edge: float) -> Any:
        """Return the two-sided p of "not beyond the edge"."""
        return 2 * stdtr(self.freedom, -(np.abs(self.center) - edge) / self.error)

    def p_within(self, edge: float) -> Any:
        """Return the p of two one-sided tests."""
        return stdtr(self.freedom, -(edge - np.abs(self.center)) / self.error)

    def half_width(self, confidence: float) -> Any:
        """Return half the interval."""
        return stdtrit(self.freedom, 0.5 + confidence / 2) * self.error

    def where(self, chosen: Any, other: "Fit") -> "Fit":
        """Return this fit for the trials that are chosen, and the other for the rest."""
        pairs = ((self.center, other.center), (self.error, other.error), (self.freedom, other.freedom))
        return Fit(*(np.where(chosen, own, others) for own, others in pairs))


@dataclass(frozen=True)
class Fits:
    """The plain ratio, the adjusted one, and what was subtracted."""

    plain: Fit
    adjusted: Fit
    correction: Fit

    def used(self, margin: float, *, repeated: int) -> tuple[Fit, Any]:
        """Return the ratio that a verdict is based on, and in which trials it is the adjusted one."""
        edge = log1p(margin)
        moved = self.correction.p_beyond(0.0) <= REFERENCE_CHANGED
        bounded = self.correction.p_within(edge) <= ALPHA / 2
        places = (np.sign(fit.center) * (np.abs(fit.center) > edge) for fit in (self.adjusted, self.plain))
        unchanged = (np.abs(self.plain.center) > edge) & (p_any_change(self.plain, repeated=repeated) > ALPHA)
        chosen = ~moved & bounded & np.equal(*places) & ~unchanged
        return self.adjusted.where(chosen, self.plain), chosen


def fit_blocks(y: Any, x: Any) -> Fits:
    """Return the fits of block differences, (trials, blocks) each."""
    count = y.shape[1]
    mean_y, mean_x = y.mean(axis=1), x.mean(axis=1)
    dy, dx = y - mean_y[:, None], x - mean_x[:, None]
    sxx, sxy, syy = (np.einsum("ij,ij->i", a, b) for a, b in ((dx, dx), (dx, dy), (dy, dy)))
    slope = sxy / sxx
    residual = np.maximum(syy - slope * sxy, _TINY)
    error = np.sqrt(residual / (count - 2) * (1 / count + mean_x**2 / sxx))
    plain = Fit(mean_y, np.sqrt(syy / (count - 1) / count), count - 1)
    reference_error = np.sqrt(sxx / (count - 1) / count)
    correction = Fit(slope * mean_x, np.abs(slope) * reference_error, count - 1)
    return Fits(plain, Fit(mean_y - slope * mean_x, error, count - 2), correction)


def fit_launches(ys: Sequence[Any], xs: Sequence[Any]) -> Fits:
    """Return the fits of two arms, (trials, launches) each, candidate first."""
    moments = []
    for y, x in zip(ys, xs, strict=True):
        dy, dx = y - y.mean(axis=1, keepdims=True), x - x.mean(axis=1, keepdims=True)
        moments.append([np.einsum("ij,ij->i", a, b) for a, b in ((dx, dx), (dx, dy), (dy, dy))])
    sxx, sxy = moments[0][0] + moments[1][0], moments[0][1] + moments[1][1]
    slope = sxy / sxx
    count = ys[0].shape[1]
    mean_y, mean_x = (values[0].mean(axis=1) - values[1].mean(axis=1) for values in (ys, xs))
    parts: list[list[tuple[Any, Any]]] = [[], [], []]
    for own_xx, own_xy, own_yy in moments:
        share = own_xx / sxx
        freedom = count - 1 - share
        residual = np.maximum(own_yy - 2 * slope * own_xy + slope**2 * own_xx, _TINY)
        parts[0].append((own_yy / (count - 1) / count, count - 1))
        parts[1].append((residual / freedom * (1 / count + mean_x**2 * share / sxx), freedom))
        parts[2].append((slope**2 * own_xx / (count - 1) / count, count - 1))
    centers = mean_y, mean_y - slope * mean_x, slope * mean_x
    return Fits(*(Fit(center, *_welch(part)) for center, part in zip(centers, parts, strict=True)))


def _welch(parts: Sequence[tuple[Any, Any]]) -> tuple[Any, Any]:
    """Return the error and the degrees of freedom of a sum of independent estimates, by variance and freedom."""
    total = sum(variance for variance, _ in parts)
    return np.sqrt(total), total**2 / sum(variance**2 / freedom for variance, freedom in parts)


def draw_blocks(scenario: Scenario, random: Any, trials: int, blocks: int) -> tuple[Any, Any]:
    """Return candidate minus baseline of latency and reference in each block, in an order as `ab` draws it."""
    y, x = scenario.draw(random, trials, blocks * LAUNCHES_PER_BLOCK)
    orders = _session_orders()[random.integers(0, _ORDERS, trials), :blocks]
    signs = orders[:, :, None] * np.array([-1, 1, 1, -1])
    differences = ((signs * logs.reshape(trials, blocks, -1)).sum(axis=2) / 2 for logs in (y, x))
    y, x = differences
    return y + log1p(scenario.change), x + log1p(scenario.reference_change)


@cache
def _session_orders() -> Any:
    """Return orders of sessions, (1000, blocks) of 1 for ABBA and -1 for BAAB."""
    return np.array([draw_session_order(Random(seed)) for seed in range(_ORDERS)])


@cache
def _image_orders() -> Any:
    """Return orders of the rounds of two images, (1000, blocks) as for sessions."""
    return np.array([draw_image_order(Random(seed)) for seed in range(_ORDERS)])


def draw_launches(scenario: Scenario, random: Any, trials: int, launches: int = LAUNCHES) -> tuple[Any, Any]:
    """Return log latencies and log references, (2 arms, trials, launches), of runs interleaved as images are."""
    blocks = ceil(2 * launches / LAUNCHES_PER_BLOCK)
    first = _image_orders()[random.integers(0, _ORDERS, trials), :blocks, None] > 0
    ys, xs = (
        split_arms(logs.reshape(trials, blocks, LAUNCHES_PER_BLOCK), first)[..., :launches]
        for logs in scenario.draw(random, trials, blocks * LAUNCHES_PER_BLOCK)
    )
    ys[0] += log1p(scenario.change)
    xs[0] += log1p(scenario.reference_change)
    return ys, xs


def split_arms(logs: Any, is_abba: Any) -> Any:
    """Return candidate and baseline, (2 arms, trials, launches), of blocks, (trials, blocks, 4), ABBA or BAAB."""
    outer, inner = logs[:, :, [0, 3]], logs[:, :, 1:3]
    arms = np.where(is_abba, inner, outer), np.where(is_abba, outer, inner)
    return np.stack([arm.reshape(len(logs), -1) for arm in arms])


def fit(design: Design, data: tuple[Any, Any], trials: Any, count: int) -> Fits:
    """Return the fits of some trials after ``count`` blocks, or launches of each arm."""
    y, x = (logs[..., trials, :count] for logs in data)
    return fit_blocks(y, x) if design == "blocks" else fit_launches(y, x)


def p_changed(fit: Fit, margin: float, *, repeated: int) -> Any:
    """``policy.p_changed`` for arrays."""
    return np.maximum(fit.p_beyond(log1p(margin)), p_any_change(fit, repeated=repeated))


def p_any_change(fit: Fit, *, repeated: int) -> Any:
    """``policy.p_any_change`` for arrays."""
    return np.minimum(1.0, repeated * ALPHA / ALPHA_OF_ANY_CHANGE * fit.p_beyond(0.0))


@dataclass(frozen=True)
class Verdicts:
    """How many trials were judged how, and in how many the adjusted ratio decided."""

    trials: int
    faster: int
    slower: int
    same: int
    adjusted: int
    mean_units: float

    @property
    def alarms(self) -> int:
        return self.faster + self.slower


def judge_trials(
    scenario: Scenario, design: Design, trials: int, *, adjust: bool, margin: float = MARGIN, seed: int = SEED
) -> Verdicts:
    """Return the verdicts of ``trials`` comparisons: `ab`'s looks from the seventh block on, or one at two runs."""
    random = np.random.default_rng(seed)
    by_blocks = design == "blocks"
    data = draw_blocks(scenario, random, trials, BLOCKS_MAX) if by_blocks else draw_launches(scenario, random, trials)
    counts = dict.fromkeys(("faster", "slower", "same", "adjusted"), 0)
    still_open, units = np.arange(trials), 0
    looks = range(BLOCKS_MIN, BLOCKS_MAX + 1) if by_blocks else (LAUNCHES,)
    repeated = LOOKS_REPEATED if by_blocks else 1
    for count in looks:
        fits = fit(design, data, still_open, count)
        used, chosen = fits.plain, np.zeros(len(still_open), dtype=bool)
        if adjust:
            used, chosen = fits.used(margin, repeated=repeated)
        beyond = p_changed(used, margin, repeated=repeated) <= ALPHA
        same = ~beyond & (used.p_within(log1p(margin)) <= ALPHA / 2)
        ended = beyond | same
        counts["slower"] += int((beyond & (used.center > 0)).sum())
        counts["faster"] += int((beyond & (used.center < 0)).sum())
        counts["same"] += int(same.sum())
        counts["adjusted"] += int((ended & chosen).sum())
        units += count * int(ended.sum())
        still_open = still_open[~ended]
    return Verdicts(trials=trials, mean_units=(units + looks[-1] * len(still_open)) / trials, **counts)


@dataclass(frozen=True)
class Intervals:
    """How often intervals of 95 % contained the true ratio, and what the adjustment gains."""

    plain: float
    adjusted: float
    used: float
    used_share: float
    error_ratio: float
    width_ratio: float


def cover(scenario: Scenario, design: Design, count: int, trials: int, margin: float = MARGIN) -> Intervals:
    """Return the coverage at a fixed number of units, of the change that the candidate makes to the experiment."""
    random = np.random.default_rng(SEED + count)
    draw = draw_blocks if design == "blocks" else draw_launches
    fits = fit(design, draw(scenario, random, trials, count), np.arange(trials), count)
    used, chosen = fits.used(margin, repeated=LOOKS_REPEATED if design == "blocks" else 1)
    truth = log1p(scenario.change)
    plain, adjusted, either = (
        float((np.abs(fit.center - truth) <= fit.half_width(COVERAGE)).mean())
        for fit in (fits.plain, fits.adjusted, used)
    )
    widths = fits.adjusted.half_width(COVERAGE) / fits.plain.half_width(COVERAGE)
    error_ratio = float(np.median(fits.adjusted.error / fits.plain.error))
    return Intervals(plain, adjusted, either, float(chosen.mean()), error_ratio, float(np.median(widths)))


def main(trials: int = TRIALS) -> None:
    """Print the tables in Markdown."""
    moved = [replace(NOISE[0], name=f"reference alone {c:+.2%}", reference_change=c) for c in REFERENCE_CHANGES]
    moved += [replace(NOISE[1], name=f"{item.name}, noisy", reference_change=item.reference_change) for item in moved]
    slowed = [replace(NOISE[0], name=f"all slower by {c:.0%}", change=c, reference_change=c) for c in (0.03, 0.05, 0.1)]
    sys.stdout.write(f"{trials:,} trials of each.\n")
    designs: tuple[Design, Design] = ("blocks", "launches")
    for design in designs:
        alarms = (_alarm_row(item, design, trials) for item in (*NOISE, *moved))
        _print_table(f"False alarms, {design}", ALARM_COLUMNS, alarms)
        scenarios = product((*NOISE, *moved, *slowed), COUNTS)
        covered = (_cover_row(item, design, count, trials) for item, count in scenarios)
        _print_table(f"Coverage, {design}", COVERAGE_COLUMNS, covered)


def _print_table(title: str, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    sys.stdout.write(f"\n{title}\n\n| {' | '.join(columns)} |\n|{'---|' * len(columns)}\n")
    for row in rows:
        sys.stdout.write(f"| {' | '.join(row)} |\n")
        sys.stdout.flush()


def _alarm_row(scenario: Scenario, design: Design, trials: int) -> tuple[str, ...]:
    both = [judge_trials(scenario, design, trials, adjust=adjust) for adjust in (False, True)]
    rates = (f"{item.alarms / trials:.3%}, at most {upper_bound(item.alarms, trials):.3%}" for item in both)
    return scenario.name, *rates, f"{both[1].adjusted / trials:.1%}", *(f"{item.mean_units:.1f}" for item in both)


def _cover_row(scenario: Scenario, design: Design, count: int, trials: int) -> tuple[str, ...]:
    row = cover(scenario, design, count, trials)
    shares = (f"{share:.4f}" for share in (row.plain, row.adjusted, row.used))
    ratios = f"{row.error_ratio:.2f}", f"{row.width_ratio:.2f}"
    return scenario.name, str(count), *shares, f"{row.used_share:.1%}", *ratios


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
