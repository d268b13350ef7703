"""How small a change an interleaved comparison would detect, from how much the launches of one run vary.

The deviation that a run shows is itself uncertain, most of all after few launches, so the promise is the assurance of
O'Hagan, Stevens & Campbell (2005, "Assurance in clinical trial design"): the power, averaged over what the deviation
may be given what was measured (a scaled inverse chi-squared distribution).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt

# The two launches of one arm between or around those of the other: linear drift cancels.
_CONTRAST = (0.5, -0.5, -0.5, 0.5)
# The promise errs by about 1 % of itself, and is the same for the same run.
_DRAWS = 8_000
_SEED = 2_005
# 0.8 is promised. Launches with heavy tails vary less in most runs than they do in the long run: computed for 0.8, the
# change is detected in 0.71 to 0.75 of 2,000 trials; computed for 0.84, in 0.75 to 0.79, with other noise in 0.83 to
# 0.88, and with two modes in 0.87 to 0.92 (`tests.benchmarks.resolution`).
_POWER = 0.84


@dataclass(frozen=True)
class Looks:
    """When an interleaved session looks at its blocks, and how small the p values must be for it to end.

    A look shows a change when the interval of ``1 - alpha`` lies beyond the log ratio ``edge``, and the p of no change
    at all is at most ``alpha_of_any_change``, both two-sided.
    """

    first: int
    last: int
    edge: float
    alpha: float
    alpha_of_any_change: float


def block_deviation(logs: Sequence[float]) -> tuple[float, float] | None:
    """Return the standard deviation of a block's log ratio without a change, and its degrees of freedom.

    Launches in the order they ran are taken as if each four in a row were a block of ABBA, so drift and noise that
    lasts for several launches count as little as they would there. The degrees of freedom are those of a mean of
    correlated squares (Satterthwaite 1946). None for fewer than six launches.
    """
    windows = len(logs) - len(_CONTRAST) + 1
    if windows < 3:  # noqa: PLR2004 - two overlapping windows are hardly more than one
        return None
    contrasts = [
        sum(sign * value for sign, value in zip(_CONTRAST, logs[start:], strict=False)) for start in range(windows)
    ]
    mean_square = sum(contrast**2 for contrast in contrasts) / windows
    correlated = float(windows)
    for lag in range(1, len(_CONTRAST)):
        overlap = sum(a * b for a, b in zip(_CONTRAST, _CONTRAST[lag:], strict=False))
        correlated += 2 * max(0, windows - lag) * overlap**2
    return sqrt(mean_square), windows**2 / correlated


def smallest_changes(deviation: float, freedom: float, looks: Looks, power: float = _POWER) -> tuple[float, ...]:
    """Return the change (0.05 for 5 %) that a session detects with a ``power``, for each of its looks as the last.

    Each draw is a session without a change. A look at it would detect any change that is larger than the look's bound
    less the mean of its blocks, so the change that enough draws detect by then is a quantile of the smallest so far.

    Args:
        deviation: of a block's log ratio, as ``block_deviation`` returns it.
        freedom: its degrees of freedom.
        looks: the rule of the session.
        power: the share of sessions that are to detect it.
    """
    import numpy as np
    from scipy.special import stdtrit

    random = np.random.default_rng(_SEED)
    deviations = deviation * np.sqrt(freedom / random.chisquare(freedom, _DRAWS))
    blocks = deviations[:, np.newaxis] * random.standard_normal((_DRAWS, looks.last))
    counts = np.arange(looks.first, looks.last + 1)
    means, mean_squares = (np.cumsum(values, axis=1)[:, looks.first - 1 :] / counts for values in (blocks, blocks**2))
    errors = np.sqrt(np.maximum(mean_squares - means**2, 0.0) / (counts - 1))
    beyond, any_change = (stdtrit(counts - 1, 1 - p / 2) for p in (looks.alpha, looks.alpha_of_any_change))
    bounds = np.maximum(looks.edge + beyond * errors, any_change * errors)
    detected = np.minimum.accumulate(bounds - means, axis=1)
    return tuple(np.expm1(np.quantile(detected, power, axis=0)).tolist())
