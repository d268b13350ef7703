"""Noise as real machines make it, for simulated trials: what two alike systems look like, and how often they fool.

Each model gives the logs of launches in the order they were taken; two sides take turns in it.
"""

from collections.abc import Callable
from typing import Any

# Deviations of well-kept machines are near 1 % from launch to launch and 0.5 % from call to call.
LAUNCH_NOISE = 0.01
CALL_NOISE = 0.005
CALLS = 5

# numpy's Generator, the number of trials, the number of launches -> (trials, launches) float64.
NoiseModel = Callable[[Any, int, int], Any]


def independent(random: Any, trials: int, launches: int) -> Any:
    """Return launches that differ independently."""
    return random.normal(0, LAUNCH_NOISE, (trials, launches))


def launch_level(random: Any, trials: int, launches: int) -> Any:
    """Return launches that differ, with noisy calls of which the median counts."""
    import numpy as np

    calls = random.normal(0, CALL_NOISE, (trials, launches, CALLS))
    return independent(random, trials, launches) + np.median(calls, axis=2)


def autocorrelated(random: Any, trials: int, launches: int) -> Any:
    """Return AR(1) launches with a correlation of 0.7: a machine that is in a good or a bad state for a while."""
    import numpy as np

    correlation = 0.7
    draws = random.normal(0, LAUNCH_NOISE, (trials, launches))
    found = np.empty_like(draws)
    found[:, 0] = draws[:, 0]
    for index in range(1, launches):
        found[:, index] = correlation * found[:, index - 1] + (1 - correlation**2) ** 0.5 * draws[:, index]
    return found


def drifting(random: Any, trials: int, launches: int) -> Any:
    """Return launches on a straight drift of up to 5 % over the session: a machine that heats up."""
    import numpy as np

    rise = random.uniform(-0.05, 0.05, (trials, 1))
    return independent(random, trials, launches) + rise * np.linspace(0, 1, launches)


def bimodal(random: Any, trials: int, launches: int) -> Any:
    """Return launches that are 3 % slower every second time by chance: memory layout, huge pages, core placement."""
    return random.normal(0, LAUNCH_NOISE / 2, (trials, launches)) + 0.03 * random.integers(0, 2, (trials, launches))


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
    import numpy as np

    return independent(random, trials, launches) + np.log(1.5) * (random.random((trials, launches)) < 1 / 50)


def machine_level(random: Any, trials: int, launches: int) -> Any:
    """Return noise whose size differs from machine to machine, from 0.2 % to 5 %."""
    import numpy as np

    size = np.exp(random.uniform(np.log(0.002), np.log(0.05), (trials, 1)))
    return size * random.normal(0, 1, (trials, launches))


def wide(random: Any, trials: int, launches: int) -> Any:
    """Return independent launches that vary by 5 %: a machine that is not kept quiet."""
    return random.normal(0, 0.05, (trials, launches))


def very_wide(random: Any, trials: int, launches: int) -> Any:
    """Return independent launches that vary by 20 %: a machine that others use, or a virtual one."""
    return random.normal(0, 0.2, (trials, launches))


def wide_bimodal(random: Any, trials: int, launches: int) -> Any:
    """Return launches that are 10 % slower every second time by chance."""
    return random.normal(0, LAUNCH_NOISE / 2, (trials, launches)) + 0.1 * random.integers(0, 2, (trials, launches))


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
    "noise 5 %": wide,
    "noise 20 %": very_wide,
    "two modes 10 % apart": wide_bimodal,
}
