"""The largest batch that fits, and how it was found."""

from sdbench.report.model import Cell, Section, Table
from sdbench.report.points import Measured, Point, Source
from sdbench.report.text import NONE, cell, format_count, format_number, make_table, reading_cell
from sdbench.schema.base import Known
from sdbench.schema.outcome import find_search
from sdbench.schema.study import BatchProbe, BatchSearch
from sdbench.units import format_bytes, format_duration

TITLE = "How many images fit?"


def build(source: Source) -> Section:
    """Return per search the answer with its throughput, and every probe."""
    found = [(point, search) for point in source.points if (search := find_search(point.launches))]
    if not found:
        return Section(name="capacity", title=TITLE, paragraphs=("No search for the largest batch has ended.",))
    answers = make_table(
        "Largest batch, confirmed by full measurements in fresh processes",
        f"{source.row_columns}|#largest batch|#images/min|#low|#high|#probes|limit|where the limit comes from",
        ((*source.row_names(point), *_answer(point, search)) for point, search in found),
    )
    probes = tuple(_probe_table(source, point, search) for point, search in found)
    return Section(name="capacity", title=TITLE, tables=(answers, *probes))


def _answer(point: Point, search: BatchSearch) -> tuple[str, ...]:
    rates = (NONE, NONE, NONE)
    if point.estimate is not None:
        measured = Measured(point, point.estimate)
        ends = (point.estimate.high, point.estimate.low)
        low, high = (NONE if end is None else format_number(measured.images_per_min_at(end)) for end in ends)
        rates = (format_number(measured.images_per_min), low, high)
    largest = (
        f"{search.largest_batch} or more" if search.largest_batch == search.batch_max else str(search.largest_batch)
    )
    return (largest, *rates, str(len(search.probes)), format_bytes(search.limit_bytes), search.limit_source)


def _probe_table(source: Source, point: Point, search: BatchSearch) -> Table:
    name = ", ".join(source.row_names(point))
    caption = f"{name}: {format_count(len(search.probes), 'probe')} in order"
    return make_table(caption, "#Batch|Result|#peak memory|#time|Message", map(_probe_row, search.probes))


def _probe_row(probe: BatchProbe) -> tuple[Cell | str, ...]:
    return (
        str(probe.batch),
        cell("fits", "good") if probe.fits else cell("does not fit", "bad"),
        reading_cell("peak_bytes", probe.peak_bytes) if isinstance(probe.peak_bytes, Known) else NONE,
        format_duration(probe.wall_s),
        probe.message or NONE,
    )
