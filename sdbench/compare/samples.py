"""Evidence on a metric: the ratio at the level at which baseline and candidate differ, and what caps a verdict."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from math import sqrt
from statistics import fmean

from sdbench.compare.adjustment import Adjusted, is_requested, unit_ratio, unit_values, weigh_reference
from sdbench.compare.comparability import Measured, group_by_experiment, reasons_against
from sdbench.compare.cycles import CycleEvidence, read_cycles, weigh_cycles
from sdbench.compare.levels import (
    LAUNCHES_PER_BLOCK,
    LEVEL_PLURALS,
    Level,
    ReadLaunch,
    Sampled,
    find_level,
    group_repeated,
    learn_session_variance,
    sample,
    session_values,
    time_launches,
)
from sdbench.compare.policy import ALL_THROTTLED, UNIDENTIFIED, ComparedMetric, units_min
from sdbench.schema.base import Unknown
from sdbench.schema.metrics import METRIC_TITLES, common_source, launches_that_count, reader
from sdbench.schema.outcome import Launch, was_throttled
from sdbench.schema.record import Record
from sdbench.stats.ratios import LogRatio, ratio_with_variance, welch_ratio

# A record, and the launches that count of one of its experiments.
Counted = tuple[Record, tuple[Launch, ...]]


@dataclass(frozen=True)
class Pair:
    """An experiment in each session of the baseline and of the candidate."""

    baseline: tuple[Measured, ...]
    candidate: tuple[Measured, ...]


@dataclass(frozen=True)
class Evidence:
    """The evidence on a metric, before the suite is judged together.

    ``units`` are the independent values of baseline and candidate, ``unit_s`` what one more of both costs (s). ``caps``
    are reasons for no verdict yet, ``incomparable`` for none at all; ``adjusted`` is the ratio at equal reference,
    ``cycles`` the one in cycles of the device's clock.
    """

    metric: ComparedMetric
    ratio: LogRatio | None = None
    level: Level | None = None
    units: tuple[int, int] = (0, 0)
    unit_s: float = 0.0
    caps: tuple[str, ...] = ()
    incomparable: tuple[str, ...] = ()
    adjusted: Adjusted | None = None
    cycles: CycleEvidence | None = None

    def settle(self, margin: float) -> "Evidence":
        """Return the evidence with the ratio that a verdict at this margin is based on: as measured, or adjusted."""
        return replace(self, ratio=self.adjusted.counts(margin)) if self.adjusted else self


class Sessions:
    """How much one configuration varies from session to session, as far as the records at hand show it."""

    def __init__(self, *record_sets: Iterable[Record], by_boot: bool, template_s: float = 0.0) -> None:
        """Group the records of each set; ``by_boot`` counts all runs of a boot as one session.

        Baseline and candidate are sets of their own: their difference is the question, and must not pass for noise even
        where all that was read is identical. ``template_s`` is what the start of templates adds to a launch (s).
        """
        self.template_s = template_s
        self.by_boot = by_boot
        self._groups = list(chain.from_iterable(map(group_repeated, record_sets)))
        self._learned: dict[tuple[str, frozenset[str]], tuple[float, int] | None] = {}

    def variance(self, read: ReadLaunch, name: str, pair: Pair) -> tuple[float, int] | None:
        """Return the variance between sessions on the machines of a pair, and its degrees of freedom.

        ``name`` is of what ``read`` returns.
        """
        machines = frozenset(record.fingerprint.hardware_sha256 for record, _ in (*pair.baseline, *pair.candidate))
        key = name, machines
        if key not in self._learned:
            groups = (group for group in self._groups if group[0].fingerprint.hardware_sha256 in machines)
            self._learned[key] = learn_session_variance(
                [
                    session_values([sample(*measured, read) for measured in items], by_boot=self.by_boot)
                    for items in group_by_experiment(group).values()
                ]
                for group in groups
            )
        return self._learned[key]


def weigh(pair: Pair, metrics: Sequence[ComparedMetric], sessions: Sessions) -> tuple[Evidence, ...]:
    """Return the evidence that a pair gives on each metric."""
    if reasons := reasons_against(pair.baseline, pair.candidate):
        return tuple(Evidence(metric, incomparable=reasons) for metric in metrics)
    baseline, candidate = (
        [(record, launches_that_count(result.outcome)) for record, result in items]
        for items in (pair.baseline, pair.candidate)
    )
    return tuple(_weigh_metric(pair, (baseline, candidate), metric, sessions) for metric in metrics)


def _weigh_metric(
    pair: Pair, counted: tuple[list[Counted], list[Counted]], metric: ComparedMetric, sessions: Sessions
) -> Evidence:
    source = common_source(metric, *([launch for _, launches in items for launch in launches] for items in counted))
    if isinstance(source, Unknown):
        return Evidence(metric, incomparable=(source.reason,))
    read_launch = reader(metric, source.value)
    first, second = (
        [item for record, launches in items if (item := Sampled(record, time_launches(launches, read_launch))).values]
        for items in counted
    )
    if not first or not second:
        return Evidence(metric, incomparable=(f"{METRIC_TITLES[metric]} was not measured in both records",))
    throttled = any(all(map(was_throttled, item.launches)) for item in (*first, *second))
    caps = (ALL_THROTTLED,) if throttled else ()
    cycles = None
    if metric == "latency_s":
        cycles = weigh_cycles((first, second), lambda *both: _weigh_ratio(pair, both, read_cycles, "cycles", sessions))
    level = find_level(first, second)
    if level == "session":
        variance = sessions.variance(read_launch, f"{metric} {source.value}", pair)
        evidence = _weigh_sessions(metric, (first, second), variance, sessions)
        return replace(evidence, caps=(*caps, *evidence.caps), cycles=cycles)
    arms = [item.timed for item in first], [item.timed for item in second]
    bottom, top = unit_values(level, *arms)
    units = len(bottom), len(top)
    if min(units) < units_min(level):
        caps = (*caps, f"{min(units)} of at least {units_min(level)} {LEVEL_PLURALS[level]}")
    ratio = unit_ratio(level, bottom, top)
    launch_s = fmean(launch.wall_s for item in (*first, *second) for launch in item.launches)
    unit_s = (launch_s + sessions.template_s) * (LAUNCHES_PER_BLOCK if level == "block" else 2)
    requested = is_requested([result for _, result in (*pair.baseline, *pair.candidate)])
    adjusted = weigh_reference(metric, level, *arms, requested=requested)
    return Evidence(metric, ratio, level, units, unit_s, caps, adjusted=adjusted, cycles=cycles)


def _weigh_ratio(
    pair: Pair, both: Sequence[Sequence[Sampled]], read: ReadLaunch, name: str, sessions: Sessions
) -> tuple[LogRatio | None, Level]:
    """Return the ratio of other values of the same launches, and its level."""
    first, second = both
    level = find_level(first, second)
    if level == "session":
        evidence = _weigh_sessions("latency_s", both, sessions.variance(read, name, pair), sessions)
        return evidence.ratio, evidence.level or level
    values = unit_values(level, [item.timed for item in first], [item.timed for item in second])
    return unit_ratio(level, *values), level


def _weigh_sessions(
    metric: ComparedMetric,
    both: Sequence[Sequence[Sampled]],
    variance: tuple[float, int] | None,
    sessions: Sessions,
) -> Evidence:
    """Separate sessions: judged by the variance between sessions, capped where that is not known."""
    bottom, top = (session_values(items, by_boot=sessions.by_boot) for items in both)
    baseline, candidate = ([value for item in items for value in item.values] for items in both)
    within = welch_ratio(candidate, baseline)
    run_s = sum(launch.wall_s + sessions.template_s for items in both for item in items for launch in item.launches)
    if variance is None:
        units = len(baseline), len(candidate)
        return Evidence(metric, within, "launch", units, run_s, (_explain_unidentified(within),))
    ratio = ratio_with_variance(top, bottom, *variance)
    if within is not None and within.standard_error > ratio.standard_error:
        # These launches vary more than sessions are known to: their own error is the larger one.
        freedom = min(within.degrees_of_freedom, ratio.degrees_of_freedom)
        ratio = LogRatio(ratio.log_value, within.standard_error, freedom)
    return Evidence(metric, ratio, "session", (len(bottom), len(top)), run_s / min(len(bottom), len(top)))


def _explain_unidentified(ratio: LogRatio | None) -> str:
    """Why a verdict is capped, and how much sessions would have to vary to explain the ratio."""
    if ratio is None:
        return f"{UNIDENTIFIED}; and one launch has no interval"
    deviation = abs(ratio.log_value) / sqrt(2)
    return f"{UNIDENTIFIED}; sessions that vary by {deviation:.1%} (standard deviation) would explain this ratio"
