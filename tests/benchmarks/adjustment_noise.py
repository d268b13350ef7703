"""Noise of latency and of a reference operation next to it, for simulated comparisons of identical systems."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from math import log
from typing import Any

import numpy as np

from sdbench.stats.noise import LAUNCH_NOISE, autocorrelated, drifting, heavy_tailed

# Measured on a shared machine (223 blocks of a reference next to calls of `tiny-sd`): the experiment's log changes by
# 1.33 per log of the reference, and their correlation is 0.74.
SLOPE = 1.33
CORRELATION = 0.74
_SHARED = CORRELATION * LAUNCH_NOISE / SLOPE
_OWN = (1 - CORRELATION**2) ** 0.5 * LAUNCH_NOISE

# Random numbers, trials, launches in the order they are taken -> log latencies and log references, (trials, launches).
Draw = Callable[[Any, int, int], tuple[Any, Any]]


def white(random: Any, trials: int, launches: int, size: float = 1.0) -> tuple[Any, Any]:
    """Return launches that differ independently, of which the reference sees a part, as measured."""
    shape = trials, launches
    host = random.normal(0, size * _SHARED, shape)
    return SLOPE * host + random.normal(0, size * _OWN, shape), host


def add_to_both(host: Callable[[Any, int, int], Any], slope: float = SLOPE) -> Draw:
    """Return white noise with ``host`` added to the reference, and ``slope`` times as much to the experiment."""

    def draw(random: Any, trials: int, launches: int) -> tuple[Any, Any]:
        y, x = white(random, trials, launches)
        common = host(random, trials, launches)
        return y + slope * common, x + common

    return draw


def neighbour(random: Any, trials: int, launches: int, gap: float = 0.2) -> Any:
    """Return a host slowed by 20 % while another tenant computes, for ten launches at a time on average."""
    states = random.integers(0, 2, (trials, 1)) + np.cumsum(random.random((trials, launches)) < 1 / 10, axis=1)
    return gap * (states % 2)


def useless(random: Any, trials: int, launches: int) -> tuple[Any, Any]:
    """Return an experiment and a reference that have nothing in common."""
    return random.normal(0, LAUNCH_NOISE, (trials, launches)), random.normal(0, LAUNCH_NOISE, (trials, launches))


def noisy_reference(random: Any, trials: int, launches: int) -> tuple[Any, Any]:
    """Return a reference whose own noise is three times that of the experiment."""
    y, x = white(random, trials, launches)
    return y, x + random.normal(0, 3 * LAUNCH_NOISE, (trials, launches))


def heavy_tails(random: Any, trials: int, launches: int) -> tuple[Any, Any]:
    """Return Student's t noise with 3 degrees of freedom in all that varies."""
    host = heavy_tailed(random, trials, launches) * (_SHARED / LAUNCH_NOISE)
    return SLOPE * host + heavy_tailed(random, trials, launches) * (_OWN / LAUNCH_NOISE), host


def own_modes(random: Any, trials: int, launches: int) -> tuple[Any, Any]:
    """Return experiments with two modes 3 % apart that the reference does not have: memory layout."""
    y, x = white(random, trials, launches)
    return y + 0.03 * random.integers(0, 2, (trials, launches)), x


def stalls(random: Any, trials: int, launches: int) -> tuple[Any, Any]:
    """Return one launch in fifty that takes half as long again, and one such reference in fifty, independently."""
    y, x = white(random, trials, launches)
    y, x = (value + log(1.5) * (random.random((trials, launches)) < 1 / 50) for value in (y, x))
    return y, x


def periodic(random: Any, trials: int, launches: int) -> Any:
    """Return a wave of 3 % with a period of 2, 3, 4 or 8 launches and a random phase: a cron job, a fan."""
    period = random.choice([2, 3, 4, 8], (trials, 1))
    phase = random.random((trials, 1))
    return 0.03 * np.sin(2 * np.pi * (np.arange(launches) / period + phase))


def only_reference(host: Callable[[Any, int, int], Any]) -> Draw:
    """Return white noise with ``host`` added to the reference alone."""

    def draw(random: Any, trials: int, launches: int) -> tuple[Any, Any]:
        y, x = white(random, trials, launches)
        return y, x + host(random, trials, launches)

    return draw


@dataclass(frozen=True)
class Scenario:
    """Noise of latency and reference, and by which ratio the candidate changes either."""

    name: str
    draw: Draw
    change: float = 0.0
    reference_change: float = 0.0


NOISE = (
    Scenario("white, as measured", white),
    Scenario("white, five times as noisy", partial(white, size=5.0)),
    Scenario("host with a neighbour, seen by both", add_to_both(neighbour)),
    Scenario("reference useless", useless),
    Scenario("reference three times as noisy", noisy_reference),
    Scenario("AR(1), 0.7, seen by both", add_to_both(autocorrelated)),
    Scenario("drift up to 5 %, seen by both", add_to_both(drifting)),
    Scenario("drift up to 5 % of the reference alone", only_reference(drifting)),
    Scenario("heavy tails (t, 3)", heavy_tails),
    Scenario("two modes of the experiment alone", own_modes),
    Scenario("stalls of either", stalls),
    Scenario("periodic, seen by both", add_to_both(periodic)),
    Scenario("periodic reference alone", only_reference(periodic)),
    Scenario("reference sees nearly all", add_to_both(partial(neighbour, gap=0.02), slope=1.0)),
)
