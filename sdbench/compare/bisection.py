"""Which arm of an ordered list is the first bad one, from comparisons of arms with the first one.

Every arm is compared with the first and never with its neighbour: "same" allows for a change up to the margin, and
differences that are each within it would add up along a chain. "Bad" lies wholly beyond the margin and "good" wholly
within it or beyond its other end, so a bad arm is also worse than a good one: their intervals do not meet.
"""

from collections.abc import Collection, Mapping, Sequence
from math import log
from typing import Literal

from pydantic import Field

from sdbench.compare.comparison import Comparison, ExperimentComparison
from sdbench.compare.differences import Difference
from sdbench.compare.policy import Judgement
from sdbench.compare.wording import explain
from sdbench.schema.base import Model

Direction = Literal["slower", "faster"]
Kind = Literal["good", "bad", "unclear", "cannot run"]
State = Literal["first", "good", "bad", "unclear", "cannot run", "not compared"]
Result = Literal["found", "nothing", "unresolved"]
FIRST = 0
_OPPOSITE: dict[Direction, Direction] = {"slower": "faster", "faster": "slower"}


class ArmAnswer(Model):
    """What one comparison says of an arm: ``judgements`` of the followed experiments by their ids, and which decides.

    ``label`` is of the one that decides, ``reason`` is why the arm is neither good nor bad.
    """

    kind: Kind
    judgements: dict[str, Judgement] = Field(default_factory=dict)
    deciding: str = ""
    label: str = ""
    reason: str = ""

    @property
    def judgement(self) -> Judgement | None:
        """The judgement of the experiment that decides."""
        return self.judgements.get(self.deciding)


class ComparedArm(Model):
    """An arm by its place in the list, from 1; ``runs`` are the folders of the first arm's run and of its own."""

    number: int
    setting: str
    state: State
    label: str
    judgement: Judgement | None
    reason: str
    runs: tuple[str, ...]


class StepRatio(Model):
    """The first bad arm over the last good one: the ratio, and bounds that follow from the intervals of both."""

    ratio: float
    low: float
    high: float


class Bisection(Model):
    """The end of a bisection. Arms have numbers from 1; ``candidates`` are those that may be the first bad one.

    ``direction`` is what the last arm is against the first; ``experiments`` are those of which that was shown, by their
    labels. ``differences`` are between the last good and the first bad arm.
    """

    schema_: Literal["sdbench/bisection/v1"] = "sdbench/bisection/v1"
    key: str
    margin: float
    result: Result
    direction: Direction | None
    experiments: tuple[str, ...]
    arms: tuple[ComparedArm, ...]
    last_good: int
    first_bad: int | None
    candidates: tuple[int, ...]
    step: StepRatio | None
    is_only_a_part: bool
    reason: str
    comparison_count: int
    elapsed_s: float
    differences: tuple[Difference, ...]
    attribution: str
    commands: tuple[str, ...]


def find_edges(kinds: Mapping[int, Kind], count: int) -> tuple[int, int | None]:
    """Return the last arm that is known to be good and the first bad one after it, None where there is none yet."""
    good = max((arm for arm in range(count) if kinds.get(arm) == "good"), default=FIRST)
    bad = min((arm for arm in range(good + 1, count) if kinds.get(arm) == "bad"), default=None)
    return good, bad


def next_arm(kinds: Mapping[int, Kind], count: int) -> int | None:
    """Return the arm to compare with the first one next, None at the end; ``kinds`` has what is known by arm from 0.

    The last one comes first. Then, of those between the last good and the first bad one, the one that is nearest to the
    middle and was not tried: where one says nothing, its neighbours may.
    """
    last = count - 1
    if last not in kinds:
        return last
    good, bad = find_edges(kinds, count)
    if bad is None:
        return None
    untried = [arm for arm in range(good + 1, bad) if arm not in kinds]
    return min(untried, key=lambda arm: (abs(2 * arm - good - bad), arm), default=None)


def choose_followed(comparison: Comparison) -> tuple[Direction | None, tuple[str, ...]]:
    """Return what the last arm is against the first, and the ids of the experiments that it is so in.

    A slowdown is followed where there is one, in the experiments that it was shown in: what is the same at both ends
    says nothing about where it came from.
    """
    verdicts = {item.experiment_id: item.judgements[0].verdict for item in comparison.experiments}
    directions: tuple[Direction, ...] = ("slower", "faster")
    for direction in directions:
        if followed := tuple(key for key, verdict in verdicts.items() if verdict == direction):
            return direction, followed
    return None, tuple(verdicts)


def answer(
    comparison: Comparison, direction: Direction | None, followed: Collection[str], problem: str = ""
) -> ArmAnswer:
    """Return what a comparison with the first arm says of another one; ``problem`` is why that one could not run.

    Bad: one of the followed experiments changed in the direction. Good: none did, each is the same or the opposite.
    """
    items = [item for item in comparison.experiments if item.experiment_id in followed]
    verdicts = {item.judgements[0].verdict for item in items}
    if direction is not None and direction in verdicts:
        changed = [item for item in items if item.judgements[0].verdict == direction]
        return _answer("bad", max(changed, key=_size), items)
    fine = {"same"} if direction is None else {"same", _OPPOSITE[direction]}
    if items and verdicts <= fine:
        return _answer("good", max(items, key=_size), items)
    if problem:
        return ArmAnswer(kind="cannot run", reason=problem)
    unclear = next((item for item in items if item.judgements[0].verdict not in fine), None)
    if unclear is None:
        return ArmAnswer(kind="unclear", reason="no experiment was measured in both arms")
    reason = explain(unclear.judgements[0]) or unclear.judgements[0].verdict
    return _answer("unclear", unclear, items, reason)


def _answer(
    kind: Kind, deciding: ExperimentComparison, followed: Sequence[ExperimentComparison], reason: str = ""
) -> ArmAnswer:
    judgements = {item.experiment_id: item.judgements[0] for item in followed}
    return ArmAnswer(
        kind=kind, judgements=judgements, deciding=deciding.experiment_id, label=deciding.label, reason=reason
    )


def _size(item: ExperimentComparison) -> float:
    return abs(log(item.judgements[0].ratio or 1.0))


def measure_step(good: ArmAnswer | None, bad: ArmAnswer) -> StepRatio | None:
    """Return the first bad arm against the last good one, in the experiment that decides, from both against the first.

    The bounds are those of both intervals taken together: each holds with 99 %, so both do with at least 98 %. None
    where a ratio is not known; ``good`` is None where that is the first arm itself.
    """
    ends = _ends(bad.judgement)
    before = (1.0, 1.0, 1.0) if good is None else _ends(good.judgements.get(bad.deciding))
    if ends is None or before is None:
        return None
    return StepRatio(ratio=ends[0] / before[0], low=ends[1] / before[2], high=ends[2] / before[1])


def is_only_a_part(bad: ArmAnswer, last: ArmAnswer) -> bool:
    """Return whether the last arm changed by more than the first bad one, so that another one adds to it."""
    own, whole = _ends(bad.judgement), _ends(last.judgements.get(bad.deciding))
    if own is None or whole is None:
        return False
    return min(abs(log(end)) for end in whole[1:]) > max(abs(log(end)) for end in own[1:])


def _ends(judgement: Judgement | None) -> tuple[float, float, float] | None:
    """A ratio and the ends of its interval, where they are known."""
    if judgement is None or judgement.ratio is None or not judgement.low or judgement.high is None:
        return None
    return judgement.ratio, judgement.low, judgement.high


def count_at_most(arms: Sequence[object]) -> int:
    """Return how many comparisons a bisection takes at most where each gives an answer."""
    return 1 + (len(arms) - 2).bit_length()
