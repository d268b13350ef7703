"""Which arm of an ordered list is the first bad one, from comparisons of arms with the first one.

Every arm is compared with the first and never with its neighbour: "same" allows for a change up to the margin, and
differences that are each within it would add up along a chain. "Bad" lies wholly beyond the margin and "good" wholly
within it or beyond its other end, so a bad arm is also worse than a good one: their intervals do not meet.
"""

from collections.abc import Collection, Mapping, Sequence
from math import inf, log
from typing import Literal

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
    """What one comparison says of an arm; ``label`` and ``judgement`` are of the experiment that decides.

    ``reason`` is why it is neither good nor bad.
    """

    kind: Kind
    label: str = ""
    judgement: Judgement | None = None
    reason: str = ""


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
        return _answer("bad", max(changed, key=_size))
    fine = {"same"} if direction is None else {"same", _OPPOSITE[direction]}
    if items and verdicts <= fine:
        return _answer("good", max(items, key=_size))
    if problem:
        return ArmAnswer(kind="cannot run", reason=problem)
    unclear = next((item for item in items if item.judgements[0].verdict not in fine), None)
    if unclear is None:
        return ArmAnswer(kind="unclear", reason="no experiment was measured in both arms")
    reason = explain(unclear.judgements[0]) or unclear.judgements[0].verdict
    return _answer("unclear", unclear, reason)


def _answer(kind: Kind, item: ExperimentComparison, reason: str = "") -> ArmAnswer:
    return ArmAnswer(kind=kind, label=item.label, judgement=item.judgements[0], reason=reason)


def _size(item: ExperimentComparison) -> float:
    return abs(log(item.judgements[0].ratio or 1.0))


def measure_step(good: Judgement | None, bad: Judgement | None) -> StepRatio | None:
    """Return the first bad arm against the last good one, from their ratios to the first arm; None without them.

    The bounds are those of both intervals taken together: each holds with 99 %, so both do with at least 98 %.
    """
    if bad is None or bad.ratio is None or bad.low is None or bad.high is None:
        return None
    if good is None:
        return StepRatio(ratio=bad.ratio, low=bad.low, high=bad.high)
    if good.ratio is None or good.low is None or good.high is None:
        return None
    return StepRatio(ratio=bad.ratio / good.ratio, low=bad.low / good.high, high=bad.high / good.low)


def is_only_a_part(bad: Judgement | None, last: Judgement | None) -> bool:
    """Return whether the last arm changed by more than the first bad one, so that another one adds to it."""
    if bad is None or last is None:
        return False
    low, high = (abs(log(end)) if end else inf for end in (bad.low, bad.high))
    own = abs(log(last.low)) if last.low else 0.0, abs(log(last.high)) if last.high else 0.0
    return min(own) > max(low, high)


def count_at_most(arms: Sequence[object]) -> int:
    """Return how many comparisons a bisection takes at most where each gives an answer."""
    return 1 + (len(arms) - 2).bit_length()
