"""The memory figure that speaks for the device, by its name."""

from sdbench.report.chart_model import IntervalChart, IntervalMark
from sdbench.report.model import Section
from sdbench.report.points import Point, Source
from sdbench.report.resources import MemoryUse, memory_capacity, memory_title, memory_use
from sdbench.report.text import fold_unknown, list_some, make_table, name_field, reading_cell
from sdbench.schema.base import Known, Unknown
from sdbench.schema.outcome import MemoryFigures
from sdbench.units import format_bytes

TITLE = "How much memory does it take?"
_GIB = 2**30
_TICK_RATIO = 5
_STUDY = (
    "The 2022 study reported what torch had reserved on the GPU after one call: nearest to the torch reserved peak. "
    "The host's RSS peak counts the whole process, its libraries and the weights too, so the two do not compare."
)


def build(source: Source) -> Section:
    """Return the memory chart (GiB) and a table of all named figures."""
    uses = [(m.point, use) for m in source.measured if isinstance(use := memory_use(m.point), MemoryUse)]
    if not source.measured:
        return Section(
            name="memory",
            title=TITLE,
            paragraphs=("No experiment was measured, so there is no memory to show.", _STUDY),
        )
    table = make_table(
        "Every memory figure, the highest over the counted launches",
        f"{source.row_columns}|" + "|".join("#" + name_field(name) for name in MemoryFigures.model_fields),
        (
            (
                *source.row_names(m.point),
                *(reading_cell(name, _highest(m.point, name)) for name in MemoryFigures.model_fields),
            )
            for m in source.own
        ),
    )
    tables = (fold_unknown(table),) if source.own else ()
    charts = (_chart(source, uses),) if uses else ()
    return Section(name="memory", title=TITLE, paragraphs=(_STUDY,), charts=charts, tables=tables)


def _chart(source: Source, uses: list[tuple[Point, MemoryUse]]) -> IntervalChart:
    figure = " / ".join(dict.fromkeys(memory_title(point) for point, _ in uses))
    capacities = {machine.name: memory_capacity(machine) for machine in source.machines}
    known = {name: size.value for name, size in capacities.items() if isinstance(size, Known) and size.value > 0}
    # A tick far to the right of every bar would make them too short to read.
    drawn = {name: size for name, size in known.items() if size <= _TICK_RATIO * max(use.high_bytes for _, use in uses)}
    return IntervalChart(
        kind="bars",
        alt=f"Memory, {figure}: " + "; ".join(f"{point.label} {format_bytes(use.median_bytes)}" for point, use in uses),
        caption=f"Shown: {figure}. Bar: median over the launches. Whiskers: lowest and highest launch."
        + _capacity_words(source, known)
        + (" The tick is all there is." if drawn else ""),
        axis=f"GiB, {figure}",
        log_scale=False,
        machines=source.machine_names,
        marks=tuple(_mark(source, point, use, drawn.get(point.machine.name)) for point, use in uses),
    )


def _capacity_words(source: Source, known: dict[str, int]) -> str:
    owners: dict[int, list[str]] = {}
    for name, size in known.items():
        owners.setdefault(size, []).append(name)
    if len(owners) == 1 and len(known) == len(source.machines):
        return f" {'Each device' if source.several else 'The device'} has {format_bytes(*owners)}."
    return "".join(f" {list_some(names)}: {format_bytes(size)}." for size, names in owners.items())


def _mark(source: Source, point: Point, use: MemoryUse, capacity_bytes: int | None) -> IntervalMark:
    words = [format_bytes(use.median_bytes)]
    if source.several:
        # What a published figure means is long, and the caption says it.
        words += [point.machine.name, *([] if point.is_published else [f"({memory_title(point)})"])]
    several_launches = use.launch_count > 1
    return IntervalMark(
        label=point.label,
        machine=point.machine.name,
        value=use.median_bytes / _GIB,
        low=use.low_bytes / _GIB if several_launches else None,
        high=use.high_bytes / _GIB if several_launches else None,
        text=" ".join(words),
        limit=None if capacity_bytes is None else capacity_bytes / _GIB,
    )


def _highest(point: Point, name: str) -> object:
    readings = [getattr(launch.memory, name) for launch in point.counted]
    known = [reading for reading in readings if not isinstance(reading, Unknown)]
    return max(known, key=lambda reading: int(reading.value)) if known else readings[0]
