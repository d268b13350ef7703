"""Every experiment in one table, measured or not."""

from sdbench.report.model import Cell, Section
from sdbench.report.points import Measured, Point, Source
from sdbench.report.resources import MEMORY_TITLES, MemoryUse, energy_per_image, memory_field, memory_use
from sdbench.report.text import NONE, cell, fold_unknown, format_number, make_table, reading_cell
from sdbench.schema.base import Known, Unknown
from sdbench.units import format_bytes, round_significant

TITLE = "All results"
_COLUMNS = "Status|#median latency, s|#low|#high|#launches|#samples|#images/min|#memory|which memory|#energy per image"


def build(source: Source) -> Section:
    """Return one row per experiment and machine."""
    rows = [(*source.row_names(point), *_cells(point)) for point in source.points]
    caption = "Latency per call (s) with its interval; throughput, memory and energy. A dash: not measured"
    table = fold_unknown(make_table(caption, f"{source.row_columns}|{_COLUMNS}", rows))
    return Section(name="results", title=TITLE, tables=(table,))


def _cells(point: Point) -> tuple[Cell | str, ...]:
    if point.estimate is None:
        return (
            cell(point.status, "muted" if point.outcome.kind == "skipped" else "bad"),
            *[NONE] * 9,
        )
    measured = Measured(point, point.estimate)
    memory = memory_use(point)
    return (
        cell("ok", "good"),
        format_number(point.estimate.value),
        format_number(point.estimate.low),
        format_number(point.estimate.high),
        _launches(point),
        str(point.estimate.sample_count),
        format_number(measured.images_per_min),
        format_bytes(memory.high_bytes) if isinstance(memory, MemoryUse) else reading_cell("memory", memory),
        MEMORY_TITLES[memory_field(point)],
        _energy(point),
    )


def _launches(point: Point) -> str:
    left_out = len(point.launches) - len(point.counted)
    return f"{len(point.counted)} (+{left_out} not counted)" if left_out else str(len(point.counted))


def _energy(point: Point) -> Cell:
    energy = energy_per_image(point)
    if isinstance(energy, Unknown):
        return cell(f"unknown: {energy.reason}", "muted")
    return Cell(text=f"{round_significant(energy.value, 3)} J") if isinstance(energy, Known) else cell(NONE, "muted")
