"""The end of a bisection, or how far it came: from what is known of its arms to what is shown and stored."""

import shlex
from collections.abc import Sequence
from pathlib import Path

from sdbench.compare.bisection import (
    FIRST,
    ArmAnswer,
    Bisection,
    ComparedArm,
    Result,
    find_edges,
    is_only_a_part,
    measure_step,
)
from sdbench.compare.differences import Difference, compare_fingerprints, compare_libraries
from sdbench.compare.repeat import make_command
from sdbench.plan.make_plan import request_arguments
from sdbench.privacy import Redactor
from sdbench.runner.ab import hide_secret
from sdbench.runner.bisect_spec import Bisected, BisectSpec, KnownArms
from sdbench.runner.outcome import describe_end
from sdbench.runner.state import Ended
from sdbench.schema.outcome import Succeeded
from sdbench.schema.record import Record


def conclude(spec: BisectSpec, arms: KnownArms, folder: Path, ended: Ended) -> Bisected:
    """Return what is known of the arms as the end of a bisection."""
    last = len(spec.values) - 1
    good, bad = find_edges(arms.kinds, len(spec.values))
    candidates = () if bad is None else tuple(range(good + 1, bad + 1))
    result: Result = "found" if len(candidates) == 1 else "unresolved"
    if arms.kinds.get(last) == "good":
        result = "nothing"
    differences: tuple[Difference, ...] = ()
    attribution, step, is_part = "", None, False
    if result == "found" and bad is not None:
        differences, attribution = _describe_differences(_record_of(arms, good, last), _record_of(arms, bad, last))
        step = measure_step(arms.answers.get(good), arms.answers[bad])
        is_part = is_only_a_part(arms.answers[bad], arms.answers[last])
    deciding = last if bad is None else bad
    bisection = Bisection(
        key=spec.key,
        margin=spec.margin,
        result=result,
        direction=arms.direction,
        experiments=arms.labels if arms.direction else (),
        arms=tuple(_describe_arm(spec, arms, arm) for arm in range(len(spec.values))),
        last_good=good + 1,
        first_bad=None if bad is None else bad + 1,
        candidates=tuple(arm + 1 for arm in candidates),
        step=step,
        is_only_a_part=is_part,
        reason=_explain(ended, arms.answers.get(last), arms.stopped),
        comparison_count=len(arms.runs),
        elapsed_s=arms.elapsed_s,
        differences=differences,
        attribution=attribution,
        commands=tuple(_command(spec, arms, arm) for arm in sorted({good, deciding} & set(arms.runs))),
    )
    return Bisected(bisection, folder, ended, arms.runs.get(deciding, ()))


def _command(spec: BisectSpec, arms: KnownArms, arm: int) -> str:
    """What repeats a comparison; records of images name no arms."""
    first, other = (run.record for run in arms.runs[arm])
    if first.session is not None:
        return make_command(first, [other])
    words = ["sdbench", "ab", str(spec.request.manifest), *request_arguments(spec.request)]
    settings = (("--a", spec.settings[FIRST]), ("--b", spec.settings[arm]))
    return shlex.join([*words, *(word for pair in settings for word in pair)])


def _record_of(arms: KnownArms, arm: int, last: int) -> Record:
    """The record of an arm's own run; the first one's is next to any other."""
    return arms.runs[last][0].record if arm == FIRST else arms.runs[arm][1].record


def _describe_arm(spec: BisectSpec, arms: KnownArms, arm: int) -> ComparedArm:
    known = arms.answers.get(arm)
    return ComparedArm(
        number=arm + 1,
        setting=Redactor().redact(hide_secret(spec.settings[arm])),
        state=known.kind if known else "first" if arm == FIRST else "not compared",
        label=known.label if known else "",
        judgement=known.judgement if known else None,
        reason=Redactor().redact(known.reason) if known else "",
        runs=tuple(run.folder.name for run in arms.runs.get(arm, ())),
    )


def find_problem(first: Record, other: Record, followed: Sequence[str]) -> str:
    """Return why an arm gave no result in a followed experiment; empty where it gave one in all."""
    # An image with another sdbench may know another number of experiments.
    for before, result in zip(first.results, other.results, strict=False):
        if before.planned.experiment_id not in followed:
            continue
        if not isinstance(before.outcome, Succeeded) and before.outcome.kind != "skipped":
            return f"the first arm {describe_end(before.outcome)}"
        if not isinstance(result.outcome, Succeeded):
            return describe_end(result.outcome)
    return ""


def _explain(ended: Ended, last: ArmAnswer | None, stopped: ArmAnswer | None) -> str:
    """Why there is no answer yet: it was stopped, or the two ends do not differ clearly."""
    if ended != "complete":
        why = f": {stopped.reason}" if stopped is not None and stopped.reason else ""
        return ("the budget ended" if ended == "paused" else "interrupted") + why
    return last.reason if last is not None and last.kind in ("unclear", "cannot run") else ""


def _describe_differences(good: Record, bad: Record) -> tuple[tuple[Difference, ...], str]:
    """What differs between the last good and the first bad arm, and what that can be attributed to."""
    diff = compare_fingerprints(good.fingerprint, bad.fingerprint)
    return (*compare_libraries([good], [bad]), *diff.differences), diff.attribution
