"""The memory of each experiment, by its source."""

from collections.abc import Iterator, Sequence

from sdbench.report.chart_model import IntervalChart
from sdbench.report.format import fold_unknown, list_some, name_field, numbers, reading_cell
from sdbench.report.grouping import group_by
from sdbench.report.model import Section
from sdbench.report.questions import by_image, is_for_buyers
from sdbench.report.series import Interval, Point, Source
from sdbench.schema.base import Known, Unknown
from sdbench.schema.metrics import MemoryRange, result_memory
from sdbench.schema.outcome import MemoryUse
from sdbench.units import format_bytes

TITLE = "How much memory does it take?"
_GIB = 2**30
_TICK_RATIO = 5
_STUDY = (
    "The 2022 study reported what torch had reserved on the GPU after one call: nearest to the torch reserved peak. "
    "The host's RSS peak counts the whole process, its libraries and the weights too, so the two do not compare."
)


def build(source: Source) -> Section:
    """Return the memory chart (GiB) and a table of all memory values."""
    if not source.measured:
        return Section(paragraphs=("No experiment was measured, so there is no memory to show.", _STUDY))
    uses = [(point, use) for point in source.measured if isinstance(use := result_memory(point.outcome), MemoryRange)]
    use_of = {id(point): use for point, use in uses}
    for_buyers = by_image(point for point, _ in uses if is_for_buyers(point))
    charts = tuple(
        _chart(source, name, [(point, use_of[id(point)]) for point in members]) for name, members in for_buyers.items()
    )
    names = tuple(MemoryUse.model_fields)
    columns = numbers(*map(name_field, names))
    rows = ((point, tuple(reading_cell(name, _highest(point, name)) for name in names)) for point in source.own)
    table = source.table("Every memory value, the highest over the counted launches", columns, rows)
    tables = (fold_unknown(table),) if source.own else ()
    return Section(paragraphs=(_STUDY, *_mapped_words(source)), charts=charts, tables=tables)


def _mapped_words(source: Source) -> Iterator[str]:
    mapped_bytes = [launch.environment.weights_mapped_bytes for point in source.own for launch in point.counted]
    if any(mapped_bytes):
        yield (
            f"Weights of up to {format_bytes(max(mapped_bytes))} were mapped from files in the cache folder: they are "
            "part of the host's RSS peak and file-backed. They were in memory as a whole, as drawn ones are."
        )


def _chart(source: Source, image: str, uses: Sequence[tuple[Point, MemoryRange]]) -> IntervalChart:
    titles = " / ".join(dict.fromkeys(use.source_title for _, use in uses))
    capacities = {machine.name: machine.record.device_memory_bytes for machine in source.machines}
    known = {name: size.value for name, size in capacities.items() if isinstance(size, Known) and size.value > 0}
    # A tick far to the right of every bar would make them too short to read.
    drawn = {name: size for name, size in known.items() if size <= _TICK_RATIO * max(use.high_bytes for _, use in uses)}
    marks = []
    for point, use in uses:
        ends = (use.low_bytes, use.high_bytes) if use.launch_count > 1 else ()
        # What a reference result means is long, and in the caption.
        which = f" ({use.source_title})" if source.several and not point.is_reference else ""
        capacity_bytes = drawn.get(point.machine.name)
        limit = None if capacity_bytes is None else capacity_bytes / _GIB
        interval = Interval(use.median_bytes, *ends).convert(lambda size_bytes: size_bytes / _GIB)
        marks.append(source.mark(point, interval, format_bytes(use.median_bytes) + which, limit))
    caption = (
        f"Shown: {titles}. Bar: median over the launches. Whiskers: lowest and highest launch."
        + _capacity_words(source, known)
        + (" The tick is all there is." if drawn else "")
    )
    return source.chart("bars", f"Memory, {image}", caption, f"GiB, {titles}", marks)


def _capacity_words(source: Source, known: dict[str, int]) -> str:
    owners = group_by(known, known.__getitem__)
    if len(owners) == 1 and len(known) == len(source.machines):
        return f" {'Each device' if source.several else 'The device'} has {format_bytes(*owners)}."
    return "".join(f" {list_some(names)}: {format_bytes(size)}." for size, names in owners.items())


def _highest(point: Point, name: str) -> object:
    readings = [getattr(launch.memory, name) for launch in point.counted]
    known = [reading for reading in readings if not isinstance(reading, Unknown)]
    return max(known, key=lambda reading: int(reading.value)) if known else readings[0]
