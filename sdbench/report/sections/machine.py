"""The fingerprint: four parts, three with their hashes, and everything unreadable as unknown with its reason."""

from collections.abc import Iterator
from typing import Any

from sdbench.report.model import Cell, Section, Table
from sdbench.report.points import Source
from sdbench.report.text import cell, make_table, name_field, reading_cell
from sdbench.schema.base import Known, Model, Unknown
from sdbench.schema.fingerprint import EnvironmentVariable, Fingerprint, Package

TITLE = "Which machine was it?"
_PARTS = {
    "hardware": "Hardware: what the machine is",
    "configuration": "Configuration: how it is set up",
    "software": "Software: what ran",
    "state": "State before the run: never hashed",
}
_HASH_DIGITS = 16


def build(source: Source) -> Section:
    """Return one table per part of the fingerprint, a column per record."""
    sentence = (
        "Machines are compared part by part, never by one hash. What could not be read is unknown, with the reason: "
        "it equals nothing, not even another unknown."
    )
    tables = tuple(_part_table(source, part) for part in _PARTS)
    return Section(name="machine", title=TITLE, template="machine.html.j2", paragraphs=(sentence,), tables=tables)


def _part_table(source: Source, part: str) -> Table:
    prints = [machine.record.fingerprint for machine in source.machines]
    columns = [dict(_flatten(getattr(fingerprint, part))) for fingerprint in prints]
    names = list(dict.fromkeys(name for column in columns for name in column))
    rows = [_row(name, [column.get(name) for column in columns]) for name in names]
    if part != "state":
        rows.insert(
            0, ("sha256 of this part", *(_short_hash(fingerprint, part) for fingerprint in prints), *_spare(source))
        )
    titles = "|".join(
        ["Field", *(name.replace("|", "/") for name in source.machine_names), *(["Same?"] if source.several else [])]
    )
    return make_table(_PARTS[part], titles, rows)


def _short_hash(fingerprint: Fingerprint, part: str) -> str:
    return str(getattr(fingerprint, f"{part}_sha256"))[:_HASH_DIGITS] + "…"


def _spare(source: Source) -> tuple[str, ...]:
    return ("",) if source.several else ()


def _row(name: str, readings: list[Any]) -> tuple[Cell | str, ...]:
    cells = [cell("not there", "muted") if reading is None else reading_cell(name, reading) for reading in readings]
    verdict = (_verdict(readings),) if len(readings) > 1 else ()
    return (name_field(name), *cells, *verdict)


def _verdict(readings: list[Any]) -> Cell:
    if any(isinstance(reading, Unknown) for reading in readings):
        return cell("unknown", "muted")
    return cell("same", "plain") if all(reading == readings[0] for reading in readings) else cell("differs", "bad")


def _flatten(part: Model, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the fields with their readings; GPUs, packages and environment variables get a row each."""
    for name in type(part).model_fields:
        reading = getattr(part, name)
        items = reading.value if isinstance(reading, Known) else reading
        if isinstance(items, tuple) and any(isinstance(item, Model) for item in items):
            for index, item in enumerate(items):
                yield from _flatten_item(item, f"{prefix}{name.removesuffix('s')} {index} ")
        elif name != "index":
            yield prefix + name, reading


def _flatten_item(item: Model, prefix: str) -> Iterator[tuple[str, Any]]:
    match item:
        case Package():
            yield f"package {item.name}", item.version
        case EnvironmentVariable():
            yield f"environment {item.name}", item.value
        case _:
            yield from _flatten(item, prefix)
