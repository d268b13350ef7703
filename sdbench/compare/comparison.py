"""Two sets of records of the same experiments, compared: a verdict for each experiment and for the suite."""

from collections.abc import Sequence
from dataclasses import replace
from difflib import SequenceMatcher
from math import log
from statistics import median
from typing import Literal

from sdbench.compare.comparability import group_by_experiment
from sdbench.compare.differences import (
    Difference,
    compare_fingerprints,
    compare_libraries,
    compare_protocols,
    compare_ran,
)
from sdbench.compare.judge import judge_metric, judge_suite
from sdbench.compare.levels import share_devices, share_session, template_share_s, treatment_of
from sdbench.compare.machine_ceilings import compare_machines
from sdbench.compare.policy import ALPHA, MARGIN, UNITS_MIN, ComparedMetric, Judgement, Verdict, worst
from sdbench.compare.quality import failed_checks, quality_checks_of, timed_calls_s
from sdbench.compare.repeat import make_command
from sdbench.compare.samples import Pair, Sessions, weigh
from sdbench.compare.why import Why, explain_difference
from sdbench.schema.base import Model
from sdbench.schema.outcome import QualityCheck, Succeeded
from sdbench.schema.record import Record
from sdbench.stats.hierarchy import advise
from sdbench.store.run import Run
from sdbench.units import format_duration

Role = Literal["baseline", "candidate"]
METRICS: tuple[ComparedMetric, ...] = ("latency_s", "memory_bytes", "energy_j")


class CheckWarning(Model):
    """A quality check that warned, of the baseline or of the candidate."""

    role: Role
    check: QualityCheck


class ExperimentComparison(Model):
    """One experiment compared: judgements, checks that warned, and where inconclusive how to spend the next minute.

    ``why`` is what the difference of the latencies is made of.
    """

    experiment_id: str
    label: str
    judgements: tuple[Judgement, ...]
    failed_checks: tuple[CheckWarning, ...]
    advice: str
    why: Why


class Unmatched(Model):
    """An experiment that only the baseline or only the candidate has."""

    role: Role
    label: str


class ComparedRuns(Model):
    """The baseline or the candidate, a run per session; ``command`` repeats the first.

    ``forced`` marks one whose seal does not match.
    """

    run_ids: tuple[str, ...]
    title: str
    device_name: str
    origin: str
    created_utc: str
    command: str
    forced: bool


class Comparison(Model):
    """Candidate against baseline; the ``verdict`` is about latency, over all experiments.

    ``on_neither`` are experiments that neither could run; ``treatments`` are what the two arms of a session set.
    ``machine`` says whether what the machine reaches changed too; empty where that is not known.
    """

    schema_: Literal["sdbench/comparison/v1"] = "sdbench/comparison/v1"
    baseline: ComparedRuns
    candidate: ComparedRuns
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
    machine: str


def compare_records(
    baseline: Sequence[Record],
    candidate: Sequence[Record],
    margin: float,
    *,
    known: Sequence[Record] = (),
    forced: tuple[bool, bool] = (False, False),
) -> Comparison:
    """Return what ``compare_runs`` does, from records; those ``forced`` were read although their seals do not match."""
    joined, unmatched = _join(baseline, candidate)
    pairs = [pair for pair in joined if not _was_skipped(pair)]
    own = {record.run_id for record in candidate}
    others = {record.run_id: record for record in (*known, *baseline) if record.run_id not in own}
    diff = compare_fingerprints(baseline[0].fingerprint, candidate[0].fingerprint)
    ran = compare_ran(
        ([result for _, result in pair.baseline], [result for _, result in pair.candidate]) for pair in pairs
    )
    observed = (*ran, *compare_protocols(baseline, candidate), *compare_libraries(baseline, candidate))
    diff = replace(diff, differences=(*observed, *diff.differences))
    by_boot = any(item.field == "software.gpu_kernel_driver" for item in diff.differences)
    template_s = template_share_s((*baseline, *candidate))
    sessions = Sessions(others.values(), candidate, by_boot=by_boot, template_s=template_s)
    weighed = [weigh(pair, METRICS, sessions) for pair in pairs]
    by_metric = {metric: [evidence[index] for evidence in weighed] for index, metric in enumerate(METRICS)}
    judged = zip(*(judge_metric(evidence, margin) for evidence in by_metric.values()), strict=True)
    experiments = tuple(
        ExperimentComparison(
            experiment_id=pair.baseline[0][1].planned.experiment_id,
            label=_label(pair),
            judgements=judgements,
            failed_checks=_check_warnings(pair),
            advice=_advice(pair, sessions.template_s) if judgements[0].verdict == "inconclusive" else "",
            why=explain_difference(pair.baseline, pair.candidate, judgements[0]),
        )
        for pair, judgements in zip(pairs, judged, strict=True)
    )
    suite = judge_suite(by_metric["latency_s"], margin)
    return Comparison(
        baseline=_describe(baseline, forced=forced[0]),
        candidate=_describe(candidate, forced=forced[1]),
        margin=margin,
        alpha=ALPHA,
        verdict=worst([item.judgements[0].verdict for item in experiments]),
        suite=suite,
        experiments=experiments,
        unmatched=unmatched,
        on_neither=tuple(_label(pair) for pair in joined if _was_skipped(pair)),
        treatments=_treatments(baseline[0], candidate[0]),
        differences=diff.differences,
        attribution=diff.attribution,
        machine=compare_machines(baseline, candidate, suite.ratio),
    )


def compare_runs(
    baseline: Run | Sequence[Run], candidate: Run | Sequence[Run], margin: float = MARGIN, *, known: Sequence[Run] = ()
) -> Comparison:
    """Return candidate against baseline on the experiments that both have; its ``verdict`` covers all of them.

    Args:
        baseline: a run, or a run per session, of one machine and configuration.
        candidate: the same.
        margin: the ratio that is too small to matter, 0.02 for 2 %.
        known: other runs, from which the variance between sessions of one configuration is learned.
    """
    first, second, others = (
        [run.record for run in ([runs] if isinstance(runs, Run) else runs)] for runs in (baseline, candidate, known)
    )
    return compare_records(first, second, margin, known=others)


def _join(baseline: Sequence[Record], candidate: Sequence[Record]) -> tuple[list[Pair], tuple[Unmatched, ...]]:
    """Pairs by the experiment's id; in a session of ``ab`` by position, because its arms differ in an option."""
    # The two records of each session of ``ab``.
    twins = [(first, second) for first in baseline for second in candidate if share_session(first, second)]
    if twins and len(twins) == len(baseline) == len(candidate):
        joined: dict[tuple[str, str], Pair] = {}
        for first, second in twins:
            for a, b in zip(first.results, second.results, strict=False):
                key = a.planned.experiment_id, b.planned.experiment_id
                before = joined.get(key, Pair((), ()))
                joined[key] = Pair((*before.baseline, (first, a)), (*before.candidate, (second, b)))
        return list(joined.values()), ()
    old, new = group_by_experiment(baseline), group_by_experiment(candidate)
    pairs = [Pair(old[key], new[key]) for key in old if key in new]
    unmatched = tuple(
        Unmatched(role=role, label=own[key][0][1].planned.label)
        for role, own, other in (("baseline", old, new), ("candidate", new, old))
        for key in own
        if key not in other
    )
    return pairs, unmatched


def _was_skipped(pair: Pair) -> bool:
    return all(result.outcome.kind == "skipped" for _, result in (*pair.baseline, *pair.candidate))


def _treatments(baseline: Record, candidate: Record) -> tuple[str, ...]:
    if not share_session(baseline, candidate) and not share_devices(baseline, candidate):
        return ()
    named = (("baseline", baseline), ("candidate", candidate))
    return tuple(f"{name}: {treatment_of(record) or 'nothing'}" for name, record in named)


def _check_warnings(pair: Pair) -> tuple[CheckWarning, ...]:
    return tuple(
        CheckWarning(role=role, check=check)
        for role, items in (("baseline", pair.baseline), ("candidate", pair.candidate))
        for _, result in items
        for check in failed_checks(quality_checks_of(result))
    )


def _advice(pair: Pair, template_s: float) -> str:
    """How best to spend the next minute, from whichever has more launches; nothing for a virtual clock."""
    record, result = max((*pair.baseline, *pair.candidate), key=lambda item: len(timed_calls_s(item[1].outcome)))
    calls = timed_calls_s(result.outcome)
    # Fewer launches do not show how much launches vary.
    if record.origin == "virtual" or len(calls) < UNITS_MIN or not isinstance(result.outcome, Succeeded):
        return ""
    call_s = median(median(launch) for launch in calls)
    launch_s = median(launch.wall_s for launch in result.outcome.launches) + template_s
    overhead_s = max(1e-3, launch_s - call_s * len(calls[0]))
    advice = advise([[log(call) for call in launch] for launch in calls], call_s, overhead_s)
    if advice is None:
        return ""
    return (
        f"calls vary by {advice.call_deviation:.2%}, launches by {advice.launch_deviation:.2%}; a launch costs "
        f"{format_duration(overhead_s)}, a call {format_duration(call_s)}: best {advice.calls_per_launch} "
        f"calls a launch; spend the next minute on more {advice.spend_on}"
    )


def _label(pair: Pair) -> str:
    """What both arms of a session have in common; what they set is named once for all experiments."""
    first, second = (items[0][1].planned.label.split() for items in (pair.baseline, pair.candidate))
    blocks = SequenceMatcher(None, first, second, autojunk=False).get_matching_blocks()
    return " ".join(word for block in blocks for word in first[block.a : block.a + block.size])


def _describe(records: Sequence[Record], *, forced: bool) -> ComparedRuns:
    first = records[0]
    return ComparedRuns(
        run_ids=tuple(record.run_id for record in records),
        title=first.manifest.title,
        device_name=first.device_name,
        origin=first.origin,
        created_utc=first.created_utc,
        command=make_command(first, records),
        forced=forced,
    )
