"""How often `ab` detects the change that a run promised it would: python -m tests.benchmarks.resolution."""

from collections.abc import Iterator

from sdbench.compare.resolution import LOOKS
from sdbench.compare.simulation import draw_blocks
from sdbench.stats.noise import NOISE_MODELS, NoiseModel
from sdbench.stats.power import Looks, block_deviation, smallest_changes

MODELS = ("independent", "AR(1), 0.7", "launches and calls", "heavy tail (t, 3)", "two modes 3 % apart")
LOW, HIGH = 0.75, 0.88
SEED = 31_416
# Between these the promise is smooth in the deviation, so it is computed at some and interpolated.
_GRID = 24


def detected_share(model: NoiseModel, trials: int, launches: int, blocks: int, looks: Looks = LOOKS) -> float:
    """Return the share of trials in which a session of ``blocks`` detects what a run of ``launches`` promised."""
    import numpy as np
    from scipy.special import stdtrit

    random = np.random.default_rng(SEED)
    estimates = [block_deviation(row) for row in model(random, trials, launches).tolist()]
    deviations = np.array([estimate[0] for estimate in estimates if estimate])
    freedom = next(estimate[1] for estimate in estimates if estimate)
    grid = np.geomspace(deviations.min(), deviations.max(), _GRID)
    promises = [smallest_changes(deviation, freedom, looks)[blocks - looks.first] for deviation in grid]
    change = np.exp(np.interp(np.log(deviations), np.log(grid), np.log(promises)))
    differences = draw_blocks(random, model, trials, blocks) + np.log1p(change)[:, np.newaxis]
    detected = np.zeros(trials, dtype=bool)
    for count in range(looks.first, blocks + 1):
        center = differences[:, :count].mean(axis=1)
        error = differences[:, :count].std(axis=1, ddof=1) / count**0.5
        beyond, any_change = (stdtrit(count - 1, 1 - p / 2) for p in (looks.alpha, looks.alpha_of_any_change))
        detected |= (center - looks.edge >= beyond * error) & (center >= any_change * error)
    return float(detected.mean())


def shares(trials: int) -> Iterator[tuple[str, int, int, float]]:
    """Return model, launches of the run, blocks of the session, and the share that detected the promised change."""
    for name in MODELS:
        for launches in (8, 12, 20):
            for blocks in (LOOKS.first, LOOKS.last):
                yield name, launches, blocks, detected_share(NOISE_MODELS[name], trials, launches, blocks)


if __name__ == "__main__":
    for name, launches, blocks, share in shares(2_000):
        verdict = "" if LOW <= share <= HIGH else f"  outside {LOW} to {HIGH}"
        print(f"{name:22} {launches:2} launches, {blocks:2} blocks: {share:.3f}{verdict}")
