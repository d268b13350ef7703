"""How far sdbench itself can be trusted: arithmetic, rules on simulated noise, and this machine against itself."""

from dataclasses import dataclass

from sdbench import __version__
from sdbench.compare.comparison import Comparison
from sdbench.compare.simulation import COVERAGE_CONFIDENCE, Coverage, Looks, Trials, simulate_coverage, simulate_session
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
# Blocks that vary by 1 %: two launches of each arm, so launches that vary by 1 % as well.
_CHANGE = 0.02
# Below the margin, at it and above it.
_NEAR = (0.005, 0.01, 0.015, 0.02, 0.025, 0.03, 0.04)


class ArithmeticCase(Model):
    """A known input, its known output from a source, and what this installation computes."""

    name: str
    source: str
    expected: tuple[float, ...]
    computed: tuple[float, ...]
    tolerance: float

    @property
    def passed(self) -> bool:
        """Whether every number is within the tolerance."""
        return all(abs(a - b) <= self.tolerance for a, b in zip(self.expected, self.computed, strict=True))


class SelfCheck(Model):
    """The results of one self-check; ``session`` is None where there was no time for a real A/A.

    ``near`` are changes from within the margin to beyond it.
    """

    sdbench_version: str
    seed: int
    arithmetic: tuple[ArithmeticCase, ...]
    identical: tuple[Trials, ...]
    identical_in_suite: tuple[Trials, ...]
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
        ArithmeticCase(name=name, source=source, expected=expected, computed=tuple(computed), tolerance=tolerance)
        for name, source, expected, computed, tolerance in (
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


def simulate_rules(trials: int = TRIALS) -> SelfCheck:
    """Return the self-check before anything is measured: golden cases and simulated sessions.

    Arms are identical, alone and in a suite of 20, or differ by 2 %, or by a change near the margin.
    """
    identical, identical_in_suite = (
        tuple(simulate_session(name, model, trials, SEED, 0.0, looks) for name, model in NOISE_MODELS.items())
        for looks in (Looks(_MARGIN), Looks(_MARGIN, SUITE))
    )
    return SelfCheck(
        sdbench_version=__version__,
        seed=SEED,
        arithmetic=check_arithmetic(),
        identical=identical,
        identical_in_suite=identical_in_suite,
        changed=simulate_session("independent, 2 % slower", independent, trials, SEED, _CHANGE, Looks(_STRICT_MARGIN)),
        near=tuple(
            simulate_session(f"{change:.1%}", independent, trials, SEED, change, Looks(_MARGIN)) for change in _NEAR
        ),
        coverage=tuple(
            simulate_coverage(name, model, trials, SEED, launches, paired=paired)
            for name, model in NOISE_MODELS.items()
            for paired in (False, True)
            for launches in COVERAGE_LAUNCHES
        ),
        session=None,
        overhead=None,
    )


def any_of_suite(rate: float) -> float:
    """Return the rate at which any experiment of a suite of 20 does what each does at ``rate``."""
    return 1 - (1 - rate) ** SUITE


@dataclass(frozen=True)
class Bar:
    """A bar of the design, what was measured, and whether it is met; None where it is unknown."""

    name: str
    measured: str
    limit: str
    met: bool | None


def bars_of(check: SelfCheck) -> tuple[Bar, ...]:
    """Return every bar with its result, which is that of the worst noise model."""
    alone, suite = (
        max(trials, key=lambda item: item.false_alarms) for trials in (check.identical, check.identical_in_suite)
    )
    rate, suite_rate = alone.false_alarms / alone.trials, any_of_suite(suite.false_alarms / suite.trials)
    bound, suite_bound = alone.false_alarm_bound, any_of_suite(suite.false_alarm_bound)
    independent_ones = [item for item in check.coverage if item.name == next(iter(NOISE_MODELS))]
    worst = max(independent_ones, key=lambda item: abs(item.rate - COVERAGE_CONFIDENCE))
    wrong = [case.name for case in check.arithmetic if not case.passed]
    right = f"{len(check.arithmetic) - len(wrong)} of {len(check.arithmetic)}" + (f" ({wrong})" if wrong else "")
    power = check.changed.slower / check.changed.trials
    return (
        Bar(
            "false alarms per experiment",
            f"{rate:.3%}, at most {bound:.3%} ({alone.name})",
            f"{FALSE_ALARMS_MAX:.1%}",
            bound <= FALSE_ALARMS_MAX,
        ),
        Bar(
            f"any false alarm in a suite of {SUITE}",
            f"{suite_rate:.2%}, at most {suite_bound:.2%} ({suite.name})",
            f"{SUITE_FALSE_ALARMS_MAX:.0%}",
            suite_bound <= SUITE_FALSE_ALARMS_MAX,
        ),
        Bar("2 % detected, margin 1 %", f"{power:.1%}", f"{FOUND_MIN:.0%}", power >= FOUND_MIN),
        Bar(
            "coverage of 95 %",
            f"{worst.rate:.4f} at {worst.launches} {'blocks' if worst.paired else 'launches'}",
            f"{COVERAGE_CONFIDENCE} +- {COVERAGE_TOLERANCE}",
            abs(worst.rate - COVERAGE_CONFIDENCE) <= COVERAGE_TOLERANCE,
        ),
        Bar("golden cases", right, "all", not wrong),
        _session_bar(check.session),
        _overhead_bar(check.overhead),
    )


def all_bars_met(check: SelfCheck) -> bool:
    """Return whether no bar is missed; an unknown one does not count."""
    return all(bar.met is not False for bar in bars_of(check))


def _session_bar(session: Comparison | None) -> Bar:
    verdict = "not measured" if session is None else session.verdict
    unknown = verdict in ("not measured", "inconclusive", "incomparable")
    return Bar("this machine against itself", verdict, "no false alarm", None if unknown else verdict == "same")


def _overhead_bar(overhead: Overhead | None) -> Bar:
    measured, met = "not measured", None
    if overhead is not None:
        measured = f"{overhead.ratio - 1:+.2%} [{overhead.low - 1:+.2%}, {overhead.high - 1:+.2%}]"
        if overhead.low > 1 + OVERHEAD_MAX or overhead.high < 1 - OVERHEAD_MAX:
            met = False
        elif max(abs(overhead.low - 1), abs(overhead.high - 1)) <= OVERHEAD_MAX:
            met = True
    return Bar("the measuring loop against a bare loop", measured, f"within {OVERHEAD_MAX:.1%}", met)
