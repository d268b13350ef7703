"""Every experiment in one table, measured or not."""

from sdbench.report.costs import IMAGE_COUNT, cost_of_images, format_cost
from sdbench.report.model import Cell, DataColumn, ResultsSection, Section, Table, Tone
from sdbench.report.points import Measured, Point, Source
from sdbench.report.resources import MemoryUse, energy_per_image, memory_title, memory_use
from sdbench.report.text import NONE, cell, fold_unknown, format_number, make_table, reading_cell
from sdbench.schema.base import Known, Unknown
from sdbench.units import format_bytes, round_significant

TITLE = "All results"
ROWS_WITHOUT_SCRIPT = 200
_COLUMNS = "Status|#latency, s|#low|#high|#launches|#samples|#images/min|#highest memory|which memory|#energy per image"
_COST_COLUMN = f"|#cost of {IMAGE_COUNT:,} images"
# Titles that are no names of a saved file's columns.
_KEYS = {
    "latency, s": "latency_s",
    "low": "latency_low_s",
    "high": "latency_high_s",
    "launches": "counted_launches",
    "images/min": "images_per_min",
    "highest memory": "memory_peak_bytes",
    "which memory": "memory_meaning",
    "energy per image": "energy_per_image_j",
}


def build(source: Source) -> Section:
    """Return one row per experiment and machine; with prices, what images cost."""
    rows = [(*source.row_names(point), *_cells(point), *_cost(source, point)) for point in source.points]
    columns = f"{source.row_columns}|{_COLUMNS}" + (_COST_COLUMN if source.prices else "")
    caption = "Latency per call (s) with its interval; throughput, memory and energy. A dash: not measured"
    table = fold_unknown(make_table(caption, columns, rows))
    notes = table.notes
    if len(table.rows) > ROWS_WITHOUT_SCRIPT:
        notes = (*notes, f"The first {ROWS_WITHOUT_SCRIPT} of {len(table.rows):,} rows; scripts show the others.")
    shown = Table(caption=table.caption, columns=table.columns, rows=table.rows[:ROWS_WITHOUT_SCRIPT], notes=notes)
    return ResultsSection(name="results", title=TITLE, tables=(shown,), columns=_data(table))


def _data(table: Table) -> tuple[DataColumn, ...]:
    """The table by columns, each distinct cell once: most cells of a column are alike."""
    columns = []
    for place, column in enumerate(table.columns):
        values: dict[tuple[str, Tone, float | None], int] = {}
        index = [
            values.setdefault((row[place].text, row[place].tone, row[place].sort), len(values)) for row in table.rows
        ]
        key = _KEYS.get(column.title) or column.title.lower().replace(",", "").replace(" ", "_")
        found = DataColumn(
            title=column.title, key=key, numeric=column.numeric, values=tuple(values), index=tuple(index)
        )
        columns.append(found)
    return tuple(columns)


def _number(value: float | None) -> Cell:
    """A number sorts as what it reads as; in its own digits it would be the largest part of a page."""
    return Cell(text=format_number(value))


def _cells(point: Point) -> tuple[Cell | str, ...]:
    if point.estimate is None:
        return (
            cell(point.status, "muted" if point.outcome.kind == "skipped" else "bad"),
            *[NONE] * 9,
        )
    measured = Measured(point, point.estimate)
    memory = memory_use(point)
    return (
        cell(point.status, "muted") if point.is_published else cell("ok", "good"),
        _number(point.estimate.value),
        _number(point.estimate.low),
        _number(point.estimate.high),
        _launches(point),
        NONE if point.is_published else Cell(text=str(point.estimate.sample_count), sort=point.estimate.sample_count),
        _number(measured.images_per_min),
        Cell(text=format_bytes(memory.high_bytes), sort=memory.high_bytes)
        if isinstance(memory, MemoryUse)
        else reading_cell("memory", memory),
        memory_title(point),
        _energy(point),
    )


def _cost(source: Source, point: Point) -> tuple[Cell | str, ...]:
    if not source.prices:
        return ()
    cost = cost_of_images(source, Measured(point, point.estimate)) if point.estimate else None
    return (Cell(text=format_cost(cost), sort=cost.value) if cost else NONE,)


def _launches(point: Point) -> Cell | str:
    if point.is_published:
        return NONE
    left_out = len(point.launches) - len(point.counted)
    text = f"{len(point.counted)} (+{left_out} not counted)" if left_out else str(len(point.counted))
    return Cell(text=text, sort=len(point.counted))


def _energy(point: Point) -> Cell:
    energy = energy_per_image(point)
    if isinstance(energy, Unknown):
        return cell(f"unknown: {energy.reason}", "muted")
    if not isinstance(energy, Known):
        return cell(NONE, "muted")
    return Cell(text=f"{round_significant(energy.value, 3)} J", sort=energy.value)
