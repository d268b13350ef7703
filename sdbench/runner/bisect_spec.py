"""What a bisection is to do, and what is known of its arms."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from sdbench.compare.bisection import ArmAnswer, Bisection, Direction, Kind
from sdbench.errors import UserError
from sdbench.plan.make_plan import PlanRequest
from sdbench.runner.state import Ended
from sdbench.store.run import Run

ARMS_MIN = 2
ARMS_MAX = 1000
Emit = Callable[[str], None]


class Question(NamedTuple):
    """The settings of the first arm and of another one, its number from 1, and the request for both."""

    request: PlanRequest
    first: str
    other: str
    number: int


Measure = Callable[[Question], tuple[Run, Run]]


@dataclass(frozen=True)
class BisectSpec:
    """An ordered list of arms, each a setting ``KEY=VALUE``, and how they are measured.

    ``machine`` is the hash of what earlier comparisons hold for; ``fresh`` starts over instead of resuming.
    """

    request: PlanRequest
    key: str
    values: tuple[str, ...]
    out: Path
    margin: float
    machine: str
    fresh: bool = False

    @property
    def settings(self) -> tuple[str, ...]:
        """The setting of each arm."""
        return tuple(f"{self.key}={value}" for value in self.values)


@dataclass(frozen=True)
class Bisected:
    """A bisection as far as it came, its folder, and the runs of the comparison that decides."""

    bisection: Bisection
    folder: Path
    ended: Ended
    runs: tuple[Run, ...]


@dataclass
class KnownArms:
    """What is known of the arms; the direction and the followed experiments come from the last one's comparison."""

    answers: dict[int, ArmAnswer] = field(default_factory=dict)
    runs: dict[int, tuple[Run, Run]] = field(default_factory=dict)
    direction: Direction | None = None
    followed: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()
    stopped: ArmAnswer | None = None
    elapsed_s: float = 0.0

    @property
    def kinds(self) -> dict[int, Kind]:
        """What each arm is that was compared, by its index from 0."""
        return {arm: item.kind for arm, item in self.answers.items()}


def parse_arms(texts: Sequence[str]) -> tuple[str, tuple[str, ...]]:
    """Return the key and the values of ``KEY=V1,V2,...``; of several texts with one key each is one value.

    Raises:
        UserError: the texts have no key or several, or there are too few or too many values.
    """
    pairs = [text.partition("=") for text in texts]
    keys = list(dict.fromkeys(key for key, _, _ in pairs))
    if not all(key and equals for key, equals, _ in pairs) or len(keys) != 1:
        raise UserError(
            f"invalid --over {' and '.join(map(repr, texts))}: expected KEY=V1,V2,..., or one KEY=VALUE an option with "
            "the same KEY"
        )
    values = tuple(pairs[0][2].split(",")) if len(pairs) == 1 else tuple(value for _, _, value in pairs)
    if not ARMS_MIN <= len(values) <= ARMS_MAX:
        raise UserError(
            f"--over {keys[0]} has {len(values)} value{'s' * (len(values) != 1)}; "
            f"expected {ARMS_MIN} to {ARMS_MAX:,}, from the good one to the bad one"
        )
    return keys[0], values
