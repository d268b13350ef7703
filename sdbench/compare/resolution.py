"""What a run can tell: the smallest change that `ab` would detect on this machine, from how much its launches vary.

It is promised for `ab` and not for two separate runs, which differ by the time of day as well: how much a machine
varies from session to session is not in one run.
"""

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from math import log, log1p
from pathlib import Path
from statistics import median

from sdbench.compare.levels import LAUNCHES_PER_BLOCK, time_launches
from sdbench.compare.policy import ALPHA, ALPHA_OF_ANY_CHANGE, BLOCKS_MAX, BLOCKS_MIN, LOOKS_REPEATED, MARGIN
from sdbench.errors import SdbenchError
from sdbench.plan.make_plan import Plan
from sdbench.probes.fingerprint import collect_fingerprint
from sdbench.schema.metrics import latency_s, launches_that_count
from sdbench.schema.record import Record, Result
from sdbench.stats.power import Looks, block_deviation, smallest_changes
from sdbench.store.bundle import find_runs, load_record
from sdbench.units import format_duration, round_significant

# The rule of `ab` for a single experiment.
LOOKS = Looks(
    first=BLOCKS_MIN,
    last=BLOCKS_MAX,
    edge=log1p(MARGIN),
    alpha=ALPHA,
    alpha_of_any_change=ALPHA_OF_ANY_CHANGE / LOOKS_REPEATED,
)
# An interval beyond a factor of 10 says nothing, and neither does such a change.
_USELESS_CHANGE = 9.0
# Of these the smallest that every experiment detects is named.
_TARGETS = (0.03, 0.05, 0.1, 0.2, 0.5)
# Reading a record takes a hundredth of a second; older runs say less of the machine as it is now.
_EARLIER_RUNS_MAX = 20
# In the name of a run folder.
_TIME = re.compile(r"\d{8}T\d{6}Z")


@dataclass(frozen=True)
class Resolution:
    """What `ab` would detect of one experiment with a power of 0.8.

    ``changes`` are the smallest changes (0.05 for 5 %), by the number of blocks from ``BLOCKS_MIN`` to ``BLOCKS_MAX``;
    a block takes about ``block_s``.
    """

    label: str
    changes: tuple[float, ...]
    block_s: float


def resolutions(record: Record) -> tuple[Resolution, ...]:
    """Return what `ab` would detect of each experiment with enough launches; none for an arm of `ab` itself."""
    if record.session is not None:
        return ()
    return tuple(item for result in record.results if (item := _resolve(result)) is not None)


def describe_smallest_change(record: Record) -> str | None:
    """Return the smallest change that `ab` would detect at most, by experiment: ``2.1 to 6 %``; None where unknown."""
    known = resolutions(record)
    return _range_of_changes([item.changes[-1] for item in known]) if known else None


def describe_resolution(record: Record, labels: Collection[str] | None = None) -> str | None:
    """Return one sentence on what `ab` would detect, of all experiments or those named; None where it is not known."""
    known = [item for item in resolutions(record) if labels is None or item.label in labels]
    if not known:
        return None
    each = "; by experiment, each measured alone" if len(known) > 1 else ""
    last = f"{_range_of_changes([item.changes[-1] for item in known])} in {BLOCKS_MAX}"
    if max(item.changes[0] for item in known) >= _USELESS_CHANGE:
        return (
            f"launches vary too much here: sdbench ab would detect a change of {last} blocks "
            f"({_range_of_times(known, BLOCKS_MAX)}), and no smaller one{each}"
        )
    first = _range_of_changes([item.changes[0] for item in known])
    parts = [f"{first} in {BLOCKS_MIN} blocks ({_range_of_times(known, BLOCKS_MIN)})"]
    for target in _TARGETS:
        blocks = max(_blocks_for(item, target) for item in known)
        if BLOCKS_MIN < blocks < BLOCKS_MAX:
            parts.append(f"{_describe_change(target)} in {blocks} ({_range_of_times(known, blocks)})")
            break
    parts.append(f"{last} ({_range_of_times(known, BLOCKS_MAX)})")
    return f"sdbench ab would detect a change of {', '.join(parts)}, in 8 of 10 tries{each}"


def _blocks_for(item: Resolution, change: float) -> int:
    """The blocks that detect a change; more than a session has where it would not."""
    return BLOCKS_MIN + sum(smallest > change for smallest in item.changes)


def describe_earlier_run(plan: Plan, results: Path) -> str | None:
    """Return what the newest run of this machine in a folder says of a plan's experiments; None where there is none."""
    labels = [item.label for item in plan.planned]
    machine: tuple[str, str, str] | None = None
    runs = find_runs(results) if results.is_dir() else ()
    for path in sorted(runs, key=_time_in_name, reverse=True)[:_EARLIER_RUNS_MAX]:
        try:
            record = load_record(path)
        except SdbenchError:
            continue
        if record.device != plan.device.torch_name or (text := describe_resolution(record, labels)) is None:
            continue
        machine = machine or ("measured", collect_fingerprint(plan.device).hardware_sha256, record.device)
        if record.machine_key == machine:
            return f"{text} (from {path.name})"
    return None


def _time_in_name(folder: Path) -> str:
    match = _TIME.search(folder.name)
    return match[0] if match else ""


def _resolve(result: Result) -> Resolution | None:
    timed = time_launches(launches_that_count(result.outcome), latency_s)
    estimate = block_deviation([log(value) for _, value in timed])
    if estimate is None:
        return None
    launches_s = LAUNCHES_PER_BLOCK * median(launch.wall_s for launch, _ in timed)
    # The launches of a block share a template.
    import_s = median(launch.import_s if launch.template_id else 0.0 for launch, _ in timed)
    return Resolution(result.planned.label, smallest_changes(*estimate, LOOKS), launches_s + import_s)


def _range_of_changes(changes: Sequence[float]) -> str:
    low, high = (_describe_change(change) for change in (min(changes), max(changes)))
    if low == high:
        return high
    return f"{low.removesuffix(' %') if high.endswith('%') else low} to {high}"


def _describe_change(change: float) -> str:
    return f"{round_significant(100 * change, 2)} %" if change < 1 else f"{round_significant(1 + change, 2)}x"


def _range_of_times(known: Sequence[Resolution], blocks: int) -> str:
    times_s = [blocks * item.block_s for item in known]
    low, high = (format_duration(time_s) for time_s in (min(times_s), max(times_s)))
    return high if low == high else f"{low} to {high}"
