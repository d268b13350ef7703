"""The verdict on a ratio: faster, slower, same, inconclusive or incomparable, with its interval and its reasons."""

from collections.abc import Sequence
from math import log, log1p
from typing import Literal

from sdbench.compare.units import Level
from sdbench.schema.base import Model
from sdbench.stats.ratios import LogRatio, units_to_resolve

Verdict = Literal["faster", "slower", "same", "inconclusive", "incomparable"]
ComparedMetric = Literal["latency_s", "memory_bytes", "energy_j"]

# What a whole is called by, and what is said first of it.
BY_WEIGHT: tuple[Verdict, ...] = ("slower", "incomparable", "inconclusive", "faster", "same")
MARGIN = 0.02
# Each look at the data may err so often; an interval of 1 - ALPHA is shown.
ALPHA = 0.01
# A change must also be one from nothing at all: where the noise is wide against the margin, the margin protects no
# more, and an interval of 99 % alone fools once in a hundred looks (2.8 % of sessions whose blocks vary by 30 %, looked
# at from 6 to 20). At this level, and a thirtieth of it where looks are repeated, it is below 0.1 % for any noise.
ALPHA_OF_ANY_CHANGE = 0.001
LOOKS_REPEATED = 30
# With fewer units a side two equally frequent modes of one system look too often like two systems, because all units of
# one side happen to be in one mode and all of the other in the other: 0.2 % of comparisons at 5 a side, 0.05 % at 6.
UNITS_MIN = 6
# The same of blocks, at which a session looks again and again: where launches fall into two modes 10 % apart, a first
# look at 6 makes a third more false alarms than one at 7.
BLOCKS_MIN = 7
# What a session of turns has not resolved by then is worth another design, not more of the same: where blocks vary by
# 1 %, a change of 2 % against a margin of 1 % is found by then in 95 of 100 sessions.
BLOCKS_MAX = 20

UNIDENTIFIED = "session variance unidentified: one session a side does not tell a change from the time of day"

ALL_THROTTLED = "every launch of a side was throttled"
# Caps that more of the same does not lift.
NO_UNITS_HELP = (UNIDENTIFIED, ALL_THROTTLED)


class Judgement(Model):
    """A metric of the candidate over the baseline's (below 1 is faster, or less), and what it shows.

    ``units`` counts the independent values of baseline and candidate at ``level``; ``more_units`` is how many more of
    them a side would resolve the question if the ratio stays as it is, and ``more_s`` about how long (s) that takes.
    ``adjusted_p_value`` is Holm's over the suite, ``false_discovery_p_value`` Benjamini and Hochberg's.
    """

    metric: ComparedMetric
    verdict: Verdict
    ratio: float | None
    low: float | None
    high: float | None
    level: Level | None
    units: tuple[int, int]
    p_value: float | None
    adjusted_p_value: float | None
    false_discovery_p_value: float | None
    reasons: tuple[str, ...]
    more_units: int | None
    more_s: float | None


def units_min(level: Level) -> int:
    """Return how many units a side a verdict needs at least."""
    return BLOCKS_MIN if level == "block" else UNITS_MIN


def p_changed(ratio: LogRatio, margin: float, level: Level) -> float:
    """Return the p of "no change that matters": at most ALPHA where a single comparison shows faster or slower.

    It is that of the margin, or where that is larger the one of no change at all, scaled so that it passes ALPHA at
    ALPHA_OF_ANY_CHANGE; blocks are looked at again and again, and need a thirtieth of it.
    """
    repeated = LOOKS_REPEATED if level == "block" else 1
    return max(ratio.p_beyond(margin), min(1.0, ratio.p_beyond(0.0) * ALPHA / ALPHA_OF_ANY_CHANGE * repeated))


def decide(ratio: LogRatio, margin: float, p_value: float) -> Verdict:
    """Return the verdict on a ratio; ``p_value`` is its ``p_changed``, or the one adjusted for the suite.

    Faster and slower: the interval of 1 - ALPHA lies wholly beyond the margin, and is not all noise. Same: it lies
    wholly within, which is two one-sided tests at half of ALPHA each.
    """
    if p_value <= ALPHA:
        return "slower" if ratio.log_value > 0 else "faster"
    if ratio.p_within(margin) <= ALPHA / 2:
        return "same"
    return "inconclusive"


def worst(verdicts: Sequence[Verdict]) -> Verdict:
    """Return the verdict on a whole: one slower experiment makes a regression, one inconclusive one leaves it open."""
    return next((verdict for verdict in BY_WEIGHT if verdict in verdicts), "incomparable")


def units_missing(ratio: LogRatio | None, units: int, margin: float, level: Level, suite: int) -> int | None:
    """Return how many more units a side would probably resolve a ratio; None where no reasonable number would.

    ``suite`` is how many experiments are judged together: as in ``ab``, each p is taken that many times.
    """
    if ratio is None:
        return max(1, units_min(level) - units)

    def is_resolved(guess: LogRatio) -> bool:
        return decide(guess, margin, suite * p_changed(guess, margin, level)) != "inconclusive"

    needed = units_to_resolve(ratio, units, is_resolved)
    return None if needed is None else max(1, max(needed, units_min(level)) - units)


def explain_inconclusive(ratio: LogRatio, margin: float, own_p: float) -> str:
    """Return why a ratio resolves nothing yet; ``own_p`` is its ``p_changed`` before any adjustment."""
    low, high = (log(end) for end in ratio.interval(1 - ALPHA))
    edge = log1p(margin)
    if own_p <= ALPHA:
        return "beyond the margin if it were the only experiment, not among so many"
    if low > edge or high < -edge:
        return "beyond the margin, but the noise is so wide that as much is seen too often where nothing changed"
    if low < -edge and high > edge:
        return "the interval covers faster and slower: too noisy, or too few units"
    return "the interval crosses the margin"
