"""What our loop adds to a call, against a bare loop over the same pipeline."""

from sdbench.schema.wire import Overhead
from sdbench.worker.overhead import measure_overhead
from tests.benchmarks.bars import Bar

LIMIT = 0.005
BUDGET_S = 240.0


def measure_loop() -> list[Bar]:
    """Return what our loop costs: against a bare loop, and by itself around a pipeline that does nothing."""
    overhead = measure_overhead(BUDGET_S)
    return [_versus_bare(overhead), _alone(overhead)]


def _versus_bare(overhead: Overhead) -> Bar:
    measured = (
        f"{overhead.ratio - 1:+.2%} [{overhead.low - 1:+.2%}, {overhead.high - 1:+.2%}], {overhead.pair_count} pairs"
    )
    met = judge(overhead.low, overhead.high)
    return Bar("our loop / a bare loop, CPU time", measured, f"within {LIMIT:.1%}", met)


def _alone(overhead: Overhead) -> Bar:
    share = overhead.own_s / overhead.call_s
    measured = f"{share:.2%} ({overhead.own_s * 1e6:.0f} us of {overhead.call_s * 1e3:.0f} ms)"
    return Bar("our loop around nothing / a bare call", measured, f"below {LIMIT:.1%}", share < LIMIT)


def judge(low: float, high: float) -> bool | None:
    """Return whether an interval of the ratio lies within the bar, or None when the machine is too busy to decide."""
    if max(abs(low - 1), abs(high - 1)) <= LIMIT:
        return True
    wholly_beyond = low > 1 + LIMIT or high < 1 - LIMIT
    return False if wholly_beyond else None
