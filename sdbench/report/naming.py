"""The names that machines have on a page."""

import re
from collections.abc import Callable, Sequence
from functools import partial

from sdbench.compare.versions import version_of
from sdbench.errors import UserError
from sdbench.report.escape import clean
from sdbench.report.grouping import group_by
from sdbench.schema.base import Known
from sdbench.schema.record import Record

_BOILERPLATE = re.compile(r"\((?:R|TM)\)")
# What a device's name says more than a row of a chart needs.
_MAKERS = re.compile(r"^(?:NVIDIA |Intel |Quadro )?(?:GeForce |Core )?| CPU(?= @|$)| @ [\d.]+GHz| \d+-Core Processor")
_REFERENCE = re.compile(r" \(reference, (\d+)\)$")


def shorten_device(name: str) -> str:
    """Return a device's name as a row of a chart needs it: ``RTX 3090`` of ``NVIDIA GeForce RTX 3090``."""
    plain = " ".join(_BOILERPLATE.sub(" ", clean(name)).split())
    return _REFERENCE.sub(r", \1", " ".join(_MAKERS.sub("", plain).split())) or plain


def name_machines(records: Sequence[Record]) -> tuple[str, ...]:
    """Return the devices' names; those of several runs of one device with what differs: version, arm or time.

    The arms of a single session are named by what they set, and nothing else: the device is the same.
    """
    if is_one_session(records):
        arms = [_name_arm(record) for record in records]
        if len(set(arms)) < len(arms):
            arms = [f"arm {record.session.arm.upper()}, {_name_arm(record)}" for record in records if record.session]
        return tuple(arms)
    names = [_name_machine(record) for record in records]
    for name, places in group_by(range(len(names)), names.__getitem__).items():
        if len(places) > 1:
            distinctions = _distinguish([records[place] for place in places])
            for place, distinction in zip(places, distinctions, strict=True):
                names[place] = f"{name}, {clean(distinction)}"
    return tuple(names)


def is_one_session(records: Sequence[Record]) -> bool:
    """Return whether records are the arms of one session of ``ab``, each once."""
    sessions = [record.session for record in records if record.session is not None]
    is_one = len(sessions) == len(records) and len({session.session_id for session in sessions}) == 1
    return is_one and len({session.arm for session in sessions}) == len(records) > 1


def name_device(record: Record) -> str:
    """Return the device's name without trademark signs, and its origin unless measured."""
    name = " ".join(_BOILERPLATE.sub(" ", clean(record.device_name)).split()) or "device without a name"
    if record.origin == "virtual":
        name += " (virtual)"
    if record.origin == "imported":
        source = record.manifest.source
        name += f" (reference, {source.year})" if source and source.year else " (reference)"
    return name


def _name_arm(record: Record) -> str:
    """What an arm set, for example ``attention=eager``; its letter where that was not published."""
    if record.session is None:
        return ""
    settings = record.session.settings
    words = ", ".join(settings.value) if isinstance(settings, Known) else ""
    return clean(words) or f"arm {record.session.arm}"


def _name_machine(record: Record) -> str:
    return f"{name_device(record)}, {_name_arm(record)}" if record.session else name_device(record)


def _distinguish(group: Sequence[Record]) -> list[str]:
    """The first thing that is known of all runs of a group and differs between each two of them."""
    for distinction in _DISTINCTIONS:
        words = [word for record in group if (word := distinction(record)) is not None]
        if len(set(words)) == len(group):
            return words
    return [f"{record.created_utc}, {record.run_id[-6:]}" for record in group]


def _name_version(record: Record, field: str) -> str | None:
    try:
        version = version_of(record, field)
    # Not every machine has the field.
    except UserError:
        return None
    return None if version is None else f"{field} {version}"


# What distinguishes two runs of one device, the most useful first.
_DISTINCTIONS: tuple[Callable[[Record], str | None], ...] = (
    partial(_name_version, field="driver"),
    partial(_name_version, field="torch"),
    lambda record: record.created_utc[:10],
    lambda record: record.created_utc[11:],
    lambda record: record.created_utc,
)
