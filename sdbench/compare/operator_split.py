"""What each operator adds to the difference of two latencies: tables of profiled calls brought to the timed calls.

A profiled call is longer than a timed one, by a cost for each operator, and the machine may be slower or faster during
it. So each table is brought to what the timed calls took: the profiler's cost of an operator is what makes the rows of
both tables longer than the latencies, the same for every call of an operator; what is left is scaled phase by phase to
what the phases took over all launches. The rows then add up to the two latencies, and their changes to the difference.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from math import exp, fsum, hypot, log, sqrt
from statistics import fmean, median

from sdbench.compare.operator_families import family_of, short_name
from sdbench.compare.operator_rows import SplitRow, find_noise, fold_into_rest
from sdbench.schema.metrics import latency_s
from sdbench.schema.operators import OUTSIDE, OperatorRow, OperatorTable
from sdbench.schema.outcome import Launch

_SERIES = "phase."
# Fewer launches than these say less about a phase than the profiled calls do.
_LAUNCHES_FOR_PHASES = 3
_BISECTIONS = 60
Key = tuple[str, str, str | None]


@dataclass(frozen=True)
class Split:
    """Two latencies (s) divided among rows, and how far the profiled calls are to be trusted.

    The error of a row's change is ``noise`` times the root of its seconds, because what interrupts a call hits a row as
    often as it is long, and ``scatter`` times its seconds. ``profiled_ratio`` is that of the profiled calls.
    """

    before_s: float
    after_s: float
    rows: tuple[SplitRow, ...]
    noise: float
    scatter: float
    profiled_ratio: float

    @property
    def difference_s(self) -> float:
        """What the candidate takes longer (s)."""
        return self.after_s - self.before_s

    def error_s(self, rows: Sequence[SplitRow]) -> float:
        """Return the standard error (s) of the sum of the changes of rows."""
        squares = fsum(row.longest_s**2 for row in rows)
        return hypot(self.noise * sqrt(fsum(row.longest_s for row in rows)), self.scatter * sqrt(squares))


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
    rows = fold_into_rest(rows)
    profiled = [fmean(table.call_s for table in arm) for arm in tables]
    return Split(*latencies_s, rows, *find_noise(rows, before_s), profiled[1] / profiled[0])


def _join(
    key: Key, rows: tuple[dict[Key, OperatorRow], dict[Key, OperatorRow]], seconds: Sequence[dict[Key, float]]
) -> SplitRow:
    before, after = (arm.get(key) for arm in rows)
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


def _mean_rows(tables: Sequence[OperatorTable]) -> dict[Key, OperatorRow]:
    """Return the rows of several tables of one arm, their seconds as means."""
    rows: dict[Key, OperatorRow] = {}
    for table in tables:
        for row in table.rows:
            key = row.phase, row.operator, row.kernel
            self_s = row.self_s / len(tables)
            self_s += rows[key].self_s if key in rows else 0.0
            rows[key] = row.model_copy(update={"self_s": self_s})
    return rows


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
    for arm, own in zip(launches, rows, strict=True):
        phases = dict.fromkeys(key[0] for key in own)
        known = [share for launch in arm if (share := _shares_of(launch))]
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
