"""The largest batch that fits, and how it was determined."""

from sdbench.report.format import Row, cell, make_table, numbers, reading_cell, texts
from sdbench.report.model import Section
from sdbench.report.series import Measured, Point, Source
from sdbench.schema.base import Known
from sdbench.schema.outcome import find_search
from sdbench.schema.workload_results import BatchProbe, BatchSearch
from sdbench.units import format_bytes, format_count, format_duration

TITLE = "How many images fit?"
_ANSWERS = (
    *numbers("largest batch", "images/min", "low", "high", "probes"),
    *texts("limit", "where the limit comes from"),
)
_PROBES = (*numbers("Batch"), *texts("Result"), *numbers("peak memory", "time"), *texts("Message"))


def build(source: Source) -> Section | str:
    """Return per search the answer with its throughput, and every probe."""
    searches = [(point, search) for point in source.points if (search := find_search(point.launches))]
    if not searches:
        return "No search for the largest batch has ended."
    rows = ((point, _answer(point, search)) for point, search in searches)
    answers = source.table("Largest batch, confirmed by full measurements in fresh processes", _ANSWERS, rows)
    probes = (
        make_table(
            f"{source.name(point)}: {format_count(len(search.probes), 'probe')} in order",
            _PROBES,
            map(_probe_row, search.probes),
        )
        for point, search in searches
    )
    return Section(tables=(answers, *probes))


def _answer(point: Point, search: BatchSearch) -> Row:
    rates = point.images_per_min if isinstance(point, Measured) else (None,) * 3
    largest = f"{search.largest_batch}{' or more' if search.largest_batch == search.batch_max else ''}"
    return (largest, *rates, str(len(search.probes)), format_bytes(search.limit_bytes), search.limit_source)


def _probe_row(probe: BatchProbe) -> Row:
    return (
        str(probe.batch),
        cell("fits", "good") if probe.fits else cell("does not fit", "bad"),
        reading_cell("peak_bytes", probe.peak_bytes) if isinstance(probe.peak_bytes, Known) else None,
        format_duration(probe.wall_s),
        probe.message or None,
    )
