"""Which values are independent: the level at which two sides differ decides what one unit of evidence is.

Sides that took turns in one session differ from block to block, and so a block is a unit. Sides measured in turns by
separate runs differ from launch to launch. All others differ from session to session: how much this machine varies
between sessions must be known, or nothing can be said about two of them (Kalibera & Jones 2013, section 2).
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from math import exp, log
from typing import Literal

from sdbench.schema.base import Known
from sdbench.schema.outcome import Launch, Succeeded, counted_launches
from sdbench.schema.record import Record, Result
from sdbench.stats.moments import mean, variance

Level = Literal["block", "launch", "session"]
# ABBA or BAAB: what drifts along a line falls on both sides alike.
TURNS_PER_BLOCK = 4
# Two runs that change over at least so often have been measured in turns.
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
        """The values alone."""
        return tuple(value for _, value in self.timed)

    @property
    def launches(self) -> tuple[Launch, ...]:
        """The launches alone."""
        return tuple(launch for launch, _ in self.timed)

    @property
    def mean_log(self) -> float:
        """The mean of the launches' logs."""
        return mean(log(value) for value in self.values)


def sample(record: Record, result: Result, read: ReadLaunch) -> Sampled:
    """Return the values that ``read`` finds in the counted launches of a result."""
    launches = counted_launches(result.outcome.launches) if isinstance(result.outcome, Succeeded) else ()
    return Sampled(record, time_launches(launches, read))


def time_launches(launches: Sequence[Launch], read: ReadLaunch) -> tuple[Timed, ...]:
    """Return the launches in which ``read`` finds a positive value, with it."""
    found = ((launch, read(launch)) for launch in launches)
    return tuple((launch, value) for launch, value in found if value is not None and value > 0)


def find_level(baseline: Sequence[Sampled], candidate: Sequence[Sampled]) -> Level:
    """Return at which level two sides differ."""
    if len(baseline) == len(candidate):
        pairs = list(zip(baseline, candidate, strict=True))
        if all(share_session(first.record, second.record) for first, second in pairs):
            return "block"
        if len(pairs) == 1 and _took_turns(*pairs[0]):
            return "launch"
    return "session"


def share_session(first: Record, second: Record) -> bool:
    """Return whether two records are the two sides of one session of ``ab``."""
    if first.session is None or second.session is None:
        return False
    return first.session.session_id == second.session.session_id and first.session.side != second.session.side


def _took_turns(first: Sampled, second: Sampled) -> bool:
    """Whether launches of two runs alternate in time on one device of one machine within one boot."""
    places = [_place_of(item.record) for item in (first, second)]
    if None in places or places[0] != places[1]:
        return False
    sides = first.launches, second.launches
    order = sorted((launch.started_utc, index) for index, side in enumerate(sides) for launch in side)
    changes = sum(1 for _ in groupby(side for _, side in order)) - 1
    return changes >= max(_CHANGES_MIN, min(map(len, sides)) - 1)


def _place_of(record: Record) -> tuple[str, ...] | None:
    """The machine, its device and its boot; None where the boot is not known."""
    boot = record.fingerprint.state.boot_hmac
    if not isinstance(boot, Known):
        return None
    return record.origin, record.fingerprint.hardware_sha256, record.device, boot.value


def pair_blocks(baseline: Sequence[Timed], candidate: Sequence[Timed]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return for each complete block the geometric mean of each side's launches, in the same order.

    A block is complete when each side has both its launches: one that was throttled is missing.
    """
    sides = [_by_block(side) for side in (baseline, candidate)]
    both = TURNS_PER_BLOCK // 2
    complete = sorted(block for block in sides[0] if all(len(side.get(block, ())) == both for side in sides))
    first, second = (tuple(exp(mean(map(log, side[block]))) for block in complete) for side in sides)
    return first, second


def _by_block(side: Sequence[Timed]) -> dict[int, list[float]]:
    blocks: dict[int, list[float]] = {}
    for launch, value in side:
        if launch.turn is not None:
            blocks.setdefault(launch.turn // TURNS_PER_BLOCK, []).append(value)
    return blocks


def session_values(side: Sequence[Sampled], *, by_boot: bool) -> tuple[float, ...]:
    """Return one geometric mean per session: per run, or where drivers differ per boot, whose runs are one session."""
    sessions: dict[str, list[float]] = {}
    for item in side:
        if item.values:
            sessions.setdefault(session_key(item.record, by_boot=by_boot), []).append(item.mean_log)
    return tuple(exp(mean(logs)) for logs in sessions.values())


def session_key(record: Record, *, by_boot: bool) -> str:
    """Return what tells sessions apart: the boot where it counts and is known, else ``ab``'s session, or the run."""
    boot = record.fingerprint.state.boot_hmac
    if by_boot and isinstance(boot, Known) and record.origin != "virtual":
        return boot.value
    return record.session.session_id if record.session else record.run_id


@dataclass(frozen=True)
class SessionVariance:
    """The variance of a session's mean log, and from how many degrees of freedom it is known."""

    variance: float
    degrees_of_freedom: int


def learn_session_variance(groups: Iterable[Iterable[Sequence[float]]]) -> SessionVariance | None:
    """Return the pooled variance of session means; None where nothing was repeated.

    What happens to a session happens to all its experiments, so that many experiments measure one variance better but
    do not make it many: a group counts as many degrees of freedom as its most repeated experiment.

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
    return SessionVariance(squares / terms, freedom) if freedom else None


def treatment_of(record: Record) -> str:
    """Return what a side of ``ab`` set, or which devices ran beside: such sides are repetitions of their like only."""
    if record.device_group is not None and record.device_group.at_once:
        return f"beside {', '.join(name for name in record.device_group.devices if name != record.device)}"
    if record.session is None:
        return ""
    settings = record.session.settings
    # What is not known is like nothing else.
    return " ".join(settings.value) if isinstance(settings, Known) else f"not known ({record.run_id})"


def share_devices(first: Record, second: Record) -> bool:
    """Return whether two records are of one device, alone and beside others, of one ``--device cuda:all``."""
    groups = first.device_group, second.device_group
    return groups[0] is not None and groups[1] is not None and groups[0].group_id == groups[1].group_id


def group_repeated(records: Sequence[Record]) -> Mapping[tuple[str, ...], tuple[Record, ...]]:
    """Return the records by what must be alike for them to be repetitions: origin, machine, set-up and software."""
    groups: dict[tuple[str, ...], tuple[Record, ...]] = {}
    for record in records:
        fingerprint = record.fingerprint
        key = (
            record.origin,
            record.device,
            fingerprint.hardware_sha256,
            fingerprint.configuration_sha256,
            fingerprint.software_sha256,
            treatment_of(record),
        )
        groups[key] = (*groups.get(key, ()), record)
    return groups
