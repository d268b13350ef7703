"""Why a candidate is slower or faster: the difference divided among phases, families of operators and operators.

Nothing is explained that is not shown: without a verdict of slower or faster no operator is blamed. What the tables of
profiled calls cannot add up to is "not explained", and a difference that all operators share is the machine's.
"""

from collections.abc import Callable, Sequence
from math import fsum
from operator import attrgetter
from typing import Literal

from sdbench.compare.comparability import Measured
from sdbench.compare.operator_rows import SplitRow, merge_replaced
from sdbench.compare.operator_split import Split, split_difference
from sdbench.compare.policy import Judgement
from sdbench.compare.why_remarks import find_remarks
from sdbench.compare.why_wording import describe_call_counts, describe_change, make_sentence, name_parts, name_phase
from sdbench.schema.base import Known, Model, Unknown
from sdbench.schema.metrics import launches_that_count
from sdbench.schema.operators import OUTSIDE, OperatorTable
from sdbench.schema.outcome import Launch, launches_of

WhyStatus = Literal["nothing", "explained", "uniform", "not explained"]
# As many rows as can be read; the others are one sum.
ROWS_SHOWN = 10
# A family explains a difference from this share of it on; what is less is named with others.
FAMILY_MIN_SHARE = 0.25
# From here on a change of a family is more than the error of the profiled calls.
_ERRORS_MIN = 2.0
# A family that takes less of a call (ratio) decides nothing about whether a difference is everywhere.
_UNIFORM_MIN_RATIO = 0.05
_UNIFORM_FAMILIES_MIN = 3
# How much time may have moved between families, over the difference, where it is everywhere.
_UNIFORM_MOVED_MAX = 0.4
# Profiled calls that the machine's speed changed by more are of no use.
_PACE_MAX = 2.0
# As a table is made: it is then of the call that it names.
_SUM_TOLERANCE = 0.05


class WhyPart(Model):
    """What a phase, a family of operators or an operator takes of a call (s), before and after, and its change.

    ``share`` is of the whole difference: negative where it went the other way. ``error_s`` is the error of the change.
    """

    phase: str
    family: str
    name: str
    calls: str
    before_s: float
    after_s: float
    change_s: float
    share: float
    error_s: float


class Why(Model):
    """The reasons for a difference of latencies, the sentence first.

    ``rows`` are the operators that changed most, ``others_s`` is what all others add (s). ``reason`` is why nothing
    is explained. ``remarks`` are what differs other than operators: clocks, memory, waiting, libraries.
    """

    status: WhyStatus
    sentence: str
    reason: str
    before_s: float | None
    after_s: float | None
    phases: tuple[WhyPart, ...]
    families: tuple[WhyPart, ...]
    rows: tuple[WhyPart, ...]
    others_s: float
    remarks: tuple[str, ...]

    @property
    def difference_s(self) -> float:
        """What the candidate takes longer (s); 0 where that is unknown."""
        return (self.after_s or 0.0) - (self.before_s or 0.0)


def explain_difference(baseline: Sequence[Measured], candidate: Sequence[Measured], judgement: Judgement) -> Why:
    """Return why the candidate's latency differs, from the results of one experiment and the judgement on them."""
    if judgement.verdict not in ("slower", "faster") or judgement.ratio is None:
        return _without_rows("nothing", _nothing_to_explain(judgement), "", ())
    remarks = tuple(find_remarks(baseline, candidate, judgement))
    tables = _read_tables(baseline), _read_tables(candidate)
    for role, arm in zip(("baseline", "candidate"), tables, strict=True):
        if isinstance(arm, Unknown):
            return _not_explained(judgement, f"the {role} has no table of operators: {arm.reason}", remarks)
    known = [arm.value for arm in tables if isinstance(arm, Known)]
    launches = [
        [launch for _, result in arm for launch in launches_that_count(result.outcome)] for arm in (baseline, candidate)
    ]
    for role, own in zip(("baseline", "candidate"), known, strict=True):
        if (reason := _explain_sum(role, own)) is not None:
            return _not_explained(judgement, reason, remarks)
    split = split_difference((known[0], known[1]), (launches[0], launches[1]), judgement.ratio)
    return _judge_split(split, judgement, remarks)


def _explain_sum(role: str, tables: Sequence[OperatorTable]) -> str | None:
    """Return why the tables of an arm do not add up to their calls, None where they do."""
    ratio = fsum(row.self_s for table in tables for row in table.rows) / fsum(table.call_s for table in tables)
    if abs(ratio - 1) <= _SUM_TOLERANCE:
        return None
    return f"the {role}'s table does not add up: its rows are {ratio:.0%} of the profiled call"


def describe_moved(baseline: Sequence[Measured], candidate: Sequence[Measured], judgement: Judgement) -> str:
    """Return in a few words which operators a change is of, for a mark in a trend; "" where nothing is explained."""
    why = explain_difference(baseline, candidate, judgement)
    if why.status == "uniform":
        return "every operator by about as much"
    return _name_leading(why, why.families) if why.status == "explained" else ""


def _nothing_to_explain(judgement: Judgement) -> str:
    if judgement.verdict == "incomparable":
        return "Nothing to explain: the results are not comparable."
    if judgement.verdict == "same":
        return "Nothing to explain: the latencies are the same within the margin."
    return "Nothing to explain: no difference is shown, the verdict is inconclusive."


def _read_tables(arm: Sequence[Measured]) -> Known[tuple[OperatorTable, ...]] | Unknown:
    """The tables of one arm, one for each run that has any, else why there is none."""
    launches: list[Launch] = []
    for _, result in arm:
        counted = launches_that_count(result.outcome)
        launches += [*counted, *(launch for launch in launches_of(result.outcome) if launch not in counted)]
    known = tuple(launch.operators.value for launch in launches if isinstance(launch.operators, Known))
    if known:
        return Known(value=known)
    reasons = [launch.operators.reason for launch in launches if isinstance(launch.operators, Unknown)]
    return Unknown(reason=reasons[0] if reasons else "it has no launch")


def _without_rows(status: WhyStatus, sentence: str, reason: str, remarks: tuple[str, ...]) -> Why:
    return Why(
        status=status,
        sentence=sentence,
        reason=reason,
        before_s=None,
        after_s=None,
        phases=(),
        families=(),
        rows=(),
        others_s=0.0,
        remarks=remarks,
    )


def _not_explained(judgement: Judgement, reason: str, remarks: tuple[str, ...]) -> Why:
    sentence = make_sentence(judgement, f"not explained: {reason}")
    return _without_rows("not explained", sentence, reason, remarks)


def _judge_split(split: Split, judgement: Judgement, remarks: tuple[str, ...]) -> Why:
    """Return the reasons that rows give, or why they give none."""
    rows = sorted(merge_replaced(split.rows), key=lambda row: -abs(row.change_s))
    families = _add_up(split, rows, attrgetter("family"))
    status, reason = _find_status(split, families)
    if status == "explained":
        words = _explain(split, rows, families)
    elif status == "uniform":
        words = "every kind of operator by about as much: the machine or its clock, not an operator"
    else:
        words = f"not explained: {reason}"
    return Why(
        status=status,
        sentence=make_sentence(judgement, words),
        reason=reason,
        before_s=split.before_s,
        after_s=split.after_s,
        phases=_add_up(split, rows, lambda row: name_phase(row.phase)),
        families=families,
        rows=tuple(_make_part(split, [row], row.name) for row in rows[:ROWS_SHOWN]),
        others_s=fsum(row.change_s for row in rows[ROWS_SHOWN:]),
        remarks=remarks,
    )


def _find_status(split: Split, families: Sequence[WhyPart]) -> tuple[WhyStatus, str]:
    pace = split.profiled_ratio / (split.after_s / split.before_s)
    if not 1 / _PACE_MAX < pace < _PACE_MAX:
        return "not explained", (
            f"the profiled calls took {split.profiled_ratio:.2f} times as long, the timed ones "
            f"{split.after_s / split.before_s:.2f}"
        )
    if _is_uniform(split, families):
        return "uniform", ""
    if _find_leading(split, families):
        return "explained", ""
    if families[0].share < FAMILY_MIN_SHARE:
        return "not explained", "no kind of operator has a quarter of it"
    return "not explained", "the profiled calls scatter by as much as the difference"


def _find_leading(whole: Split | Why, families: Sequence[WhyPart]) -> list[WhyPart]:
    """Return the families that explain much, by more than the rows scatter, and more than their part of a call.

    What makes everything slower makes a long family slower by more seconds, which is no reason.
    """
    pace = abs(whole.difference_s) / whole.before_s if whole.before_s else 0.0
    return [
        part
        for part in families
        if part.share >= FAMILY_MIN_SHARE
        and abs(part.change_s) >= _ERRORS_MIN * part.error_s
        and abs(part.change_s) - pace * part.before_s >= part.error_s
    ]


def _name_leading(whole: Split | Why, families: Sequence[WhyPart]) -> str:
    return name_parts([(part.name, part.share) for part in _find_leading(whole, families)])


def _is_uniform(split: Split, families: Sequence[WhyPart]) -> bool:
    """Whether all families that matter changed by about as much as the whole."""
    change = split.difference_s / split.before_s
    large = [part for part in families if part.before_s >= _UNIFORM_MIN_RATIO * split.before_s]
    everywhere = all((part.change_s / part.before_s) / change > 1 / 2 for part in large)
    moved_s = fsum(abs(part.change_s - change * part.before_s) for part in families) / 2
    is_enough = len(large) >= _UNIFORM_FAMILIES_MIN
    return is_enough and everywhere and moved_s <= _UNIFORM_MOVED_MAX * abs(split.difference_s)


def _explain(split: Split, rows: Sequence[SplitRow], families: Sequence[WhyPart]) -> str:
    """Return which families a difference is of, and what became of the operator of the first that changed most."""
    first = _find_leading(split, families)[0].family
    own = [row for row in rows if row.family == first and row.change_s * split.difference_s > 0]
    detail = f": {describe_change(own[0])}" if own and first != OUTSIDE else ""
    return f"{_name_leading(split, families)}{detail}"


def _add_up(split: Split, rows: Sequence[SplitRow], name: Callable[[SplitRow], str]) -> tuple[WhyPart, ...]:
    """Return the parts that rows of the same name make, those first that explain most."""
    groups: dict[str, list[SplitRow]] = {}
    for row in rows:
        groups.setdefault(name(row), []).append(row)
    parts = (_make_part(split, members, title) for title, members in groups.items())
    return tuple(sorted(parts, key=lambda part: -part.share))


def _make_part(split: Split, rows: Sequence[SplitRow], name: str) -> WhyPart:
    phases, families = ({getter(row) for row in rows} for getter in (attrgetter("phase"), attrgetter("family")))
    before_s, after_s = (fsum(row.seconds[index] for row in rows) for index in (0, 1))
    return WhyPart(
        phase=name_phase(phases.pop()) if len(phases) == 1 else "",
        family=families.pop() if len(families) == 1 else "",
        name=name,
        calls=describe_call_counts(rows[0]) if len(rows) == 1 else "",
        before_s=before_s,
        after_s=after_s,
        change_s=after_s - before_s,
        share=(after_s - before_s) / split.difference_s,
        error_s=split.error_s(rows),
    )
