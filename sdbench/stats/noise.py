"""Noise as real machines make it, for simulated comparisons of identical systems.

Each model returns the logs of launches in the order they were taken; two arms are interleaved in it.
"""

from collections.abc import Callable
from functools import partial
from math import log
from typing import Any

# Deviations of well-kept machines are near 1 % from launch to launch and 0.5 % from call to call.
LAUNCH_NOISE = 0.01
CALL_NOISE = 0.005
CALLS = 5

# numpy's Generator, the number of trials, the number of launches -> (trials, launches) float64.
NoiseModel = Callable[[Any, int, int], Any]


def independent(random: Any, trials: int, launches: int, deviation: float = LAUNCH_NOISE) -> Any:
    """Return launches that differ independently, by default as on a well-kept machine."""
    return random.normal(0, deviation, (trials, launches))


def launch_level(random: Any, trials: int, launches: int) -> Any:
    """Return launches that differ, with noisy calls of which the median counts."""
    import numpy as np

    calls = random.normal(0, CALL_NOISE, (trials, launches, CALLS))
    return independent(random, trials, launches) + np.median(calls, axis=2)


def autocorrelated(random: Any, trials: int, launches: int) -> Any:
    """Return AR(1) launches with a correlation of 0.7: a machine that is in a good or a bad state for a while."""
    correlation = 0.7
    draws = random.normal(0, LAUNCH_NOISE, (trials, launches))
    logs = draws.copy()
    for index in range(1, launches):
        logs[:, index] = correlation * logs[:, index - 1] + (1 - correlation**2) ** 0.5 * draws[:, index]
    return logs


def drifting(random: Any, trials: int, launches: int) -> Any:
    """Return launches on a straight drift of up to 5 % over the session: a machine that heats up."""
    import numpy as np

    rise = random.uniform(-0.05, 0.05, (trials, 1))
    return independent(random, trials, launches) + rise * np.linspace(0, 1, launches)


def bimodal(random: Any, trials: int, launches: int, gap: float = 0.03) -> Any:
    """Return launches of which half, at random, are slower by ``gap``: memory layout, huge pages, core placement."""
    return random.normal(0, LAUNCH_NOISE / 2, (trials, launches)) + gap * random.integers(0, 2, (trials, launches))


def heavy_tailed(random: Any, trials: int, launches: int) -> Any:
    """Return Student's t noise with 3 degrees of freedom, of the usual deviation."""
    return LAUNCH_NOISE / 3**0.5 * random.standard_t(3, (trials, launches))


def throttling(random: Any, trials: int, launches: int) -> Any:
    """Return spells of 4 to 12 launches that take 10 % longer, one in a session on average."""
    import numpy as np

    start = random.integers(-launches // 2, launches, (trials, 1))
    length = random.integers(4, 13, (trials, 1))
    index = np.arange(launches)
    return independent(random, trials, launches) + 0.1 * ((index >= start) & (index < start + length))


def stalling(random: Any, trials: int, launches: int) -> Any:
    """Return launches of which one in fifty takes half as long again: a background job, a page-out."""
    return independent(random, trials, launches) + log(1.5) * (random.random((trials, launches)) < 1 / 50)


def periodic(random: Any, trials: int, launches: int, period: int, rise: float = 0.1) -> Any:
    """Return launches of which one in each ``period`` takes 10 % longer: a regular job, the first launch of a block."""
    import numpy as np

    phase = random.integers(0, period, (trials, 1))
    slow = (np.arange(launches) + phase) % period == 0
    return independent(random, trials, launches, LAUNCH_NOISE / 3) + rise * slow


def swinging(random: Any, trials: int, launches: int, period: float | None = None, swing: float = 0.05) -> Any:
    """Return launches on a sine of 5 %, of ``period`` launches or of any from 2 to 32: a fan, another's schedule."""
    import numpy as np

    periods = 2 * 16 ** random.random((trials, 1)) if period is None else period
    wave = np.sin(2 * np.pi * (np.arange(launches) / periods + random.random((trials, 1))))
    return independent(random, trials, launches, LAUNCH_NOISE / 3) + swing * wave


def machine_level(random: Any, trials: int, launches: int) -> Any:
    """Return noise whose size differs from machine to machine, from 0.2 % to 5 %."""
    size = 0.002 * 25 ** random.uniform(0, 1, (trials, 1))
    return size * random.normal(0, 1, (trials, launches))


_PERIODS = {2: "2nd", 3: "3rd", 4: "4th", 8: "8th"}

NOISE_MODELS: dict[str, NoiseModel] = {
    "independent": independent,
    "launches and calls": launch_level,
    "AR(1), 0.7": autocorrelated,
    "drift up to 5 %": drifting,
    "two modes 3 % apart": bimodal,
    "heavy tail (t, 3)": heavy_tailed,
    "throttling spells": throttling,
    "rare stalls": stalling,
    "noise 0.2 to 5 %": machine_level,
    # A machine that is not kept quiet, and one that others use.
    "noise 5 %": partial(independent, deviation=0.05),
    "noise 20 %": partial(independent, deviation=0.2),
    "two modes 10 % apart": partial(bimodal, gap=0.1),
    **{f"every {nth} launch slow": partial(periodic, period=period) for period, nth in _PERIODS.items()},
    # Orders that balance pairs of blocks only turn one of 8 launches into a constant.
    "sine of 8 launches": partial(swinging, period=8),
    "sine of 2 to 32 launches": swinging,
}
