"""What our loop adds to a call, against a bare loop over the same pipeline."""

from sdbench.schema.wire import Overhead
from sdbench.worker.overhead import measure_overhead
from tests.benchmarks.figures import Figure

LIMIT = 0.005
BUDGET_S = 75.0


def measure_loop() -> list[Figure]:
    """Return what our loop costs: against a bare loop, and by itself around a pipeline that does nothing."""
    found = measure_overhead(BUDGET_S)
    return [_versus_bare(found), _alone(found)]


def _versus_bare(found: Overhead) -> Figure:
    measured = f"{found.ratio - 1:+.2%} [{found.low - 1:+.2%}, {found.high - 1:+.2%}], {found.pair_count} pairs"
    met = judge(found.low, found.high)
    return Figure("our loop / a bare loop, CPU time", measured, f"within {LIMIT:.1%}", met)


def _alone(found: Overhead) -> Figure:
    share = found.own_s / found.call_s
    measured = f"{share:.2%} ({found.own_s * 1e6:.0f} us of {found.call_s * 1e3:.0f} ms)"
    return Figure("our loop around nothing / a bare call", measured, f"below {LIMIT:.1%}", share < LIMIT)


def judge(low: float, high: float) -> bool | None:
    """Return whether an interval of the ratio lies within the bar, or None when the machine is too busy to tell."""
    if max(abs(low - 1), abs(high - 1)) <= LIMIT:
        return True
    wholly_beyond = low > 1 + LIMIT or high < 1 - LIMIT
    return False if wholly_beyond else None
