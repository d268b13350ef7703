"""The fingerprint: four parts, three with their hashes, and everything unreadable as unknown with its reason."""

from collections.abc import Iterator
from typing import Any

from sdbench.report.format import cell, make_table, name_field, reading_cell, texts
from sdbench.report.model import Cell, Section, Table
from sdbench.report.series import Source
from sdbench.schema.base import Known, Model, Unknown
from sdbench.schema.fingerprint import EnvironmentVariable, Package

TITLE = "Which machine was it?"
_PARTS = {
    "hardware": "Hardware: what the machine is",
    "configuration": "Configuration: how it is set up",
    "software": "Software: what ran",
    "state": "State before the run: never hashed",
}
_HASH_DIGITS = 16
_RULE = (
    "Machines are compared part by part, never by one hash. What could not be read is unknown, with the reason: "
    "it equals nothing, not even another unknown."
)


def build(source: Source) -> Section:
    """Return one table per part of the fingerprint, a column per record."""
    tables = tuple(_part_table(source, part) for part in _PARTS)
    return Section(template="machine.html.j2", paragraphs=(_RULE,), tables=tables)


def _part_table(source: Source, part: str) -> Table:
    columns = ["Field", *source.machine_names, *(["Same?"] if source.several else [])]
    prints = [machine.record.fingerprint for machine in source.machines]
    fields = [dict(_flatten(getattr(fingerprint, part))) for fingerprint in prints]
    names = dict.fromkeys(name for of_machine in fields for name in of_machine)
    rows = [_row(name, [of_machine.get(name) for of_machine in fields]) for name in names]
    if part != "state":
        hashes = [f"{getattr(fingerprint, f'{part}_sha256')[:_HASH_DIGITS]}…" for fingerprint in prints]
        rows.insert(0, ("sha256 of this part", *hashes, *([""] if source.several else [])))
    return make_table(_PARTS[part], texts(*columns), rows)


def _row(name: str, readings: list[Any]) -> tuple[Cell | str, ...]:
    cells = [cell("missing", "muted") if reading is None else reading_cell(name, reading) for reading in readings]
    if len(readings) == 1:
        return (name_field(name), *cells)
    if any(isinstance(reading, Unknown) for reading in readings):
        verdict = cell("unknown", "muted")
    else:
        is_same = all(reading == readings[0] for reading in readings)
        verdict = cell("same", "plain") if is_same else cell("differs", "bad")
    return (name_field(name), *cells, verdict)


def _flatten(part: Model, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the fields with their readings; GPUs, packages and environment variables get a row each."""
    match part:
        case Package():
            yield f"package {part.name}", part.version
            return
        case EnvironmentVariable():
            yield f"environment {part.name}", part.value
            return
    for name in type(part).model_fields:
        reading = getattr(part, name)
        items = reading.value if isinstance(reading, Known) else reading
        if isinstance(items, tuple) and any(isinstance(item, Model) for item in items):
            for index, item in enumerate(items):
                yield from _flatten(item, f"{prefix}{name.removesuffix('s')} {index} ")
        elif name not in ("index", "ceilings"):  # the roofline shows the ceilings
            yield prefix + name, reading
