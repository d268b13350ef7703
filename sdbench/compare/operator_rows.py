"""The rows of a difference: what belongs to a table's rest, what took another's place, and how far rows scatter."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from math import fsum, log, sqrt
from statistics import median

from sdbench.compare.operator_families import Family
from sdbench.schema.operators import OUTSIDE, REST

# From the median distance to a standard deviation of normal values.
_DEVIATIONS_PER_MEDIAN = 1.4826
# Long rows of two identical arms differ by so much (standard deviation; measured on a busy machine of two cores).
_ROW_ERROR_RATIO = 0.04
# What is as long as the shortest row of a table (ratio) may be in its rest: the machine's speed changes their order.
_REST_ROOM = 2.0
# Rows that take less of a call (ratio) say nothing about noise and scatter.
_NOISE_MIN_RATIO, _SCATTER_MIN_RATIO = 0.002, 0.01


@dataclass(frozen=True)
class SplitRow:
    """What an operator, or a kernel of one, takes of a timed call (s), before and after; None where it did not run."""

    phase: str
    family: Family
    name: str
    operator: str
    calls: tuple[int | None, int | None]
    shapes: tuple[str | None, str | None]
    seconds: tuple[float, float]

    @property
    def change_s(self) -> float:
        """What it adds to the difference (s)."""
        return self.seconds[1] - self.seconds[0]

    @property
    def longest_s(self) -> float:
        """The longer of its two times (s)."""
        return max(self.seconds)

    @property
    def is_in_both(self) -> bool:
        """Whether it ran before and after."""
        return None not in self.calls


def fold_into_rest(rows: Sequence[SplitRow]) -> tuple[SplitRow, ...]:
    """Return the rows without those that have a row of their own in one arm only and may be in the other's rest."""
    rests = {row.phase: row for row in rows if row.operator == REST}
    kept: list[SplitRow] = []
    for row in rows:
        missing = next((index for index, calls in enumerate(row.calls) if calls is None), None)
        rest = rests.get(row.phase)
        if row.operator == REST:
            continue
        if missing is None or rest is None or rest.calls[missing] is None or row.longest_s > _least_s(rows, missing):
            kept.append(row)
        else:
            seconds = rest.seconds[0] + row.seconds[0], rest.seconds[1] + row.seconds[1]
            rests[row.phase] = replace(rest, seconds=seconds)
    return (*kept, *rests.values())


def _least_s(rows: Sequence[SplitRow], index: int) -> float:
    """Return how long (s) the shortest row of one arm is; what has no row of its own there is about as short."""
    own = [row.seconds[index] for row in rows if row.calls[index] and row.operator not in (REST, OUTSIDE)]
    return _REST_ROOM * min(own, default=0.0)


def find_noise(rows: Sequence[SplitRow], before_s: float) -> tuple[float, float]:
    """Return the noise and the scatter of rows: most of them did not change, so that the median of all is of these."""
    both = [row for row in rows if row.is_in_both and min(row.seconds) > 0]
    roots = [row.change_s / sqrt(row.longest_s) for row in both if row.longest_s > _NOISE_MIN_RATIO * before_s]
    logs = [log(row.seconds[1] / row.seconds[0]) for row in both if row.longest_s > _SCATTER_MIN_RATIO * before_s]
    return _deviation(roots), max(_ROW_ERROR_RATIO, _deviation(logs))


def _deviation(values: Sequence[float]) -> float:
    """Return the standard deviation of most of the values, by their median distance from the median; 0 of none."""
    if not values:
        return 0.0
    centre = median(values)
    return _DEVIATIONS_PER_MEDIAN * median(abs(value - centre) for value in values)


def merge_replaced(rows: Sequence[SplitRow]) -> Iterator[SplitRow]:
    """Yield the rows that ran before and after, and as one row those of a phase and family that replace each other."""
    groups: dict[tuple[str, Family], list[SplitRow]] = {}
    for row in rows:
        if row.is_in_both:
            yield row
        else:
            groups.setdefault((row.phase, row.family), []).append(row)
    for members in groups.values():
        gone = [row for row in members if row.calls[1] is None]
        new = [row for row in members if row.calls[0] is None]
        yield from [_replace(gone, new)] if gone and new else members


def _replace(gone: Sequence[SplitRow], new: Sequence[SplitRow]) -> SplitRow:
    ordered = [sorted(arm, key=lambda row: -row.longest_s) for arm in (gone, new)]
    names = [" + ".join(row.name for row in arm) for arm in ordered]
    first, last = ordered[0][0], ordered[1][0]
    return SplitRow(
        phase=first.phase,
        family=first.family,
        name=f"{names[0]} → {names[1]}",
        operator=first.operator,
        # Those of the longest: an operator that became three is not called three times as often.
        calls=(first.calls[0], last.calls[1]),
        shapes=(first.shapes[0], last.shapes[1]),
        seconds=(fsum(row.seconds[0] for row in gone), fsum(row.seconds[1] for row in new)),
    )
