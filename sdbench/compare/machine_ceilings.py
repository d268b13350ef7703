"""Whether the machine itself changed, by what it reaches at best: from start to end of a run, and between two runs."""

from collections.abc import Mapping, Sequence
from math import ceil, exp, fsum, log
from statistics import median

from sdbench.schema.base import Known, Model, Reading, Unknown
from sdbench.schema.ceilings import Ceilings
from sdbench.schema.record import Record

# On a quiet machine a ceiling repeats within 3 % (tests/benchmarks/ceilings.py), so two of them differ by up to 4 %.
REPEATED_MAX = 0.03
MOVED_MIN = 0.05
_MATRIX, _MEMORY = "matrix products", "memory"


class CeilingChange(Model):
    """How a ceiling changed: its rate in the second place over that in the first."""

    name: str
    ratio: float

    @property
    def has_moved(self) -> bool:
        """Whether the change is more than repeating it gives."""
        return abs(self.ratio - 1) > MOVED_MIN

    def __str__(self) -> str:
        return f"{self.name} {format_change_of_rate(self.ratio)}"


def rates_of(ceilings: Ceilings) -> dict[str, float]:
    """Return what is known of ceilings by name, each as a rate (1/s): more is faster."""
    known = {name: reading.value for name, reading in ceilings.readings.items() if isinstance(reading, Known)}
    return {name: 1 / value if name == "launches" else value for name, value in known.items()}


def describe_drift(start: Reading[Ceilings], end: Reading[Ceilings]) -> str:
    """Return in words how the machine changed during a run; empty where it did not, or where that is unknown."""
    if isinstance(start, Unknown) or isinstance(end, Unknown):
        return ""
    changes = _compare(rates_of(start.value), rates_of(end.value))
    moved = [change for change in changes if change.has_moved]
    return f"from start to end of the run: {', '.join(map(str, moved))}" if moved else ""


def compare_machines(baseline: Sequence[Record], candidate: Sequence[Record], result_ratio: float | None) -> str:
    """Return in a sentence whether the ceilings changed with the results; empty where that cannot be known.

    ``result_ratio`` is the latency of candidate over baseline, None where there is none.
    """
    ends = [[item for record in records for item in ceilings_of(record)] for records in (baseline, candidate)]
    first, second = ([_fields(item) for item in items] for items in ends)
    if not first or not second:
        return ""
    if first[0] != second[0]:
        return f"ceilings not compared: measured on {first[0]} and on {second[0]}"
    changes = _compare(*(_mean_rates(items) for items in ends))
    if not changes:
        return ""
    moved = [change for change in changes if change.has_moved]
    if not moved:
        most = max(abs(change.ratio - 1) for change in changes)
        return f"the machine's ceilings are equal within {max(1, ceil(100 * most))} %"
    is_same = baseline[0].machine_key == candidate[0].machine_key
    return _describe(moved, changes, result_ratio, is_same=is_same)


def format_change_of_rate(ratio: float) -> str:
    """Return a ratio of rates as a change: ``-6 %``."""
    return f"{100 * (ratio - 1):+.0f} %".replace("+0 %", "0 %").replace("-0 %", "0 %")


def _describe(
    moved: list[CeilingChange], changes: list[CeilingChange], result_ratio: float | None, *, is_same: bool
) -> str:
    listed = ", ".join(map(str, moved))
    decisive = [change for change in changes if change.name.startswith((_MATRIX, _MEMORY))]
    have_moved = all(change.has_moved for change in decisive)
    slower = have_moved and all(change.ratio < 1 for change in moved)
    faster = have_moved and all(change.ratio > 1 for change in moved)
    verb = "became" if is_same else "is"
    if decisive and (slower or faster):
        typical = median(change.ratio for change in decisive)
        amount = f"{100 * (1 - typical):.0f} % slower" if slower else f"{100 * (typical - 1):.0f} % faster"
        sentence = f"the machine {verb} {amount} at everything: {listed}"
    else:
        sentence = f"the machine's ceilings {'moved' if is_same else 'differ'}: {listed}"
    if result_ratio is None:
        return sentence
    return f"{sentence}; {_relate(median(change.ratio for change in moved), result_ratio)}"


def _relate(rate_ratio: float, result_ratio: float) -> str:
    """Whether the results moved with the ceilings: in the same direction, by half to twice as much."""
    expected, observed = -log(rate_ratio), log(result_ratio)
    if 2 * abs(observed) < abs(expected):
        return "the results did not move with it"
    if expected * observed < 0:
        return "the results moved the other way"
    if abs(observed) > 2 * abs(expected):
        return "the results moved by more than that"
    return "the results moved with it"


def _compare(first: Mapping[str, float], second: Mapping[str, float]) -> list[CeilingChange]:
    return [CeilingChange(name=name, ratio=second[name] / first[name]) for name in first if name in second]


def ceilings_of(record: Record) -> list[Ceilings]:
    """Return what is known of a run's ceilings: those of its start and of its end."""
    readings = (record.fingerprint.state.ceilings, record.ceilings_at_end)
    return [reading.value for reading in readings if isinstance(reading, Known)]


def _fields(ceilings: Ceilings) -> str:
    """What makes two sets of ceilings comparable."""
    kind = "a GPU" if ceilings.device.startswith("cuda") else ceilings.device
    return kind if kind == "a GPU" else f"{kind} with {ceilings.threads} threads"


def _mean_rates(ends: list[Ceilings]) -> dict[str, float]:
    """The rates over the starts and ends of runs: the geometric mean of those that are known at each."""
    rates = list(map(rates_of, ends))
    shared = [name for name in rates[0] if all(name in other for other in rates)]
    return {name: exp(fsum(log(other[name]) for other in rates) / len(rates)) for name in shared}
