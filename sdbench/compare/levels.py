"""Which values are independent: the level at which baseline and candidate differ decides what one unit of evidence is.

Arms that were interleaved in one session differ from block to block, so a block is a unit. Separate runs whose launches
alternate differ from launch to launch. All others differ from session to session: how much this machine varies
between sessions must be known before two of them can be compared (Kalibera & Jones 2013, section 2).
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby
from math import exp, log
from statistics import fmean
from typing import Literal

from sdbench.schema.base import Known
from sdbench.schema.metrics import launches_that_count
from sdbench.schema.outcome import Launch, launches_of
from sdbench.schema.record import Record, Result
from sdbench.stats.moments import variance

Level = Literal["block", "launch", "session"]
LEVEL_PLURALS: dict[Level, str] = {"block": "blocks", "launch": "launches", "session": "sessions"}
# ABBA or BAAB: linear drift affects both arms equally.
LAUNCHES_PER_BLOCK = 4
# Two runs that alternate at least so often were measured interleaved.
_CHANGES_MIN = 5

ReadLaunch = Callable[[Launch], float | None]
Timed = tuple[Launch, float]


@dataclass(frozen=True)
class Sampled:
    """One experiment of one record: its counted launches, each with a positive value."""

    record: Record
    timed: tuple[Timed, ...]

    @property
    def values(self) -> tuple[float, ...]:
        """The value of each launch."""
        return tuple(value for _, value in self.timed)

    @property
    def launches(self) -> tuple[Launch, ...]:
        """The launches, without their values."""
        return tuple(launch for launch, _ in self.timed)


def sample(record: Record, result: Result, read: ReadLaunch) -> Sampled:
    """Return the values that ``read`` returns for the counted launches of a result."""
    return Sampled(record, time_launches(launches_that_count(result.outcome), read))


def time_launches(launches: Sequence[Launch], read: ReadLaunch) -> tuple[Timed, ...]:
    """Return the launches for which ``read`` returns a positive value, with the value."""
    readings = ((launch, read(launch)) for launch in launches)
    return tuple((launch, value) for launch, value in readings if value is not None and value > 0)


def template_share_s(records: Iterable[Record]) -> float:
    """Return how long (s) the start of templates took per launch; it is in the wall time of none."""
    launches = [launch for record in records for result in record.results for launch in launches_of(result.outcome)]
    starts_s = {launch.template_id: launch.import_s for launch in launches if launch.template_id is not None}
    return sum(starts_s.values()) / max(1, len(launches))


def find_level(baseline: Sequence[Sampled], candidate: Sequence[Sampled]) -> Level:
    """Return the level at which baseline and candidate differ."""
    if len(baseline) == len(candidate):
        pairs = list(zip(baseline, candidate, strict=True))
        if all(share_session(first.record, second.record) for first, second in pairs):
            return "block"
        if len(pairs) == 1 and _are_interleaved(*pairs[0]):
            return "launch"
    return "session"


def share_session(first: Record, second: Record) -> bool:
    """Return whether two records are the two arms of one session of ``ab``."""
    a, b = first.session, second.session
    return a is not None and b is not None and a.session_id == b.session_id and a.arm != b.arm


def _are_interleaved(first: Sampled, second: Sampled) -> bool:
    """Whether launches of two runs alternate in time on one device of one machine within one boot."""
    boot, other_boot = (item.record.fingerprint.state.boot_hmac for item in (first, second))
    on_one_device = first.record.machine_key == second.record.machine_key
    if not on_one_device or not isinstance(boot, Known) or boot != other_boot:
        return False
    both = first.launches, second.launches
    order = sorted((launch.started_utc, run) for run, launches in enumerate(both) for launch in launches)
    changes = sum(1 for _ in groupby(run for _, run in order)) - 1
    return changes >= max(_CHANGES_MIN, min(map(len, both)) - 1)


def pair_blocks(baseline: Sequence[Timed], candidate: Sequence[Timed]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return for each complete block the geometric mean of each arm's launches, in the same order.

    A block is complete when each arm has both its launches: one that was throttled is missing.
    """
    arms: tuple[dict[int, list[float]], dict[int, list[float]]] = ({}, {})
    for blocks, timed in zip(arms, (baseline, candidate), strict=True):
        for launch, value in timed:
            if launch.position is not None:
                blocks.setdefault(launch.position // LAUNCHES_PER_BLOCK, []).append(log(value))
    both = LAUNCHES_PER_BLOCK // 2
    complete = sorted(block for block in arms[0] if all(len(blocks.get(block, ())) == both for blocks in arms))
    first, second = (tuple(exp(fmean(blocks[block])) for block in complete) for blocks in arms)
    return first, second


def session_values(sampled: Sequence[Sampled], *, by_boot: bool) -> tuple[float, ...]:
    """Return one geometric mean per session: per run, or where drivers differ per boot, whose runs are one session."""
    sessions: dict[str, list[float]] = {}
    for item in sampled:
        if item.values:
            sessions.setdefault(session_key(item.record, by_boot=by_boot), []).append(fmean(map(log, item.values)))
    return tuple(exp(fmean(logs)) for logs in sessions.values())


def session_key(record: Record, *, by_boot: bool) -> str:
    """Return what identifies a session: the boot where it counts and is known, else ``ab``'s session, or the run."""
    boot = record.fingerprint.state.boot_hmac
    if by_boot and isinstance(boot, Known) and record.origin != "virtual":
        return boot.value
    return record.session.session_id if record.session else record.run_id


def learn_session_variance(groups: Iterable[Iterable[Sequence[float]]]) -> tuple[float, int] | None:
    """Return the pooled variance of the logs of session means, and its degrees of freedom; None without repetitions.

    The experiments of a session share its conditions, so many experiments estimate one variance better but are not
    independent: a group counts as many degrees of freedom as its most repeated experiment.

    Args:
        groups: per group of sessions that differ in nothing but when they ran, for each experiment a positive value
            per session.
    """
    squares, terms, freedom = 0.0, 0, 0
    for group in groups:
        repeated = [[log(value) for value in values] for values in group if len(values) > 1]
        squares += sum(variance(logs) * (len(logs) - 1) for logs in repeated)
        terms += sum(len(logs) - 1 for logs in repeated)
        freedom += max((len(logs) - 1 for logs in repeated), default=0)
    return (squares / terms, freedom) if freedom else None


def treatment_of(record: Record) -> str:
    """Return what an arm of ``ab`` set, or which devices ran next to it: only equal treatments are repetitions."""
    if record.device_group is not None and record.device_group.at_once:
        return f"next to {', '.join(name for name in record.device_group.devices if name != record.device)}"
    if record.session is None:
        return ""
    settings = record.session.settings
    # An unknown treatment equals no other.
    return " ".join(settings.value) if isinstance(settings, Known) else f"not known ({record.run_id})"


def share_devices(first: Record, second: Record) -> bool:
    """Return whether two records are of one device, alone and next to others, of one ``--device cuda:all``."""
    a, b = first.device_group, second.device_group
    return a is not None and b is not None and a.group_id == b.group_id


def group_repeated(records: Iterable[Record]) -> list[list[Record]]:
    """Return the records that repeat each other: of one origin, machine, configuration, software and treatment."""
    groups: dict[tuple[str, ...], list[Record]] = {}
    for record in records:
        hashes = record.fingerprint.configuration_sha256, record.fingerprint.software_sha256
        groups.setdefault((*record.machine_key, *hashes, treatment_of(record)), []).append(record)
    return [group for group in groups.values() if len(group) > 1]
