"""How far sdbench itself can be trusted: arithmetic, rules on simulated noise, and this machine against itself."""

from sdbench.compare.comparison import Comparison
from sdbench.compare.simulation import (
    COVERAGE_CONFIDENCE,
    Coverage,
    Looks,
    Trials,
    simulate_coverage,
    simulate_session,
)
from sdbench.schema.base import Model
from sdbench.schema.wire import Overhead
from sdbench.stats.hierarchy import decompose
from sdbench.stats.multiplicity import benjamini_hochberg, holm
from sdbench.stats.noise import NOISE_MODELS, independent
from sdbench.stats.order_statistics import median_interval, samples_for_percentile, smallest_rank_test_p
from sdbench.stats.ratios import paired_ratio

TRIALS = 20_000
SEED = 20_260
SUITE = 20
COVERAGE_LAUNCHES = (5, 10, 20)
# The bars of the design: per experiment, for a suite of 20, for finding 2 % against a margin of 1 %, for coverage.
FALSE_ALARMS_MAX = 0.001
SUITE_FALSE_ALARMS_MAX = 0.01
FOUND_MIN = 0.94
COVERAGE_TOLERANCE = 0.01
OVERHEAD_MAX = 0.005
_MARGIN = 0.02
_STRICT_MARGIN = 0.01
# Blocks that vary by 1 %: two launches a side, so launches that vary by 1 % as well.
_CHANGE = 0.02
# At the margin itself, and on both sides of it.
_NEAR = (0.005, 0.01, 0.015, 0.02, 0.025, 0.03, 0.04)


class ArithmeticCase(Model):
    """A known input, its known output from a source, and what this installation computes."""

    name: str
    source: str
    expected: tuple[float, ...]
    found: tuple[float, ...]
    tolerance: float

    @property
    def holds(self) -> bool:
        """Whether every number is within the tolerance."""
        return all(abs(a - b) <= self.tolerance for a, b in zip(self.expected, self.found, strict=True))


class SelfCheck(Model):
    """Everything one self-check found; ``session`` is None where there was no time for a real A/A.

    ``near`` are changes from within the margin to beyond it.
    """

    sdbench_version: str
    seed: int
    arithmetic: tuple[ArithmeticCase, ...]
    alike: tuple[Trials, ...]
    alike_in_suite: tuple[Trials, ...]
    changed: Trials
    near: tuple[Trials, ...]
    coverage: tuple[Coverage, ...]
    session: Comparison | None
    overhead: Overhead | None


def check_arithmetic() -> tuple[ArithmeticCase, ...]:
    """Return the golden cases of the statistics as this installation computes them."""
    kalibera = decompose([[[9, 5], [8, 3]], [[10, 6], [7, 11]], [[1, 12], [2, 4]]])
    flat = decompose([[9, 5, 8, 3], [10, 6, 7, 11], [1, 12, 2, 4]])
    p_values = (0.01, 0.04, 0.03, 0.005)
    ratio = paired_ratio((100.4, 101.2, 99.3, 100.9, 99.8), (100, 101, 99, 100.5, 99.5))
    paired = (ratio.value, *ratio.interval(0.90)) if ratio else ()
    ranks = tuple(float(value) for count in (6, 10, 20) for value in median_interval(count, 0.95) or ())
    libkalibera = "Kalibera & Jones 2013, libkalibera"
    return tuple(
        ArithmeticCase(name=name, source=source, expected=expected, found=tuple(found), tolerance=tolerance)
        for name, source, expected, found, tolerance in (
            ("three-level variance S2", libkalibera, (16.5, 31 / 12, 3.5625), kalibera.s2, 1e-9),
            ("three-level variance T2", libkalibera, (16.5, -17 / 3, 2.2708333333333335), kalibera.t2, 1e-9),
            ("three-level half-width", libkalibera, (4.68871,), (kalibera.half_width(0.95),), 1e-5),
            ("two-level variance", libkalibera, (12.7222, 3.5625, 0.38194), (*flat.s2, flat.t2[1]), 1e-4),
            (
                "median interval, n = 6, 10, 20",
                "binomial, exact",
                (1, 6, 0.96875, 2, 9, 0.97852, 6, 15, 0.95861),
                ranks,
                1e-5,
            ),
            (
                "smallest p of the U test, n = 3, 4, 5",
                "exact distribution",
                (0.1, 2 / 70, 2 / 252),
                [smallest_rank_test_p(count, count) for count in (3, 4, 5)],
                1e-9,
            ),
            ("Holm", "definition", (0.03, 0.06, 0.06, 0.02), holm(p_values), 1e-9),
            ("Benjamini & Hochberg", "definition", (0.02, 0.04, 0.04, 0.02), benjamini_hochberg(p_values), 1e-9),
            (
                "MLPerf early stopping",
                "MLPerf loadgen, early_stopping.cc",
                (64, 459, 662),
                [float(samples_for_percentile(*case)) for case in ((0.90, 1), (0.99, 0), (0.99, 1))],
                0,
            ),
            ("paired ratio, 90 % interval", "scipy", (1.003201, 1.002403, 1.003999), paired, 1e-6),
        )
    )


def simulate_all(trials: int = TRIALS, seed: int = SEED) -> tuple[tuple[Trials, ...], tuple[Trials, ...], Trials]:
    """Return what `ab` says of alike sides in every noise model, alone and in a suite of 20, and of a change of 2 %."""
    alone = tuple(
        simulate_session(name, model, trials, seed, 0.0, Looks(_MARGIN)) for name, model in NOISE_MODELS.items()
    )
    in_suite = tuple(
        simulate_session(name, model, trials, seed, 0.0, Looks(_MARGIN, SUITE)) for name, model in NOISE_MODELS.items()
    )
    changed = simulate_session("independent, 2 % slower", independent, trials, seed, _CHANGE, Looks(_STRICT_MARGIN))
    return alone, in_suite, changed


def simulate_near(trials: int = TRIALS, seed: int = SEED) -> tuple[Trials, ...]:
    """Return what ``ab`` says of changes near the margin, where it may say either: blocks vary by 1 %."""
    return tuple(
        simulate_session(f"{change:.1%}", independent, trials, seed, change, Looks(_MARGIN)) for change in _NEAR
    )


def simulate_all_coverage(trials: int = TRIALS, seed: int = SEED) -> tuple[Coverage, ...]:
    """Return how often the nominal interval of 95 % of a ratio holds the truth, per noise model and units a side."""
    return tuple(
        simulate_coverage(name, model, trials, seed, launches, paired=paired)
        for name, model in NOISE_MODELS.items()
        for paired in (False, True)
        for launches in COVERAGE_LAUNCHES
    )


def suite_false_alarm_bound(found: Trials) -> float:
    """Return the upper bound of the rate at which a suite of 20 alike experiments raises any false alarm."""
    return 1 - (1 - found.false_alarm_bound) ** SUITE


class Bar(Model):
    """A bar of the design, what was measured beside it, and whether it is met; None where it cannot be told."""

    name: str
    measured: str
    limit: str
    met: bool | None


def bars_of(found: SelfCheck) -> tuple[Bar, ...]:
    """Return every bar with its figure, the worst noise model speaking for all."""
    alone = max(found.alike, key=lambda item: item.faster + item.slower)
    suite = max(found.alike_in_suite, key=lambda item: item.faster + item.slower)
    rate = (alone.faster + alone.slower) / alone.trials
    suite_rate = 1 - (1 - (suite.faster + suite.slower) / suite.trials) ** SUITE
    independent_ones = [item for item in found.coverage if item.name == next(iter(NOISE_MODELS))]
    worst = max(independent_ones, key=lambda item: abs(item.rate - COVERAGE_CONFIDENCE))
    wrong = [case.name for case in found.arithmetic if not case.holds]
    power = found.changed.slower / found.changed.trials
    return (
        Bar(
            name="false alarms per experiment",
            measured=f"{rate:.3%}, at most {alone.false_alarm_bound:.3%} ({alone.name})",
            limit=f"{FALSE_ALARMS_MAX:.1%}",
            met=alone.false_alarm_bound <= FALSE_ALARMS_MAX,
        ),
        Bar(
            name=f"any false alarm in a suite of {SUITE}",
            measured=f"{suite_rate:.2%}, at most {suite_false_alarm_bound(suite):.2%} ({suite.name})",
            limit=f"{SUITE_FALSE_ALARMS_MAX:.0%}",
            met=suite_false_alarm_bound(suite) <= SUITE_FALSE_ALARMS_MAX,
        ),
        Bar(name="2 % found, margin 1 %", measured=f"{power:.1%}", limit=f"{FOUND_MIN:.0%}", met=power >= FOUND_MIN),
        Bar(
            name="coverage of 95 %",
            measured=f"{worst.rate:.4f} at {worst.launches} {'blocks' if worst.paired else 'launches'}",
            limit=f"{COVERAGE_CONFIDENCE} +- {COVERAGE_TOLERANCE}",
            met=abs(worst.rate - COVERAGE_CONFIDENCE) <= COVERAGE_TOLERANCE,
        ),
        Bar(
            name="golden cases",
            measured=f"{len(found.arithmetic) - len(wrong)} of {len(found.arithmetic)}" + f" ({wrong})" * bool(wrong),
            limit="all",
            met=not wrong,
        ),
        _session_bar(found.session),
        _overhead_bar(found.overhead),
    )


def all_bars_met(found: SelfCheck) -> bool:
    """Return whether no bar is missed; what could not be told does not count."""
    return all(bar.met is not False for bar in bars_of(found))


def _session_bar(session: Comparison | None) -> Bar:
    name, limit = "this machine against itself", "no false alarm"
    if session is None:
        return Bar(name=name, measured="not measured", limit=limit, met=None)
    verdict = session.verdict
    met = None if verdict in ("inconclusive", "incomparable") else verdict == "same"
    return Bar(name=name, measured=verdict, limit=limit, met=met)


def _overhead_bar(overhead: Overhead | None) -> Bar:
    name, limit = "the measuring loop against a bare loop", f"within {OVERHEAD_MAX:.1%}"
    if overhead is None:
        return Bar(name=name, measured="not measured", limit=limit, met=None)
    ends = [abs(end - 1) for end in (overhead.low, overhead.high)]
    beyond = overhead.low > 1 + OVERHEAD_MAX or overhead.high < 1 - OVERHEAD_MAX
    met = True if max(ends) <= OVERHEAD_MAX else False if beyond else None
    measured = f"{overhead.ratio - 1:+.2%} [{overhead.low - 1:+.2%}, {overhead.high - 1:+.2%}]"
    return Bar(name=name, measured=measured, limit=limit, met=met)
