"""What else than operators may make a difference: the clock, memory, waiting for the host, what ran, libraries."""

from collections.abc import Callable, Iterator, Sequence
from statistics import median

from sdbench.compare.comparability import Measured
from sdbench.compare.cycles import explain_cycles
from sdbench.compare.differences import describe_libraries
from sdbench.compare.policy import Judgement
from sdbench.schema.base import Known
from sdbench.schema.metrics import launches_that_count
from sdbench.schema.operators import OperatorTable
from sdbench.schema.outcome import Launch
from sdbench.units import format_duration

# A share of denoiser calls that differs by less is the same.
_HOST_BOUND_CHANGE = 0.1
# A start that takes so many times as long, and at least so much longer (s), is worth a line.
_START_TIMES, _START_S = 1.5, 0.2
_LIBRARIES_NAMED = 3


def find_remarks(baseline: Sequence[Measured], candidate: Sequence[Measured], judgement: Judgement) -> Iterator[str]:
    """Yield what differs between two results in addition to their operators, and may be the reason."""
    before, after = (
        [launch for _, result in arm for launch in launches_that_count(result.outcome)] for arm in (baseline, candidate)
    )
    if text := explain_cycles(judgement):
        yield text
    yield from _compare_allocators(before, after)
    yield from _compare_waits(before, after)
    yield from _compare_ran(before, after)
    yield from _compare_libraries(before, after)
    yield from _compare_starts(before, after)


def _compare_allocators(before: Sequence[Launch], after: Sequence[Launch]) -> Iterator[str]:
    counts = [
        sum(launch.allocator.value.retries for launch in arm if isinstance(launch.allocator, Known))
        for arm in (before, after)
    ]
    if counts[0] != counts[1]:
        yield f"allocator retries in the timed calls: {counts[1]}, before {counts[0]}; memory was short"


def _compare_waits(before: Sequence[Launch], after: Sequence[Launch]) -> Iterator[str]:
    shares = [_median_of(arm, _host_bound_ratio) for arm in (before, after)]
    if None not in shares and abs((shares[1] or 0) - (shares[0] or 0)) >= _HOST_BOUND_CHANGE:
        yield f"the GPU waited for the host in {shares[1]:.0%} of the denoiser calls, before in {shares[0]:.0%}"
    tables = _find_table(before), _find_table(after)
    waits = [(table.host_wait_count, table.host_wait_s) for table in tables if table]
    if len(waits) == len(tables) and waits[0][0] != waits[1][0] and None not in (*waits[0], *waits[1]):
        old, new = (f"{count} times ({format_duration(wait_s or 0.0)})" for count, wait_s in waits)
        yield f"the host waited for the GPU {new} in a call, before {old}"


def _compare_ran(before: Sequence[Launch], after: Sequence[Launch]) -> Iterator[str]:
    tables = _find_table(before), _find_table(after)
    old, new = (table.ran if table else {} for table in tables)
    for name in sorted(old.keys() & new.keys()):
        if old[name] != new[name]:
            yield f"{name.replace('_', ' ')} ran as {new[name]}, before as {old[name]}"


def _compare_libraries(before: Sequence[Launch], after: Sequence[Launch]) -> Iterator[str]:
    old, new = describe_libraries(before), describe_libraries(after)
    differing = [name for name in sorted(old | new) if old and new and old.get(name) != new.get(name)]
    if differing:
        more = f" and {len(differing) - _LIBRARIES_NAMED} more" if len(differing) > _LIBRARIES_NAMED else ""
        yield f"other files of libraries were loaded: {', '.join(differing[:_LIBRARIES_NAMED])}{more}"


def _compare_starts(before: Sequence[Launch], after: Sequence[Launch]) -> Iterator[str]:
    """A start is in no timed call: that it became longer explains nothing, and is worth knowing."""
    for name, read in (
        ("loading", lambda launch: launch.load_s),
        ("the first call", lambda launch: launch.first_call_s),
    ):
        old, new = (_median_of(arm, read) or 0.0 for arm in (before, after))
        if abs(new - old) >= _START_S and max(old, new) >= _START_TIMES * min(old, new):
            yield f"cold start, in no timed call: {name} took {format_duration(new)}, before {format_duration(old)}"
    sources = [", ".join(sorted({launch.environment.weights_source for launch in arm})) for arm in (before, after)]
    if sources[0] != sources[1]:
        yield f"cold start, in no timed call: weights were {sources[1]}, before {sources[0]}"


def _host_bound_ratio(launch: Launch) -> float | None:
    reading = launch.host_bound_ratio
    return reading.value if isinstance(reading, Known) else None


def _median_of(launches: Sequence[Launch], read: Callable[[Launch], float | None]) -> float | None:
    values = [value for launch in launches if (value := read(launch)) is not None]
    return median(values) if values else None


def _find_table(launches: Sequence[Launch]) -> OperatorTable | None:
    return next((launch.operators.value for launch in launches if isinstance(launch.operators, Known)), None)
