"""Words for values: the page's rounding, in one place. Conversion itself is in ``sdbench.units``."""

import re
from collections.abc import Iterable, Sequence

from sdbench.report.model import Cell, Column, Table, Tone
from sdbench.schema.base import Known, Unknown
from sdbench.stats.intervals import Estimate
from sdbench.units import format_bytes, format_duration, round_significant

DIGITS = 4
NONE = "—"
_LISTED = 3
_HASH, _HASH_DIGITS = re.compile(r"\b[0-9a-f]{32,}\b"), 12
# Below it, leading zeros are hard to count.
_TINY = 1e-4
UNKNOWN = "unknown: "
# What a verdict on time, memory or energy feels like.
TONES: dict[str, Tone] = {"slower": "bad", "more": "bad", "faster": "good", "less": "good"}
# Packages and environment variables keep their names as they are.
NAMED_BY_OTHERS = ("package ", "environment ")
_UNIT_BY_SUFFIX = {"_w": "W", "_mhz": "MHz", "_khz": "kHz", "_c": "°C", "_s": "s"}


def format_number(value: float | None) -> str:
    """Return a number with four significant digits, a tiny one with an exponent, or a dash."""
    if value is None:
        return NONE
    if 0 < abs(value) < _TINY:
        return f"{value:.{DIGITS - 1}e}"
    return round_significant(value, DIGITS) if value else "0"


def format_percent(ratio: float) -> str:
    """Return a ratio in percent: ``1.2 %``."""
    return f"{round_significant(100.0 * ratio, 2)} %"


def format_estimate(estimate: Estimate) -> str:
    """Return a latency (s) with its interval: ``25.3 s [25.1, 25.6]``."""
    if estimate.low is None or estimate.high is None:
        return format_duration(estimate.value)
    if not estimate.is_telling:
        return f"{format_duration(estimate.value)} [{format_count(estimate.launch_count, 'launch')}: too few]"
    return f"{format_duration(estimate.value)} [{format_duration(estimate.low)}, {format_duration(estimate.high)}]"


def format_count(count: int, noun: str) -> str:
    """Return ``1 launch``, ``3 launches``, ``2 samples``."""
    plural = noun + ("es" if noun.endswith(("ch", "s")) else "s")
    return f"{count:,} {noun if count == 1 else plural}"


def list_some(texts: Sequence[str]) -> str:
    """Return the first texts with commas, and how many more there are."""
    if len(texts) <= _LISTED + 1:
        return ", ".join(texts)
    return f"{', '.join(texts[:_LISTED])} and {len(texts) - _LISTED} more"


def shorten_hashes(text: str) -> str:
    """Return a text with the first 12 digits of each hash."""
    return _HASH.sub(lambda found: f"{found[0][:_HASH_DIGITS]}…", text)


def format_reading(name: str, reading: object) -> str:
    """Return a reading in the unit that its field's name ends with, or ``unknown: reason``."""
    if isinstance(reading, Unknown):
        return f"{UNKNOWN}{reading.reason}"
    value = reading.value if isinstance(reading, Known) else reading
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, tuple):
        return ", ".join(str(item) for item in value) or "none"
    if name.endswith("_bytes") and isinstance(value, int | float):
        return format_bytes(value) if value else "0 B"
    if isinstance(value, float):
        value = round_significant(value, DIGITS)
    unit = next((unit for suffix, unit in _UNIT_BY_SUFFIX.items() if name.endswith(suffix)), "")
    return f"{value} {unit}".strip()


def name_field(name: str) -> str:
    """Return a field's name as words, without its unit: ``memory_total_bytes`` is ``memory total``."""
    if name.startswith(NAMED_BY_OTHERS):
        return name
    for suffix in ("_bytes", *_UNIT_BY_SUFFIX):
        name = name.removesuffix(suffix)
    return name.replace("_", " ")


def make_table(caption: str, columns: str, rows: Iterable[Iterable[Cell | str]]) -> Table:
    """Return a table. ``columns`` are titles separated by ``|``; a title that starts with ``#`` holds numbers."""
    titles = tuple(title.strip() for title in columns.split("|"))
    return Table(
        caption=caption,
        columns=tuple(Column(title=title.removeprefix("#"), numeric=title.startswith("#")) for title in titles),
        rows=tuple(tuple(cell if isinstance(cell, Cell) else Cell(text=cell) for cell in row) for row in rows),
    )


def cell(text: str, tone: Tone) -> Cell:
    """Return a cell with a tone."""
    return Cell(text=text, tone=tone)


def reading_cell(name: str, reading: object) -> Cell:
    """Return a reading's cell; an unknown one is muted."""
    return Cell(text=format_reading(name, reading), tone="muted" if isinstance(reading, Unknown) else "plain")


def fold_unknown(table: Table) -> Table:
    """Return the table with the reasons of what is unknown in notes below it, where they widen no column.

    A column that is unknown throughout for one reason is left out, and its note says so.
    """
    folded = _without_columns(table, _unknown_columns(table))
    reasons = list(dict.fromkeys(c.text for row in folded.rows for c in row if c.text.startswith(UNKNOWN)))
    rows = tuple(tuple(_numbered(c, reasons) for c in row) for row in folded.rows)
    notes = tuple(f"[{number}] {reason}." for number, reason in enumerate(reasons, start=1))
    return Table(caption=table.caption, columns=folded.columns, rows=rows, notes=(*folded.notes, *notes))


def _numbered(shown: Cell, reasons: list[str]) -> Cell:
    if shown.text not in reasons:
        return shown
    return Cell(text=f"unknown [{reasons.index(shown.text) + 1}]", tone=shown.tone)


def _unknown_columns(table: Table) -> dict[int, str]:
    """The columns that say nothing but that they are unknown, with the reason."""
    found = {}
    for index, cells in enumerate(zip(*table.rows, strict=True)):
        texts = {shown.text for shown in cells} - {NONE}
        if len(texts) == 1 and (text := texts.pop()).startswith(UNKNOWN):
            found[index] = text
    return found


def _without_columns(table: Table, reasons: dict[int, str]) -> Table:
    titles: dict[str, list[str]] = {}
    for index, reason in reasons.items():
        titles.setdefault(reason, []).append(table.columns[index].title)
    kept = [index for index in range(len(table.columns)) if index not in reasons]
    return Table(
        caption=table.caption,
        columns=tuple(table.columns[index] for index in kept),
        rows=tuple(tuple(row[index] for index in kept) for row in table.rows),
        notes=tuple(f"{', '.join(names)}: {reason}." for reason, names in titles.items()),
    )
