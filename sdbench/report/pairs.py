"""The runs of a page held against each other: computed once, for the tiles and the section."""

from itertools import permutations

from sdbench.compare.comparison import compare_records
from sdbench.compare.verdicts import MARGIN
from sdbench.report.points import Compared, Machine, Source

# All pairs of so many runs are shown; of more, each against the first, up to as many pairs.
RUNS_IN_ALL_PAIRS = 6
PAIRS = RUNS_IN_ALL_PAIRS * (RUNS_IN_ALL_PAIRS - 1)


def comparable_runs(source: Source) -> tuple[tuple[int, Machine], ...]:
    """Return the runs that have samples, with their numbers: published figures are shown, never judged."""
    return tuple(
        (number, machine)
        for number, machine in enumerate(source.machines, start=1)
        if machine.record.origin != "imported"
    )


def compare_runs(source: Source) -> tuple[Compared, ...]:
    """Return the comparisons of a page: first the last run of a machine against its first, then every other pair."""
    runs = comparable_runs(source)
    pairs = (
        list(permutations(runs, 2))
        if len(runs) <= RUNS_IN_ALL_PAIRS
        else [(runs[0], run) for run in runs[1 : PAIRS + 1]]
    )
    pairs.sort(key=lambda pair: (_place(pair[0][1]) != _place(pair[1][1]), pair[0][0] - pair[1][0]))
    known = [machine.record for _, machine in runs]
    return tuple(
        Compared(first, second, compare_records([a.record], [b.record], MARGIN, known=known))
        for (first, a), (second, b) in pairs
    )


def _place(machine: Machine) -> tuple[str, str, str]:
    record = machine.record
    return record.origin, record.fingerprint.hardware_sha256, record.device
