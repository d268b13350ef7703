"""Ways to keep the coverage of the adjusted ratio where the candidate changes the reference: the table of ADR 15.

``python -m tests.benchmarks.adjustment_ways`` prints coverage of 95 % and width over that of the plain interval, for
ten blocks of launches that vary by 1 %.
"""

import sys
from typing import Any

import numpy as np

from sdbench.compare.policy import ALPHA, MARGIN
from tests.benchmarks.adjustment import COVERAGE, Fit, draw_blocks, fit_blocks
from tests.benchmarks.adjustment_noise import SLOPE, Scenario, white

TRIALS, BLOCKS, MORE_BLOCKS, SEED = 20_000, 10, 40, 5
CHANGES = (0.0, 0.0025, 0.005, 0.01, 0.03)


def compare_ways(change: float, trials: int) -> dict[str, tuple[float, float]]:
    """Return coverage and relative width of each way, where the candidate changes the reference alone."""
    random = np.random.default_rng(SEED)
    scenario = Scenario("", white, reference_change=change)
    y, x = draw_blocks(scenario, random, trials, BLOCKS)
    more = [draw_blocks(scenario, random, trials, MORE_BLOCKS // 2)[1] for _ in range(2)]
    fits = fit_blocks(y, x)
    plain, adjusted, correction = fits.plain, fits.adjusted, fits.correction
    dx, dy = x - x.mean(axis=1, keepdims=True), y - y.mean(axis=1, keepdims=True)
    sxx, syy = (dx**2).sum(axis=1), (dy**2).sum(axis=1)
    slope = (dx * dy).sum(axis=1) / sxx
    edge = np.log1p(MARGIN)
    ways = {
        "always adjusted": adjusted,
        "unless a change is shown, p 0.05": adjusted.where(correction.p_beyond(0.0) > 0.05, plain),
        "unless a change is shown, p 0.005": adjusted.where(correction.p_beyond(0.0) > 0.005, plain),
        "within the margin": adjusted.where(correction.p_within(edge) <= ALPHA / 2, plain),
        "within half the margin": adjusted.where(correction.p_within(edge / 2) <= ALPHA / 2, plain),
        "correlation of at least 0.5": adjusted.where(np.abs(slope) * np.sqrt(sxx / syy) >= 1 / 2, plain),
        "HC3": Fit(adjusted.center, _hc3(dx, dy - slope[:, None] * dx, x.mean(axis=1), sxx), BLOCKS - 2),
        "known slope": _known_slope(y, x),
        f"{MORE_BLOCKS} more references": _double_sampling(y, x, np.concatenate([x, *more], axis=1), slope),
    }
    plain_half = plain.half_width(COVERAGE)
    results = {name: _cover(fit.center, fit.half_width(COVERAGE), plain_half) for name, fit in ways.items()}
    allowed = np.abs(correction.center) + correction.half_width(COVERAGE)
    results["widened"] = _cover(adjusted.center, adjusted.half_width(COVERAGE) + allowed, plain_half)
    return results


def _cover(center: Any, half: Any, plain_half: Any) -> tuple[float, float]:
    return float((np.abs(center) <= half).mean()), float(np.median(half / plain_half))


def _hc3(dx: Any, residuals: Any, mean_x: Any, sxx: Any) -> Any:
    """Standard error of the intercept by HC3 (MacKinnon & White 1985)."""
    leverage = 1 / BLOCKS + dx**2 / sxx[:, None]
    weights = 1 / BLOCKS - (mean_x / sxx)[:, None] * dx
    return np.sqrt((weights**2 * residuals**2 / (1 - leverage) ** 2).sum(axis=1))


def _known_slope(y: Any, x: Any) -> Fit:
    differences = y - SLOPE * x
    return Fit(differences.mean(axis=1), differences.std(axis=1, ddof=1) / BLOCKS**0.5, BLOCKS - 1)


def _double_sampling(y: Any, x: Any, every: Any, slope: Any) -> Fit:
    """The regression estimate of which the reference's change is measured by more blocks than the experiment."""
    dx, dy = x - x.mean(axis=1, keepdims=True), y - y.mean(axis=1, keepdims=True)
    variance = ((dy - slope[:, None] * dx) ** 2).sum(axis=1) / (BLOCKS - 2)
    chance = x.mean(axis=1) - every.mean(axis=1)
    own = variance * (1 / BLOCKS + chance**2 / (dx**2).sum(axis=1))
    error = np.sqrt(own + slope**2 * every.var(axis=1, ddof=1) / every.shape[1])
    return Fit(y.mean(axis=1) - slope * chance, error, BLOCKS - 2)


def main(trials: int = TRIALS) -> None:
    """Print a row per way, and a column per change of the reference."""
    columns = [compare_ways(change, trials) for change in CHANGES]
    sys.stdout.write(f"way: {', '.join(f'{change:+.2%}' for change in CHANGES)}\n")
    for name in columns[0]:
        cells = (f"{coverage:.3f} ({width:.2f})" for coverage, width in (column[name] for column in columns))
        sys.stdout.write(f"{name}: {', '.join(cells)}\n")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
