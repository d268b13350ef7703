"""Two sets of records of the same experiments, compared: a verdict for each experiment and for the suite."""

from collections.abc import Sequence
from math import log
from statistics import median
from typing import Literal

from sdbench.compare.comparability import Measured
from sdbench.compare.differences import Difference, attribute, count_unknown_on_both, find_differences
from sdbench.compare.evidence import Pair, Sessions, weigh
from sdbench.compare.judging import judge_metric, judge_suite
from sdbench.compare.trust import doubts, trust_of
from sdbench.compare.units import share_devices, share_session, treatment_of
from sdbench.compare.verdicts import ALPHA, ComparedMetric, Judgement, Verdict, worst
from sdbench.schema.base import Model
from sdbench.schema.outcome import Succeeded, TrustCheck, counted_launches
from sdbench.schema.record import Record, Result
from sdbench.stats.hierarchy import advise
from sdbench.units import format_duration

SideName = Literal["baseline", "candidate"]
METRICS: tuple[ComparedMetric, ...] = ("latency_s", "memory_bytes", "energy_j")


class Doubt(Model):
    """A check of a result that found a reason to doubt it, and on which side."""

    side: SideName
    check: TrustCheck


class ExperimentComparison(Model):
    """One experiment on both sides: a judgement per metric, the doubts, and where inconclusive the best next minute."""

    experiment_id: str
    label: str
    judgements: tuple[Judgement, ...]
    doubts: tuple[Doubt, ...]
    advice: str


class Unmatched(Model):
    """An experiment that only one side has."""

    side: SideName
    label: str


class Side(Model):
    """The records of one side; a run per session. ``forced`` marks one whose seal does not match."""

    run_ids: tuple[str, ...]
    title: str
    device_name: str
    origin: str
    created_utc: str
    forced: bool


class Comparison(Model):
    """Candidate against baseline: the verdict of the whole is of the latencies, over all experiments.

    ``on_neither`` are experiments that no side could run; ``treatments`` are what two sides of a session were told to
    do differently.
    """

    schema_: Literal["sdbench/comparison/v1"] = "sdbench/comparison/v1"
    baseline: Side
    candidate: Side
    margin: float
    alpha: float
    verdict: Verdict
    suite: Judgement
    experiments: tuple[ExperimentComparison, ...]
    unmatched: tuple[Unmatched, ...]
    on_neither: tuple[str, ...]
    treatments: tuple[str, ...]
    differences: tuple[Difference, ...]
    attribution: str


def compare_records(
    baseline: Sequence[Record],
    candidate: Sequence[Record],
    margin: float,
    *,
    known: Sequence[Record] = (),
    forced: tuple[bool, bool] = (False, False),
) -> Comparison:
    """Return candidate against baseline on the experiments that both have.

    Args:
        baseline: a record per session, of one machine and set-up.
        candidate: the same of the other side.
        margin: which ratio is too small to matter, 0.02 for 2 %.
        known: other records, from which the variance between sessions of one and the same set-up is learned.
        forced: whether the baseline and the candidate were read although their seals do not match.
    """
    joined, unmatched = _join(baseline, candidate)
    pairs = [pair for pair in joined if not _was_skipped(pair)]
    own = {record.run_id for record in candidate}
    others = {record.run_id: record for record in (*known, *baseline) if record.run_id not in own}
    differences = find_differences(baseline[0].fingerprint, candidate[0].fingerprint)
    by_boot = any(item.field == "software.gpu_kernel_driver" for item in differences)
    sessions = Sessions(others.values(), candidate, by_boot=by_boot)
    weighed = [weigh(pair, METRICS, sessions) for pair in pairs]
    by_metric = {metric: [found[place] for found in weighed] for place, metric in enumerate(METRICS)}
    judged = zip(*(judge_metric(found, margin) for found in by_metric.values()), strict=True)
    experiments = tuple(
        ExperimentComparison(
            experiment_id=pair.baseline[0][1].planned.experiment_id,
            label=_label(pair),
            judgements=judgements,
            doubts=_doubts(pair),
            advice=_advice(pair) if judgements[0].verdict == "inconclusive" else "",
        )
        for pair, judgements in zip(pairs, judged, strict=True)
    )
    unknown_count = count_unknown_on_both(baseline[0].fingerprint, candidate[0].fingerprint)
    return Comparison(
        baseline=_side(baseline, forced=forced[0]),
        candidate=_side(candidate, forced=forced[1]),
        margin=margin,
        alpha=ALPHA,
        verdict=worst([item.judgements[0].verdict for item in experiments]),
        suite=judge_suite(by_metric["latency_s"], margin),
        experiments=experiments,
        unmatched=unmatched,
        on_neither=tuple(_label(pair) for pair in joined if _was_skipped(pair)),
        treatments=_treatments(baseline[0], candidate[0]),
        differences=differences,
        attribution=attribute(differences, unknown_count),
    )


def _join(baseline: Sequence[Record], candidate: Sequence[Record]) -> tuple[list[Pair], tuple[Unmatched, ...]]:
    """Pairs by the experiment's id; in a session of two sides by place, because the sides differ in an option."""
    if twins := _twins(baseline, candidate):
        places: dict[tuple[str, str], Pair] = {}
        for first, second in twins:
            for a, b in zip(first.results, second.results, strict=False):
                key = a.planned.experiment_id, b.planned.experiment_id
                before = places.get(key, Pair((), ()))
                places[key] = Pair((*before.baseline, (first, a)), (*before.candidate, (second, b)))
        return list(places.values()), ()
    sides = [_by_id(records) for records in (baseline, candidate)]
    pairs = [Pair(tuple(sides[0][key]), tuple(sides[1][key])) for key in sides[0] if key in sides[1]]
    return pairs, (*_alone("baseline", sides[0], sides[1]), *_alone("candidate", sides[1], sides[0]))


def _twins(baseline: Sequence[Record], candidate: Sequence[Record]) -> list[tuple[Record, Record]]:
    """The two records of each session of ``ab``; empty where any record has no twin on the other side."""
    found = [(first, second) for first in baseline for second in candidate if share_session(first, second)]
    return found if len(found) == len(baseline) == len(candidate) else []


def _alone(side: SideName, own: dict[str, list[Measured]], other: dict[str, list[Measured]]) -> tuple[Unmatched, ...]:
    return tuple(Unmatched(side=side, label=own[key][0][1].planned.label) for key in own if key not in other)


def _by_id(records: Sequence[Record]) -> dict[str, list[Measured]]:
    found: dict[str, list[Measured]] = {}
    for record in records:
        for result in record.results:
            found.setdefault(result.planned.experiment_id, []).append((record, result))
    return found


def _was_skipped(pair: Pair) -> bool:
    return all(result.outcome.kind == "skipped" for _, result in (*pair.baseline, *pair.candidate))


def _treatments(baseline: Record, candidate: Record) -> tuple[str, ...]:
    """What each side of a session set: ``baseline: threads=1``."""
    if not share_session(baseline, candidate) and not share_devices(baseline, candidate):
        return ()
    named = (("baseline", baseline), ("candidate", candidate))
    return tuple(f"{name}: {treatment_of(record) or 'nothing'}" for name, record in named)


def _doubts(pair: Pair) -> tuple[Doubt, ...]:
    sides: tuple[tuple[SideName, tuple[Measured, ...]], ...] = (
        ("baseline", pair.baseline),
        ("candidate", pair.candidate),
    )
    return tuple(
        Doubt(side=side, check=check)
        for side, items in sides
        for _, result in items
        for check in doubts(trust_of(result))
    )


def _advice(pair: Pair) -> str:
    """Where the next minute is best spent, from the side with more launches; nothing for a virtual clock."""
    record, result = max((*pair.baseline, *pair.candidate), key=lambda item: len(_steady(item[1])))
    calls = _steady(result)
    if record.origin == "virtual" or not calls or not isinstance(result.outcome, Succeeded):
        return ""
    call_s = median(median(launch) for launch in calls)
    overhead_s = max(1e-3, median(launch.wall_s for launch in result.outcome.launches) - call_s * len(calls[0]))
    advice = advise([[log(call) for call in launch] for launch in calls], call_s, overhead_s)
    if advice is None:
        return ""
    return (
        f"calls vary by {advice.call_deviation:.2%}, launches by {advice.launch_deviation:.2%}; a launch costs "
        f"{format_duration(overhead_s)}, a call {format_duration(call_s)}: best {advice.calls_per_launch} "
        f"calls a launch, so the next minute goes to more {advice.spend_on}"
    )


def _steady(result: Result) -> list[tuple[float, ...]]:
    launches = counted_launches(result.outcome.launches) if isinstance(result.outcome, Succeeded) else ()
    found = (launch.find_series("latency") for launch in launches)
    return [series.steady for series in found if series and min(series.steady, default=0) > 0]


def _label(pair: Pair) -> str:
    first, second = pair.baseline[0][1].planned, pair.candidate[0][1].planned
    if first.experiment_id == second.experiment_id:
        return first.label
    return f"{first.label} / {second.label}"


def _side(records: Sequence[Record], *, forced: bool) -> Side:
    first = records[0]
    return Side(
        run_ids=tuple(record.run_id for record in records),
        title=first.manifest.title,
        device_name=first.device_name,
        origin=first.origin,
        created_utc=first.created_utc,
        forced=forced,
    )
