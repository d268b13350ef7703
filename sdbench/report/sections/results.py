"""Every experiment in one table, measured or not."""

from sdbench.report.format import Row, cell, fold_unknown, limit_rows, reading_cell
from sdbench.report.model import Cell, Column, DataColumn, ResultsSection, Section, Table, Tone
from sdbench.report.sections.energy import IMAGE_COUNT, cost_of_images, format_cost
from sdbench.report.series import Measured, Point, Source
from sdbench.schema.base import Known
from sdbench.schema.metrics import MemoryRange, result_energy_j, result_memory
from sdbench.units import format_bytes, round_significant

TITLE = "All results"
ROWS_WITHOUT_SCRIPT = 200
_COLUMNS = (
    Column(title="Status", key="status"),
    Column(title="latency, s", key="latency_s", numeric=True),
    Column(title="low", key="latency_low_s", numeric=True),
    Column(title="high", key="latency_high_s", numeric=True),
    Column(title="launches", key="counted_launches", numeric=True),
    Column(title="samples", key="samples", numeric=True),
    Column(title="images/min", key="images_per_min", numeric=True),
    Column(title="memory", key="memory_bytes", numeric=True),
    Column(title="which memory", key="memory_source"),
    Column(title="energy per image", key="energy_per_image_j", numeric=True),
)
_COST_COLUMN = Column(title=f"cost of {IMAGE_COUNT:,} images", key="cost_of_1000_images", numeric=True)
_CAPTION = "Latency per call (s) with its interval; throughput, memory and energy. A dash: not measured"


def build(source: Source) -> Section:
    """Return one row per experiment and machine; with prices, what images cost."""
    columns = (*_COLUMNS, *([_COST_COLUMN] if source.prices else []))
    table = fold_unknown(source.table(_CAPTION, columns, ((point, _cells(source, point)) for point in source.points)))
    shown = limit_rows(table, ROWS_WITHOUT_SCRIPT, "scripts show the others")
    return ResultsSection(tables=(shown,), columns=_data(table))


def _data(table: Table) -> tuple[DataColumn, ...]:
    """The table by columns, each distinct cell once: most cells of a column are identical."""
    columns = []
    for place, column in enumerate(table.columns):
        values: dict[tuple[str, Tone, float | None], int] = {}
        index = tuple(
            values.setdefault((row[place].text, row[place].tone, row[place].sort), len(values)) for row in table.rows
        )
        columns.append(DataColumn(**dict(column), values=tuple(values), index=index))
    return tuple(columns)


def _cells(source: Source, point: Point) -> Row:
    """A number sorts as what it reads as; in its own digits it would be the largest part of a page."""
    if not isinstance(point, Measured):
        status = cell(point.status, "muted" if point.outcome.kind == "skipped" else "bad")
        return (status, *[None] * (len(_COLUMNS) - 1 + bool(source.prices)))
    memory, energy = result_memory(point.outcome), result_energy_j(point.outcome)
    cost = cost_of_images(source, point)
    cost_cell = _cell(cost.amount.value, format_cost(cost)) if cost else None
    return (
        cell(point.status, "muted") if point.is_reference else cell("ok", "good"),
        *point.interval,
        *((None, None) if point.is_reference else (_launches(point), _cell(point.estimate.sample_count))),
        point.images_per_min.value,
        *(
            (_cell(memory.median_bytes, format_bytes(memory.median_bytes)), memory.source_title)
            if isinstance(memory, MemoryRange)
            else (reading_cell("memory", memory), None)
        ),
        _cell(energy.value, f"{round_significant(energy.value, 3)} J")
        if isinstance(energy, Known)
        else reading_cell("energy", energy),
        *([cost_cell] if source.prices else []),
    )


def _launches(point: Point) -> Cell:
    count = len(point.counted)
    left_out = len(point.launches) - count
    return _cell(count, f"{count} (+{left_out} not counted)" if left_out else str(count))


def _cell(value: float, text: str | None = None) -> Cell:
    return Cell(text=str(value) if text is None else text, sort=value)
