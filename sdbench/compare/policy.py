"""The verdict on a ratio: faster, slower, same, inconclusive or incomparable, with its interval and its reasons."""

from collections.abc import Sequence
from math import ceil, inf, log, log1p, sqrt
from random import Random
from typing import Literal

from sdbench.compare.levels import Level
from sdbench.schema.base import Model
from sdbench.stats.block_order import draw_order
from sdbench.stats.ratios import LogRatio, units_to_resolve

Verdict = Literal["faster", "slower", "same", "inconclusive", "incomparable"]
ComparedMetric = Literal["latency_s", "memory_bytes", "energy_j"]

# The overall verdict is the first of these that any experiment has.
BY_WEIGHT: tuple[Verdict, ...] = ("slower", "incomparable", "inconclusive", "faster", "same")
MARGIN = 0.02
# The error rate of each look at the data; an interval of 1 - ALPHA is shown.
ALPHA = 0.01
# A change must also differ from no change at all: where the noise is wide against the margin, the margin no longer
# protects, and an interval of 99 % alone errs in one of a hundred looks (2.8 % of sessions whose blocks vary by 30 %,
# looked at from 6 to 20). At this level, and a sixtieth of it for repeated looks, it is below 0.1 % in every model of
# `stats.noise`. It cannot be for any noise: whatever the order of the blocks, some pattern of slow launches follows it,
# and seven blocks have only 64 pairs of opposite orders. Those that a periodic noise follows are not used
# (`stats.block_order`).
ALPHA_OF_ANY_CHANGE = 0.001
LOOKS_REPEATED = 60
# With fewer units two equally frequent modes of one system look too often like two systems, because all units of the
# baseline happen to be in one mode and all of the candidate in the other: 0.2 % of comparisons at 5 each, 0.05 % at 6.
UNITS_MIN = 6
# The same for blocks, where a session looks after each one: where launches fall into two modes 10 % apart, a first look
# at 6 causes a third more false alarms than one at 7.
BLOCKS_MIN = 7
# Where blocks vary by 5 %, identical arms are called the same by then in 44 of 100 sessions, and after 20 blocks in
# none. More looks would need an even smaller p of any change.
BLOCKS_MAX = 60
# As many as a session may take, with those that replace throttled ones.
_BLOCKS_ORDERED = BLOCKS_MAX + 4

# The session variance that so many more runs might have cannot be the one that is assumed.
_RUNS_SEARCHED = 50
UNIDENTIFIED = "session variance unidentified: one session each cannot separate a change from the time of day"

ALL_THROTTLED = "every launch of the baseline or of the candidate was throttled"
# Of a trend, where a step that one odd session makes would be followed by a step back.
ONE_SESSION = "one session cannot be distinguished from an odd one"
# Caps with a hint of their own.
NO_UNITS_HELP = (UNIDENTIFIED, ALL_THROTTLED, ONE_SESSION)


# A ratio, and the two ends of its interval.
RatioInterval = tuple[float, float, float]


class Adjustment(Model):
    """A ratio as measured and at equal reference operation, with the ratio of the reference operation itself.

    The judgement is based on the adjusted one where it is ``used``; otherwise ``reason`` is why it is not. The
    ``slope`` is the relative change of the latency per relative change of the reference.
    """

    used: bool
    requested: bool
    reference_changed: bool
    reason: str
    plain: RatioInterval
    adjusted: RatioInterval | None
    reference: RatioInterval | None
    slope: float | None


class Cycles(Model):
    """The latency of the candidate over the baseline's in cycles of the device's clock, with its interval.

    ``clocks_mhz`` are the mean clocks of baseline and candidate over the timed calls. ``explained`` is how much of a
    change in seconds is the clock's; ``set_by`` what set the clocks, as far as it is known.
    """

    ratio: float
    low: float
    high: float
    clocks_mhz: tuple[float, float]
    explained: Literal["all", "part", "none"]
    set_by: tuple[str, ...]


class Judgement(Model):
    """A metric of the candidate over the baseline's (below 1 is faster, or less), and what it shows.

    ``units`` counts the independent values of baseline and candidate at ``level``; ``more_units`` is how many more of
    each would resolve the question if the ratio stays as it is; of one run each, ``more_runs`` is how many more runs of
    each do so at least. ``more_s`` is about how long (s) either takes.
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
    more_runs: int | None
    more_s: float | None
    adjustment: Adjustment | None
    cycles: Cycles | None


def units_min(level: Level) -> int:
    """Return how many units of baseline and of candidate a verdict needs at least."""
    return BLOCKS_MIN if level == "block" else UNITS_MIN


def draw_session_order(random: Random) -> tuple[int, ...]:
    """Return the order of an experiment's blocks in a session of ``ab``: 1 for ABBA, -1 for BAAB."""
    return draw_order(random, _BLOCKS_ORDERED, BLOCKS_MIN)


def draw_image_order(random: Random) -> tuple[int, ...]:
    """Return the order of interleaved images, 1 or -1 for two rounds each; they are compared from three such blocks on.

    With the order of a session, which may begin with equal blocks, up to 16 % of comparisons raise a false alarm where
    noise is periodic; with this one none of 10,000 (ADR 17).
    """
    return draw_order(random, _BLOCKS_ORDERED, UNITS_MIN // 2)


def p_changed(ratio: LogRatio, margin: float, level: Level) -> float:
    """Return the p of "no change that matters": at most ALPHA where a single comparison shows faster or slower.

    It is the larger of two: that of the margin, and that of no change at all, scaled so that it passes ALPHA at
    ALPHA_OF_ANY_CHANGE, or for blocks, which are looked at repeatedly, at a sixtieth of it.
    """
    return max(ratio.p_beyond(margin), p_any_change(ratio, level))


def p_any_change(ratio: LogRatio, level: Level) -> float:
    """Return the p of "no change at all", scaled to pass ALPHA at ALPHA_OF_ANY_CHANGE, or a sixtieth of it."""
    repeated = LOOKS_REPEATED if level == "block" else 1
    return min(1.0, ratio.p_beyond(0.0) * ALPHA / ALPHA_OF_ANY_CHANGE * repeated)


def decide(ratio: LogRatio, margin: float, p_value: float) -> Verdict:
    """Return the verdict on a ratio; ``p_value`` is its ``p_changed``, or the one adjusted for the suite.

    Faster and slower: the interval of 1 - ALPHA lies entirely beyond the margin, and is not all noise. Same: it lies
    entirely within, which is two one-sided tests at half of ALPHA each.
    """
    if p_value <= ALPHA:
        return "slower" if ratio.log_value > 0 else "faster"
    if ratio.p_within(margin) <= ALPHA / 2:
        return "same"
    return "inconclusive"


def leaning(judgement: Judgement, margin: float) -> Literal["slower", "faster"] | None:
    """Return where an inconclusive judgement leans: its interval is beyond the margin, and more units may prove it."""
    if judgement.verdict != "inconclusive" or judgement.more_units is None or None in (judgement.low, judgement.high):
        return None
    if (judgement.low or 0.0) > 1 + margin:
        return "slower"
    return "faster" if (judgement.high or inf) < 1 / (1 + margin) else None


def worst(verdicts: Sequence[Verdict]) -> Verdict:
    """Return the overall verdict: one slower experiment makes a regression, one inconclusive one leaves it open."""
    return next((verdict for verdict in BY_WEIGHT if verdict in verdicts), "incomparable")


def units_missing(ratio: LogRatio | None, units: int, margin: float, level: Level, suite: int) -> int | None:
    """Return how many more units each would probably resolve a ratio; None where no reasonable number would.

    ``suite`` is how many experiments are judged together: as in ``ab``, each p is taken that many times.
    """
    if ratio is None:
        return max(1, units_min(level) - units)

    def is_resolved(guess: LogRatio) -> bool:
        return decide(guess, margin, suite * p_changed(guess, margin, level)) != "inconclusive"

    needed = units_to_resolve(ratio, units, is_resolved)
    return None if needed is None else max(1, max(needed, units_min(level)) - units)


def runs_missing(ratio: LogRatio | None, margin: float, suite: int) -> int | None:
    """Return how many more runs of each resolve a ratio of one run each, at least; None where no few would.

    How much sessions vary is unknown, so the launches of the two runs stand for it: sessions vary more.
    """
    if ratio is None:
        return None

    def is_resolved(runs: int) -> bool:
        guess = LogRatio(ratio.log_value, ratio.standard_error / sqrt(runs), 2.0 * (runs - 1))
        return decide(guess, margin, suite * p_changed(guess, margin, "session")) != "inconclusive"

    return next((runs - 1 for runs in range(2, _RUNS_SEARCHED + 1) if is_resolved(runs)), None)


def round_up_budget_s(needed_s: float) -> float:
    """Return the whole minutes (s) to ask for where ``needed_s`` are needed: a tenth more."""
    return 60.0 * ceil(1.1 * needed_s / 60)


def explain_inconclusive(ratio: LogRatio, margin: float, own_p: float) -> str:
    """Return why a ratio is inconclusive; ``own_p`` is its ``p_changed`` before any adjustment."""
    low, high = (log(end) for end in ratio.interval(1 - ALPHA))
    edge = log1p(margin)
    if own_p <= ALPHA:
        return "beyond the margin if it were the only experiment, but not among so many"
    if low > edge or high < -edge:
        return "beyond the margin, but too noisy to rule out chance"
    if low < -edge and high > edge:
        return "the interval covers faster and slower: too noisy, or too few units"
    return "the interval crosses the margin"
