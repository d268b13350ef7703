"""What a run of quick.yaml gives in its first minutes: launches, intervals, and how fast full-size networks load."""

from collections.abc import Iterable
from datetime import datetime
from pathlib import Path
from statistics import median

from sdbench.compare.quality import timed_calls_s
from sdbench.schema.outcome import launches_of
from sdbench.schema.record import Result
from sdbench.stats.intervals import estimate_latency
from sdbench.store.bundle import load_record
from tests.benchmarks.bars import Bar, at_most
from tests.benchmarks.share import ARCHITECTURE

TIME_LIMIT_S = 300.0
SMALL_LAUNCHES, FULL_SIZE_LAUNCHES = 8, 2
HALF_WIDTH_LIMIT = 0.05
LOAD_LIMIT_S = 1.0


def read_first_minutes(record_path: Path) -> list[Bar]:
    """Return the bars of ``make bench`` on a record of quick.yaml: its time, launches, intervals and load times."""
    record = load_record(record_path)
    started, ended = (datetime.fromisoformat(text) for text in (record.created_utc, record.ended_utc))
    measured = [result for result in record.results if timed_calls_s(result.outcome)]
    full_size = [result for result in measured if result.planned.experiment.pipeline == ARCHITECTURE]
    small = [result for result in measured if result not in full_size]
    widths = [
        estimate_latency(timed_calls_s(result.outcome), result.planned.protocol.confidence).relative_half_width or 1.0
        for result in small
    ]
    loads_s = [launch.load_s for result in full_size for launch in launches_of(result.outcome)]
    return [
        at_most("make bench, without installing", (ended - started).total_seconds(), TIME_LIMIT_S, "s"),
        _at_least("make bench: launches of a small point", _count_launches(small), SMALL_LAUNCHES),
        _at_least("make bench: launches of a full-size point", _count_launches(full_size), FULL_SIZE_LAUNCHES),
        at_most("make bench: median half-width of the small points", 100 * median(widths), 100 * HALF_WIDTH_LIMIT, "%"),
        at_most("make bench: slowest load of SD v1.4", max(loads_s), LOAD_LIMIT_S, "s"),
    ]


def _count_launches(results: Iterable[Result]) -> int:
    return min(len(launches_of(result.outcome)) for result in results)


def _at_least(name: str, count: int, limit: int) -> Bar:
    return Bar(name, str(count), f"at least {limit}", count >= limit)
