"""Why results are less sure than they look: warnings and failed checks by cause, each once, with what to do."""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from math import ceil
from statistics import median
from typing import Literal, NamedTuple

from sdbench.compare.policy import UNITS_MIN
from sdbench.compare.quality import quality_checks_of, timed_calls_s
from sdbench.probes.clocks_and_load import BUSY_RATIO
from sdbench.probes.telemetry import MEMORY_PRESSURE_MAX_RATIO, STEAL_MAX_RATIO
from sdbench.schema.base import Known
from sdbench.schema.metrics import launches_that_count
from sdbench.schema.outcome import QualityCheckName, RecordWarning, Succeeded, launches_of
from sdbench.schema.record import Record, Result
from sdbench.schema.warning_codes import WarningCode
from sdbench.stats.intervals import LAUNCHES_FOR_INTERVAL

# "no": the numbers are of something else, or of a machine that did something else. "note" says nothing against them.
Weight = Literal["no", "care", "note"]
_WEIGHTS: tuple[Weight, ...] = ("no", "care", "note")
# Others that keep a fifth of the machine busy move a result by as much.
_BUSY_NO_RATIO = 0.2
_NUMBER = re.compile(r"\d+(?:\.\d+)?")


@dataclass(frozen=True)
class Cause:
    """One cause of warnings: what was seen, in how many of how many experiments, and what to do.

    ``summary`` is the cause in two or three words, for "No: the machine was busy"; ``counted`` is what ``count`` and
    ``total`` are of: experiments, or the results of several runs.
    """

    weight: Weight
    summary: str
    what: str
    count: int
    total: int
    hint: str
    counted: str = "experiments"

    @property
    def where(self) -> str:
        """The experiments in words: ``2 of 6 experiments``; empty for the only one, and for the run as a whole."""
        if self.count == 0 or self.total == 1:
            return ""
        if self.count < self.total:
            return f"{self.count} of {self.total} {self.counted}"
        return f"{'both' if self.total == 2 else f'all {self.total}'} {self.counted}"  # noqa: PLR2004 - both


class _Share(NamedTuple):
    """A share of time that the conditions of a launch hold, and from where it warns."""

    field: str
    limit: float
    no_limit: float
    summary: str
    what: str
    hint: str


class _Words(NamedTuple):
    """What is said of a check that failed."""

    weight: Weight
    summary: str
    what: str
    hint: str


_SHARES = (
    _Share(
        "others_cpu_ratio",
        BUSY_RATIO,
        _BUSY_NO_RATIO,
        "the machine was busy",
        "other programs used {} of the CPU (limit {})",
        WarningCode.OTHER_LOAD.hint,
    ),
    _Share(
        "steal_ratio",
        STEAL_MAX_RATIO,
        _BUSY_NO_RATIO,
        "the hypervisor took CPU time",
        "the hypervisor gave {} of the CPU time to others (limit {})",
        WarningCode.STEAL.hint,
    ),
    _Share(
        "memory_pressure_ratio",
        MEMORY_PRESSURE_MAX_RATIO,
        1.0,
        "memory was short",
        "processes waited for memory {} of the time (limit {})",
        WarningCode.MEMORY_PRESSURE.hint,
    ),
)
_CHECKS: dict[QualityCheckName, _Words] = {
    "finite": _Words(
        "no",
        "images are constant or not finite",
        "images are of one color, or have values that are not finite",
        WarningCode.NOT_FINITE.hint,
    ),
    "throttled": _Words("no", "the device was throttled", "every launch was throttled", WarningCode.GPU_THROTTLED.hint),
    "machine speed": _Words(
        "care",
        "the machine changed speed",
        "the reference operation was slower in some launches",
        "run again when the machine is idle, or compare settings with sdbench ab",
    ),
    "foreign GPU processes": _Words(
        "care", "others used the GPU", "another program used the GPU", WarningCode.FOREIGN_GPU_PROCESS.hint
    ),
    "clocks": _Words(
        "care", "the clock was not steady", "the device's clock was not steady", "let it cool, or fix its clocks"
    ),
    "warm-up": _Words(
        "care", "the warm-up was too short", "the first timed call was slower", "raise protocol.warmup_calls"
    ),
    "modes": _Words(
        "care",
        "launches form two groups",
        "launches or calls form two groups",
        "take more launches to see which is usual",
    ),
    "drift": _Words(
        "care",
        "latency drifted",
        "launches became slower or faster over the run",
        "let the machine settle and run again",
    ),
    "output": _Words(
        "note",
        "images differ",
        "launches with the same seed made different images",
        WarningCode.IMAGES_DIFFER.hint,
    ),
}
# Warnings about what the checks say better, with their numbers.
_SAID_BY_CHECKS = frozenset(
    {
        WarningCode.OTHER_LOAD,
        WarningCode.STEAL,
        WarningCode.MEMORY_PRESSURE,
        WarningCode.NOT_FINITE,
        WarningCode.IMAGES_DIFFER,
    }
)
# Warnings of numbers that are not those of the machine or the precision they are named after, or of one that changed.
_NOT_AS_IT_SEEMS = frozenset(
    {
        WarningCode.ALLOCATOR_RETRIES,
        WarningCode.COMPUTES_IN_FP32,
        WarningCode.HOST_PAGING,
        WarningCode.MACHINE_DRIFTED,
    }
)


def find_causes(records: Sequence[Record]) -> tuple[Cause, ...]:
    """Return the causes of warnings in records, the gravest first, then those that concern most experiments."""
    timed = [result for record in records for result in record.results if timed_calls_s(result.outcome)]
    causes = [*_request_causes(timed), *_share_causes(timed), *_check_causes(timed), *_launch_causes(timed)]
    causes += _warning_causes(records)
    if len(records) > 1:
        # Each run has its own result of an experiment.
        causes = [replace(cause, counted="results") for cause in causes]
    return tuple(sorted(causes, key=lambda cause: (_WEIGHTS.index(cause.weight), -cause.count)))


def merge_numbers(messages: Sequence[str]) -> str:
    """Return messages that differ only in their numbers as one with ranges, else the first: ``0.3 to 0.9 of 2``."""
    first = messages[0]
    if len({_NUMBER.sub("#", message) for message in messages}) > 1:
        return first
    columns = iter(list(zip(*(_NUMBER.findall(message) for message in messages), strict=True)))
    return _NUMBER.sub(lambda _: _range(next(columns)), first)


def _range(numbers: Iterable[str]) -> str:
    ordered = sorted(set(numbers), key=float)
    return ordered[0] if len(ordered) == 1 else f"{ordered[0]} to {ordered[-1]}"


def _request_causes(timed: Sequence[Result]) -> Iterator[Cause]:
    others = [
        result
        for result in timed
        if any(not check.passed for launch in launches_of(result.outcome) for check in launch.checks)
    ]
    if others:
        what = "what ran is not what was requested"
        yield Cause("no", what, what, len(others), len(timed), "see the checks, and fix the manifest or the versions")


def _share_causes(timed: Sequence[Result]) -> Iterator[Cause]:
    for share in _SHARES:
        ratios = [values for result in timed if (values := _read_launches(result, share.field))]
        above = [max(values) for values in ratios if max(values) > share.limit]
        if above:
            # A single busy launch of many does not decide a median.
            grave_count = sum(median(values) > share.no_limit for values in ratios)
            weight: Weight = "no" if 2 * grave_count > len(timed) else "care"
            # One above the limit must not be rounded down to it.
            span = _range(f"{ceil(round(100 * ratio, 6))}" for ratio in above)
            what = share.what.format(f"{span} %", f"{100 * share.limit:g} %")
            yield Cause(weight, share.summary, what, len(above), len(timed), share.hint)


def _read_launches(result: Result, field: str) -> list[float]:
    readings = (getattr(launch.conditions, field) for launch in launches_that_count(result.outcome))
    return [reading.value for reading in readings if isinstance(reading, Known)]


def _check_causes(timed: Sequence[Result]) -> Iterator[Cause]:
    warned = [{check.name for check in quality_checks_of(result) if check.verdict == "warned"} for result in timed]
    for name, words in _CHECKS.items():
        if count := sum(name in names for names in warned):
            yield Cause(words.weight, words.summary, words.what, count, len(timed), words.hint)


def _launch_causes(timed: Sequence[Result]) -> Iterator[Cause]:
    counts = [len(timed_calls_s(result.outcome)) for result in timed]
    few = sorted(count for count in counts if count < UNITS_MIN)
    if few:
        needed, purpose = UNITS_MIN, "to compare runs"
        if few[-1] < LAUNCHES_FOR_INTERVAL:
            needed, purpose = LAUNCHES_FOR_INTERVAL, "for an interval"
        what = f"{_range(map(str, few))} launch{'' if few[-1] == 1 else 'es'}, {needed} needed {purpose}"
        hint = "give it more time: --budget, or launches_min"
        yield Cause("care", f"too few launches {purpose}", what, len(few), len(timed), hint)


def _warning_causes(records: Sequence[Record]) -> Iterator[Cause]:
    """Warnings of runs, experiments and launches by their code, the numbers in them as ranges."""
    groups: dict[WarningCode, tuple[set[str], list[RecordWarning]]] = {}
    total = sum(len(record.results) for record in records if record.origin != "imported")
    for record in records:
        for where, warning in _warnings_of(record):
            if warning.code not in _SAID_BY_CHECKS:
                places, warnings = groups.setdefault(warning.code, (set(), []))
                places |= {where} if where else set()
                warnings.append(warning)
    for code, (places, warnings) in groups.items():
        what = merge_numbers([warning.message for warning in warnings])
        weight: Weight = "care" if code in _NOT_AS_IT_SEEMS else "note"
        yield Cause(weight, code.description, what, len(places), total, warnings[0].hint)


def _warnings_of(record: Record) -> Iterator[tuple[str, RecordWarning]]:
    """A record's warnings, each with the experiment it is of; that of the run with none."""
    yield from (("", warning) for warning in record.warnings)
    for result in record.results:
        outcome = result.outcome
        of_outcome = outcome.warnings if isinstance(outcome, Succeeded) else ()
        of_launches = (launch.warnings for launch in launches_of(outcome))
        place = f"{record.run_id} {result.planned.experiment_id}"
        yield from ((place, warning) for warning in chain(of_outcome, *of_launches))
