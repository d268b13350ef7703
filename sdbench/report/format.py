"""Words for values: the page's rounding, in one place. Conversion itself is in ``sdbench.units``."""

import re
from collections.abc import Iterable, Sequence

from sdbench.compare.policy import Judgement
from sdbench.compare.wording import format_change, format_interval, name_verdict
from sdbench.report.grouping import group_by
from sdbench.report.model import Cell, Column, Table, Tone
from sdbench.schema.base import Known, Unknown
from sdbench.stats.intervals import LAUNCHES_FOR_INTERVAL, Estimate
from sdbench.units import format_bytes, format_count, format_duration, round_significant

Row = tuple[Cell | str | float | None, ...]
DIGITS = 4
NONE = "—"
_LISTED = 3
_HASH, _HASH_DIGITS = re.compile(r"\b[0-9a-f]{32,}\b"), 12
# Below it, leading zeros are hard to count.
_TINY = 1e-4
UNKNOWN = "unknown: "
# What a verdict on time, memory or energy feels like.
TONES: dict[str, Tone] = {"slower": "bad", "more": "bad", "faster": "good", "less": "good"}
_MARKS = {"slower": "▲", "more": "▲", "faster": "▼", "less": "▼", "same": "●", "inconclusive": "◆"}
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
    """Return a latency (s) with its interval: ``25.3 s [25.1, 25.6]``, or why there is none worth showing."""
    if estimate.low is None or estimate.high is None:
        return format_duration(estimate.value)
    if not estimate.is_useful:
        return f"{format_duration(estimate.value)} ({describe_useless_interval(estimate)})"
    return f"{format_duration(estimate.value)} [{format_duration(estimate.low)}, {format_duration(estimate.high)}]"


def describe_useless_interval(estimate: Estimate) -> str:
    """Return why an interval is not shown: ``2 launches: too few``."""
    count = format_count(estimate.launch_count, "launch")
    return f"{count}: too few" if estimate.launch_count < LAUNCHES_FOR_INTERVAL else f"{count}: too far apart"


def list_some(texts: Sequence[str]) -> str:
    """Return the first texts with commas, and how many more there are."""
    if len(texts) <= _LISTED + 1:
        return ", ".join(texts)
    return f"{', '.join(texts[:_LISTED])} and {len(texts) - _LISTED} more"


def shorten_hashes(text: str) -> str:
    """Return a text with the first 12 digits of each hash."""
    return _HASH.sub(lambda match: f"{match[0][:_HASH_DIGITS]}…", text)


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


def texts(*titles: str) -> tuple[Column, ...]:
    """Return columns of texts."""
    return tuple(Column(title=title) for title in titles)


def numbers(*titles: str) -> tuple[Column, ...]:
    """Return columns of numbers, which are aligned to the right."""
    return tuple(Column(title=title, numeric=True) for title in titles)


def make_table(caption: str, columns: Iterable[Column], rows: Iterable[Row], notes: Iterable[str] = ()) -> Table:
    """Return a table. Floats are rounded, and None is a dash."""
    made = tuple(tuple(map(_make_cell, row)) for row in rows)
    return Table(caption=caption, columns=tuple(columns), rows=made, notes=tuple(notes))


def _make_cell(value: Cell | str | float | None) -> Cell:
    if isinstance(value, Cell):
        return value
    return Cell(text=format_number(value) if value is None or isinstance(value, float) else str(value))


def limit_rows(table: Table, most: int, others: str) -> Table:
    """Return the first rows of a table, with a note that says where the others are."""
    if len(table.rows) <= most:
        return table
    note = f"The first {most} of {len(table.rows):,} rows; {others}."
    return table.model_copy(update={"rows": table.rows[:most], "notes": (*table.notes, note)})


def cell(text: str, tone: Tone) -> Cell:
    """Return a cell with a tone."""
    return Cell(text=text, tone=tone)


def verdict_cells(judgement: Judgement) -> Row:
    """Return a judgement's verdict, change and interval."""
    word = name_verdict(judgement)
    change = None if judgement.ratio is None else format_change(judgement.ratio)
    interval = None if judgement.low is None else format_interval(judgement)
    return cell(f"{_MARKS.get(word, '✗')} {word}", TONES.get(word, "plain")), change, interval


def reading_cell(name: str, reading: object) -> Cell:
    """Return a reading's cell; an unknown one is muted."""
    return Cell(text=format_reading(name, reading), tone="muted" if isinstance(reading, Unknown) else "plain")


def fold_unknown(table: Table) -> Table:
    """Return the table with the reasons of what is unknown in notes below it, where they widen no column.

    A column that is unknown throughout for one reason is left out, with a note.
    """
    unknown = _unknown_columns(table)
    notes = [
        f"{', '.join(table.columns[index].title for index in indexes)}: {reason}."
        for reason, indexes in group_by(unknown, unknown.__getitem__).items()
    ]
    kept = [index for index in range(len(table.columns)) if index not in unknown]
    rows = [tuple(row[index] for index in kept) for row in table.rows]
    reasons = list(dict.fromkeys(shown.text for row in rows for shown in row if shown.text.startswith(UNKNOWN)))
    notes += [f"[{number}] {reason}." for number, reason in enumerate(reasons, start=1)]
    numbered = {reason: f"unknown [{number}]" for number, reason in enumerate(reasons, start=1)}
    short = [
        tuple(cell(numbered[shown.text], shown.tone) if shown.text in numbered else shown for shown in row)
        for row in rows
    ]
    return make_table(table.caption, (table.columns[index] for index in kept), short, notes)


def _unknown_columns(table: Table) -> dict[int, str]:
    """The reason of each column in which everything is unknown for the same one."""
    reasons = {}
    for index, cells in enumerate(zip(*table.rows, strict=True)):
        texts = {shown.text for shown in cells} - {NONE}
        if len(texts) == 1 and (text := texts.pop()).startswith(UNKNOWN):
            reasons[index] = text
    return reasons
