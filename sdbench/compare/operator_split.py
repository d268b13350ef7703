"""What each operator adds to the difference of two latencies: tables of profiled calls brought to the timed calls.

A profiled call is longer than a timed one, by a cost for each operator, and the machine may be slower or faster during
it. So each table is brought to what the timed calls took: the profiler's cost of an operator is what makes the rows of
both tables longer than the latencies, the same for every call of an operator; what is left is scaled phase by phase to
what the phases took over all launches. The rows then add up to the two latencies, and their changes to the difference.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from math import exp, fsum, hypot, log, sqrt
from statistics import fmean, median

from sdbench.compare.operator_families import Family, family_of, short_name
from sdbench.schema.metrics import latency_s
from sdbench.schema.operators import OUTSIDE, REST, OperatorRow, OperatorTable
from sdbench.schema.outcome import Launch

_SERIES = "phase."
# Fewer launches than these say less about a phase than the profiled calls do.
_LAUNCHES_FOR_PHASES = 3
_BISECTIONS = 60
# From the median distance to a standard deviation of normal values.
_DEVIATIONS_PER_MEDIAN = 1.4826
# Long rows of two identical arms differ by so much (standard deviation; measured on a busy machine of two cores).
_ROW_ERROR_RATIO = 0.04
# What is as long as the shortest row of a table (ratio) may be in its rest: the machine's speed changes their order.
_REST_ROOM = 2.0
# Rows that take less of a call (ratio) say nothing about noise.
_ROW_MIN_RATIO = 0.002

Key = tuple[str, str, str | None]


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


@dataclass(frozen=True)
class Split:
    """Two latencies (s) divided among rows; ``noise`` times the root of a row's seconds is the error of its change.

    ``profiled_ratio`` is that of the profiled calls.
    """

    before_s: float
    after_s: float
    rows: tuple[SplitRow, ...]
    noise: float
    profiled_ratio: float

    @property
    def difference_s(self) -> float:
        """What the candidate takes longer (s)."""
        return self.after_s - self.before_s

    def error_s(self, rows: Sequence[SplitRow]) -> float:
        """Return the standard error (s) of the sum of the changes of rows."""
        whole_s = fsum(row.longest_s for row in rows)
        return hypot(self.noise * sqrt(whole_s), _ROW_ERROR_RATIO * whole_s)


def split_difference(
    tables: tuple[Sequence[OperatorTable], Sequence[OperatorTable]],
    launches: tuple[Sequence[Launch], Sequence[Launch]],
    ratio: float,
) -> Split:
    """Return the difference of two arms' latencies by operator.

    Args:
        tables: of the baseline and of the candidate, at least one each.
        launches: those that count, of both.
        ratio: candidate over baseline, which the verdict is based on.
    """
    known_s = [timed_s for launch in launches[0] if (timed_s := latency_s(launch))]
    before_s = exp(fmean(map(log, known_s)))
    latencies_s = before_s, before_s * ratio
    means = _mean_rows(tables[0]), _mean_rows(tables[1])
    cost_s = fmean(_find_cost_s(rows.values(), total_s) for rows, total_s in zip(means, latencies_s, strict=True))
    shares = _phase_shares(launches, means)
    scaled = [
        _scale(rows, total_s, cost_s, share) for rows, total_s, share in zip(means, latencies_s, shares, strict=True)
    ]
    rows = tuple(_join(key, means, scaled) for key in means[0] | means[1])
    rows = _fold_into_rest(rows)
    profiled = [fmean(table.call_s for table in side) for side in tables]
    return Split(*latencies_s, rows, _find_noise(rows, before_s), profiled[1] / profiled[0])


def _join(
    key: Key, rows: tuple[dict[Key, OperatorRow], dict[Key, OperatorRow]], seconds: Sequence[dict[Key, float]]
) -> SplitRow:
    before, after = (side.get(key) for side in rows)
    either = rows[1].get(key) or rows[0][key]
    return SplitRow(
        phase=either.phase,
        family=family_of(either),
        name=short_name(either),
        operator=either.operator,
        calls=(before.calls if before else None, after.calls if after else None),
        shapes=(before.shapes if before else None, after.shapes if after else None),
        seconds=(seconds[0].get(key, 0.0), seconds[1].get(key, 0.0)),
    )


def _fold_into_rest(rows: Sequence[SplitRow]) -> tuple[SplitRow, ...]:
    """Return the rows without those that have a row of their own on one side only and may be in the other's rest."""
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
    """Return how long (s) the shortest row of one side is; what has no row of its own there is about as short."""
    own = [row.seconds[index] for row in rows if row.calls[index] and row.operator not in (REST, OUTSIDE)]
    return _REST_ROOM * min(own, default=0.0)


def _mean_rows(tables: Sequence[OperatorTable]) -> dict[Key, OperatorRow]:
    """Return the rows of several tables of one arm, their seconds as means."""
    rows: dict[Key, OperatorRow] = {}
    for table in tables:
        for row in table.rows:
            key = row.phase, row.operator, row.kernel
            self_s = row.self_s / len(tables)
            rows[key] = replace_seconds(row, self_s + (rows[key].self_s if key in rows else 0.0))
    return rows


def replace_seconds(row: OperatorRow, self_s: float) -> OperatorRow:
    """Return a row with other seconds."""
    return row.model_copy(update={"self_s": self_s})


def _costs(rows: Iterable[OperatorRow]) -> list[tuple[float, float]]:
    """Return the seconds of each row, and how many times it has the profiler's cost in it.

    On a GPU kernels run at their own speed, and the cost is in the moments in which none did.
    """
    given = list(rows)
    if all(row.kernel is None for row in given):
        return [(max(0.0, row.self_s), row.calls) for row in given]
    calls: dict[str, int] = {}
    for row in given:
        calls[row.phase] = calls.get(row.phase, 0) + row.calls
    return [(max(0.0, row.self_s), calls[row.phase] if row.operator == OUTSIDE else 0) for row in given]


def _find_cost_s(rows: Iterable[OperatorRow], total_s: float) -> float:
    """Return the cost (s) of a call of an operator with which rows add up to ``total_s``; 0 where they are shorter."""
    costs = _costs(rows)
    if fsum(self_s for self_s, _ in costs) <= total_s:
        return 0.0
    most_s = max((self_s / calls for self_s, calls in costs if calls), default=0.0)
    return _solve(lambda cost_s: _sum_without(costs, cost_s, 1.0) - total_s, 0.0, most_s)


def _sum_without(costs: Sequence[tuple[float, float]], cost_s: float, pace: float) -> float:
    return fsum(max(0.0, self_s / pace - cost_s * calls) for self_s, calls in costs)


def _solve(falling: Callable[[float], float], low: float, high: float) -> float:
    """Return where a falling function crosses zero, by bisection."""
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        low, high = (middle, high) if falling(middle) > 0 else (low, middle)
    return (low + high) / 2


def _scale(
    rows: dict[Key, OperatorRow], total_s: float, cost_s: float, shares: dict[str, float] | None
) -> dict[Key, float]:
    """Return what each row takes (s) of a timed call of ``total_s``."""
    groups: dict[str, list[Key]] = {}
    for key in rows:
        groups.setdefault(key[0] if shares else "", []).append(key)
    scaled: dict[Key, float] = {}
    for phase, keys in groups.items():
        target_s = total_s * shares[phase] if shares else total_s
        costs = _costs(rows[key] for key in keys)
        whole_s = fsum(self_s for self_s, _ in costs)
        if whole_s <= 0 or target_s <= 0:
            scaled |= dict.fromkeys(keys, 0.0)
            continue
        # Without any cost the rows add up at this pace; with it, they are too short there.
        pace = _solve(lambda value: _sum_without(costs, cost_s, value) - target_s, 1e-9, whole_s / target_s)  # noqa: B023
        scaled |= {
            key: max(0.0, self_s / pace - cost_s * calls) for key, (self_s, calls) in zip(keys, costs, strict=True)
        }
    return scaled


def _phase_shares(
    launches: tuple[Sequence[Launch], Sequence[Launch]], rows: tuple[dict[Key, OperatorRow], dict[Key, OperatorRow]]
) -> tuple[dict[str, float] | None, dict[str, float] | None]:
    """Return the share of each phase in a call of either arm; None for both where launches do not have those phases."""
    both = []
    for side, own in zip(launches, rows, strict=True):
        phases = dict.fromkeys(key[0] for key in own)
        known = [share for launch in side if (share := _shares_of(launch))]
        if len(known) < _LAUNCHES_FOR_PHASES or any(share.keys() != phases.keys() for share in known):
            return None, None
        medians = {phase: median(share[phase] for share in known) for phase in phases}
        whole = fsum(medians.values())
        both.append({phase: share / whole for phase, share in medians.items()})
    return both[0], both[1]


def _shares_of(launch: Launch) -> dict[str, float]:
    """Return the share of each phase in the observed call of a launch."""
    sums = {
        series.name.removeprefix(_SERIES): fsum(series.steady)
        for series in launch.series
        if series.name.startswith(_SERIES)
    }
    total_s = sums.pop("total", 0.0)
    if total_s <= 0 or any(part_s < 0 for part_s in sums.values()):
        return {}
    return {phase: part_s / total_s for phase, part_s in sums.items()}


def _find_noise(rows: Sequence[SplitRow], before_s: float) -> float:
    """Return how much the changes of rows scatter, over the root of their seconds: most rows did not change.

    What interrupts a profiled call hits a row as often as it is long, so that the error grows with the root.
    """
    scores = [
        row.change_s / sqrt(row.longest_s)
        for row in rows
        if row.is_in_both and row.longest_s > _ROW_MIN_RATIO * before_s
    ]
    if not scores:
        return 0.0
    centre = median(scores)
    return _DEVIATIONS_PER_MEDIAN * median(abs(score - centre) for score in scores)


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
    ordered = [sorted(side, key=lambda row: -row.longest_s) for side in (gone, new)]
    names = [" + ".join(row.name for row in side) for side in ordered]
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
