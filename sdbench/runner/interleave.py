"""Two arms interleaved in blocks of ABBA and BAAB, until every experiment is resolved or the budget is used up."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from math import ceil, inf
from random import Random
from typing import NamedTuple

from sdbench.compare.adjustment import look_at_blocks
from sdbench.compare.levels import LAUNCHES_PER_BLOCK, time_launches
from sdbench.compare.policy import (
    BLOCKS_MAX,
    BLOCKS_MIN,
    decide,
    draw_session_order,
    p_changed,
    round_up_budget_s,
    units_missing,
)
from sdbench.errors import UserError
from sdbench.runner.events import Listener, Outlook
from sdbench.runner.launch import launch
from sdbench.runner.run import measure
from sdbench.runner.schedule import RERUNS_MAX, Progress, expected_launch_s, out_of_budget, round_start_s
from sdbench.runner.sessions import continue_session
from sdbench.runner.spec import RunSpec
from sdbench.runner.state import Ended, RunState
from sdbench.schema.metrics import counted_launches, latency_s
from sdbench.schema.outcome import Skipped, StopReason
from sdbench.stats.ratios import LogRatio
from sdbench.store.run import Run
from sdbench.units import format_duration

_OTHER_ARM = Skipped(reason="the other arm did not run", hint="see why in the other arm's record")
# The arms' places in a block by the sign of its order: ABBA and BAAB.
_PLACES = {1: (0, 1, 1, 0), -1: (1, 0, 0, 1)}
# Estimates before anything has run are good to a factor of two or three.
_ESTIMATE_ERROR = 3.0


def interleave(
    arms: tuple[RunSpec, RunSpec],
    margin: float,
    listener: Listener,
    *,
    own_seed: bool = False,
    blocks_max: int = BLOCKS_MAX,
) -> tuple[Run, Run]:
    """Measure both arms block by block, look at each after every block from the seventh on, and return both runs.

    A look resolves an experiment when its interval lies beyond the margin or within it, never when it is "significant":
    looking until that happens gives 29 % of false alarms. What is not resolved ends after ``blocks_max`` or the budget.
    An unfinished session of the same arms is continued; with ``own_seed`` only one of their seed.

    Raises:
        EnvironmentProblem: the disk is full or the folder not writable; what was finished before is kept.
    """
    first, second = measure(
        arms,
        lambda states: _Interleaving(states, margin, blocks_max).run(),
        listener,
        lambda specs, fingerprints: continue_session(specs, fingerprints, margin, own_seed=own_seed),
    )
    return first, second


class Need(NamedTuple):
    """The blocks that an experiment has, the time (s) of one more, and about that of all until it is resolved."""

    block_count: int
    block_s: float
    needed_s: float


def choose_experiment(needs: Sequence[Need], left_s: float) -> int | None:
    """Return which experiment gets the next block: the one with the fewest, among those that ``left_s`` resolves.

    Time that does not resolve all goes to the first ones; where it resolves none, to the first that it has a block for.
    None where not even one block fits.
    """
    affordable, rest_s = [], left_s
    for index, need in enumerate(needs):
        if need.needed_s < rest_s or left_s == inf:
            affordable.append(index)
            rest_s -= need.needed_s
    if affordable:
        return min(affordable, key=lambda index: needs[index].block_count)
    return next((index for index, need in enumerate(needs) if need.block_s < left_s), None)


@dataclass
class _ArmPair:
    """An experiment in both arms, the order of its blocks, and how many of them were completed."""

    progress: tuple[Progress, Progress]
    order: tuple[int, ...]
    block_count: int = field(init=False)

    def __post_init__(self) -> None:
        self.block_count = sum(count == LAUNCHES_PER_BLOCK for count in self.block_sizes().values())

    @property
    def is_open(self) -> bool:
        return None in (item.ended for item in self.progress)

    def block_sizes(self) -> Counter[int]:
        """The finished launches of each block."""
        positions = (launch.position for item in self.progress for launch in item.launches)
        return Counter(position // LAUNCHES_PER_BLOCK for position in positions if position is not None)

    def look(self, margin: float) -> tuple[int, LogRatio | None]:
        """How many blocks are complete, and the ratio that their verdict is based on."""
        first, second = (time_launches(counted_launches(item.launches), latency_s) for item in self.progress)
        requested = all(item.planned.protocol.adjust == "reference" for item in self.progress)
        return look_at_blocks(first, second, margin, requested=requested)


class _Interleaving:
    def __init__(self, states: Sequence[RunState], margin: float, blocks_max: int) -> None:
        self._states = states
        self._margin = margin
        self._blocks_max = blocks_max
        session = states[0].spec.session
        if session is None:
            raise UserError("two arms need a session; see run_ab")
        random = Random(session.seed)  # noqa: S311 - an order that anyone can repeat
        both = zip(states[0].progress, states[1].progress, strict=True)
        self._pairs = [_ArmPair(pair, draw_session_order(random)) for pair in both]
        # A block that was cut off is left as it is and taken again: its halves may be hours apart.
        known = [block for pair in self._pairs for block in pair.block_sizes()]
        self._block = max(known, default=-1) + 1
        self._taken = 0
        self._current: _ArmPair | None = None
        self._budget_s = states[0].spec.plan.budget_s
        earlier_s = sum(state.earlier_s for state in states)
        for state in states:
            state.outlook = self._outlook
            # A session has one clock.
            state.earlier_s = earlier_s

    @property
    def _open_pairs(self) -> list[_ArmPair]:
        return [pair for pair in self._pairs if pair.is_open]

    @property
    def _left_s(self) -> float:
        """The time (s) left of this command's budget: continuing a session gives it another."""
        state = self._states[0]
        return inf if self._budget_s is None else self._budget_s - (state.elapsed_s - state.earlier_s)

    def run(self) -> Ended:
        """Measure block after block, until each experiment is resolved or ended."""
        for pair in self._open_pairs:
            self._end_if_resolved(pair)
        self._describe_need()
        while open_pairs := self._open_pairs:
            chosen = self._choose(open_pairs)
            if chosen is None:
                for pair in open_pairs:
                    self._close(pair, "budget", self._out_of_budget(pair))
                return "paused"
            self._take_block(chosen)
            self._end_if_resolved(chosen)
            if self._taken == 1:
                self._warn_of_budget(1.0)
        return "complete"

    def _choose(self, open_pairs: Sequence[_ArmPair]) -> _ArmPair | None:
        """Return the experiment of the next block, None where the budget has no room for one after the first."""
        needs = [Need(pair.block_count, self._block_s(pair), self._needed_s(pair)) for pair in open_pairs]
        index = choose_experiment(needs, self._left_s)
        if index is None:
            return None if self._taken else open_pairs[0]
        return open_pairs[index]

    def _take_block(self, pair: _ArmPair) -> None:
        """Run one block of an experiment from its first launch to its last; an arm that failed is left out."""
        first, self._block = self._block * LAUNCHES_PER_BLOCK, self._block + 1
        self._current = pair
        self._states[0].launcher.start_round()
        for place, arm in enumerate(_PLACES[pair.order[pair.block_count]]):
            if pair.progress[arm].ended is None:
                launch(self._states[arm], pair.progress[arm], first + place)
        pair.block_count += 1
        self._taken += 1

    def _end_if_resolved(self, pair: _ArmPair) -> None:
        if any(progress.ended is not None for progress in pair.progress):
            self._close(pair, "interrupted")
            return
        count, ratio = pair.look(self._margin)
        if count >= BLOCKS_MIN and self._is_resolved(ratio):
            self._close(pair, "converged")
        elif count >= self._blocks_max or pair.block_count >= self._blocks_max + RERUNS_MAX:
            self._close(pair, "max_launches")

    def _is_resolved(self, ratio: LogRatio | None) -> bool:
        """Whether a look ends an experiment: with p shared among all experiments, so that Holm's cannot undo it."""
        if ratio is None:
            return False
        p_value = min(1.0, p_changed(ratio, self._margin, "block") * len(self._pairs))
        return decide(ratio, self._margin, p_value) != "inconclusive"

    def _close(self, pair: _ArmPair, reason: StopReason, skip: Skipped = _OTHER_ARM) -> None:
        for progress in pair.progress:
            if progress.ended is None:
                progress.end_well_or_skip(reason, skip)

    def _blocks_missing(self, pair: _ArmPair) -> float:
        """About how many more blocks resolve an experiment: at least seven in all, infinite beyond ``blocks_max``."""
        count, ratio = pair.look(self._margin)
        if count < BLOCKS_MIN:
            return BLOCKS_MIN - count
        missing = units_missing(ratio, count, self._margin, "block", len(self._pairs))
        return inf if missing is None or count + missing > self._blocks_max else missing

    def _block_s(self, pair: _ArmPair) -> float:
        known = [progress for state in self._states for progress in state.progress]
        launches_s = sum(LAUNCHES_PER_BLOCK / 2 * expected_launch_s(progress, known) for progress in pair.progress)
        return launches_s + self._templates_per_block(pair) * round_start_s(known)

    def _templates_per_block(self, pair: _ArmPair) -> int:
        """One where both arms can share it; else each change of arm takes a new one, because two never live at once."""
        first, second = (
            (progress.planned.experiment.backend, dict(state.spec.environment), state.spec.template_command)
            for state, progress in zip(self._states, pair.progress, strict=True)
        )
        return 1 if first == second else 3

    def _needed_s(self, pair: _ArmPair) -> float:
        return self._blocks_missing(pair) * self._block_s(pair)

    def _outlook(self) -> Outlook:
        """The block of the current experiment, of how many, and at most about how long (s) the session still takes."""
        most = (
            min(self._blocks_missing(pair), max(0, self._blocks_max - pair.block_count)) * self._block_s(pair)
            for pair in self._open_pairs
        )
        pair = self._current or self._pairs[0]
        number = pair.block_count + 1
        total = min(pair.look(self._margin)[0] + self._blocks_missing(pair), self._blocks_max)
        return Outlook(number, max(ceil(total), number), min(sum(most), max(0.0, self._left_s)))

    def _out_of_budget(self, pair: _ArmPair) -> Skipped:
        skip = out_of_budget(self._block_s(pair), (self._budget_s or 0.0) - self._left_s, self._budget_s)
        return skip or _OTHER_ARM

    def _describe_need(self) -> None:
        """Say before anything is measured how long the verdicts take, where the budget cannot be enough."""
        if any(pair.block_count for pair in self._pairs):
            return
        if self._budget_s is not None:
            self._warn_of_budget(_ESTIMATE_ERROR)
        elif open_pairs := self._open_pairs:
            least_s = sum(map(self._needed_s, open_pairs))
            count = f"{len(open_pairs)} experiment{'s' * (len(open_pairs) > 1)}"
            most_s = least_s * self._blocks_max / BLOCKS_MIN
            self._states[0].emit(
                "note",
                f"{BLOCKS_MIN} to {self._blocks_max} blocks for {count}: very roughly {format_duration(least_s)} to "
                f"{format_duration(most_s)}; --budget limits it",
            )

    def _warn_of_budget(self, error: float) -> None:
        """Say which verdicts the budget cannot reach, even where times are overestimated by a factor of ``error``."""
        open_pairs = [pair for pair in self._open_pairs if self._blocks_missing(pair) < inf]
        needed_s = [self._needed_s(pair) for pair in open_pairs]
        if self._budget_s is None or not open_pairs or sum(needed_s) / error <= self._left_s:
            return
        blocks = max(1, self._taken + round(self._left_s / self._block_s(open_pairs[0])))
        needed = self._taken + sum(map(self._blocks_missing, open_pairs))
        needing = f"for {len(open_pairs)} experiments, the first ones first" if len(open_pairs) > 1 else "for a verdict"
        budget_s = round_up_budget_s(self._budget_s - self._left_s + sum(needed_s))
        advice = f"use --budget {budget_s / 60:.0f}m or more, or repeat the command to continue"
        self._states[0].emit(
            "note",
            f"{format_duration(self._budget_s)} is enough for about {blocks} of at least {needed:.0f} blocks needed "
            f"{needing}; {advice}",
        )
