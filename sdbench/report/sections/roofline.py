"""How far from what the machine reaches, and which wall is near: a roofline, and its numbers."""

from collections.abc import Iterator

from sdbench.compare.machine_ceilings import format_change_of_rate
from sdbench.compare.roofline import NEAR_MIN, Roofline, RooflinePoint, make_roofline
from sdbench.report.chart_model import Roof, RooflineChart, RooflineMark
from sdbench.report.format import Row, cell, format_number, format_percent, make_table, numbers, texts
from sdbench.report.model import Section, Table, Tone
from sdbench.report.sections.phases import phases_of
from sdbench.report.series import Machine, Measured, Source
from sdbench.schema.base import Known, Reading
from sdbench.schema.ceilings import Ceilings
from sdbench.units import format_rate, round_significant

TITLE = "How far from what the machine reaches?"
_FLOP_PER_TFLOP = 1e12
# The largest calls say most about a machine; a chart of each experiment would repeat itself.
_CHARTS = 2
_NOTE = (
    "FLOP are counted from the shapes. The ceilings are measured on this machine in the run itself: the best of "
    "several matrix products, copies and launches. FLOP/byte is a lower bound, because the bytes are those that eager "
    "mode moves: weights once a call, and what every operator reads and writes, without caches and fused operators. "
    f"A wall is near where it alone takes more than {NEAR_MIN:.0%} of the time: the FLOP at the fastest matrix "
    "product, the bytes at the memory's bandwidth, the launches of all operators, or a host that the GPU was observed "
    "to wait for. Phases are scaled from the observed call to a timed one."
)
_COLUMNS = (
    *texts("part"),
    *numbers("TFLOP", "s", "TFLOP/s", "of the ceiling", "FLOP/byte"),
    *texts("near wall", "why"),
    *numbers("of the data sheet"),
)
_CEILING_COLUMNS = (*texts("ceiling", "how"), *numbers("at the start", "at the end", "change"))


def build(source: Source) -> Section | str:
    """Return the rooflines of the largest calls, the numbers of all, and the ceilings of each machine."""
    made = [(point, roofline) for point in source.measured if (roofline := _make(point))]
    if not made:
        return "No experiment says how much work its calls are."
    wholes = [(point, _row(roofline.points[0])) for point, roofline in made]
    phases = [(point, _row(part)) for point, roofline in made for part in roofline.points[1:]]
    whole_table = source.table("Work, time and share of the ceiling of a whole call", _COLUMNS, wholes)
    tables = [source.table("The same by phase", _COLUMNS, phases)] if phases else []
    sheets = dict.fromkeys(roofline.data_sheet for _, roofline in made if roofline.data_sheet)
    notes = tuple(f"Data sheet of {sheet.name}: {sheet.source}." for sheet in sheets)
    ceilings = tuple(item for machine in source.machines if (item := _ceilings_table(source, machine)))
    return Section(
        paragraphs=(_NOTE,),
        charts=tuple(_charts(source, made)),
        tables=(whole_table.model_copy(update={"notes": (*whole_table.notes, *notes)}), *tables, *ceilings),
    )


def _make(point: Measured) -> Roofline | None:
    record, launch = point.machine.record, next(iter(point.counted), None)
    return make_roofline(record, point.planned, point.batch, point.estimate.value, launch, phases_of(point))


def _row(point: RooflinePoint) -> Row:
    tone: Tone = "muted" if point.wall.name == "unknown" else "plain"
    return (
        point.part,
        point.flop / _FLOP_PER_TFLOP,
        point.duration_s,
        point.flop_per_s / _FLOP_PER_TFLOP,
        _percent(point.ceiling_ratio),
        point.intensity_flop_per_byte,
        cell(point.wall.name, tone),
        cell(point.wall.reason, tone),
        _percent(point.data_sheet_ratio),
    )


def _percent(ratio: float | None) -> str | None:
    return None if ratio is None else format_percent(ratio)


def _charts(source: Source, made: list[tuple[Measured, Roofline]]) -> Iterator[RooflineChart]:
    drawable = [(point, item) for point, item in made if item.limits.ridge_flop_per_byte and _drawn(item)]
    largest = sorted(drawable, key=lambda pair: -pair[1].points[0].flop)
    for point, roofline in largest[:_CHARTS]:
        limits, precision = roofline.limits, roofline.precision
        memory = limits.memory_bytes_per_s or 0.0
        marks = _drawn(roofline)
        words = "; ".join(
            f"{mark.part} {format_rate(mark.flop_per_s, 'FLOP/s')} at {format_number(mark.intensity_flop_per_byte)} "
            f"FLOP/byte, {_percent(mark.ceiling_ratio)} of the ceiling, near wall: {mark.wall.name}"
            for mark in marks
        )
        yield RooflineChart(
            title=f"Roofline: {source.name(point)}",
            alt=f"Roofline of {source.name(point)}: {words}",
            caption="Under the slope memory is the nearest wall, under a roof compute. The roofs are the fastest "
            f"matrix products that this machine reached in the run; {precision} is the one that counts here. "
            "Points lie left of where they belong as far as caches and fused operators spare traffic.",
            memory_bytes_per_s=memory,
            memory_name=f"memory {format_rate(memory, 'B/s')}",
            roofs=tuple(_roofs(point.machine.record.fingerprint.state.ceilings, roofline)),
            marks=tuple(
                RooflineMark(
                    label=f"{mark.part} {_percent(mark.ceiling_ratio)}",
                    intensity_flop_per_byte=mark.intensity_flop_per_byte or 0.0,
                    flop_per_s=mark.flop_per_s,
                )
                for mark in marks
            ),
        )


def _drawn(roofline: Roofline) -> list[RooflinePoint]:
    return [point for point in roofline.points if point.intensity_flop_per_byte and point.flop > 0]


def _roofs(ceilings: Reading[Ceilings], roofline: Roofline) -> Iterator[Roof]:
    """The roof of the experiment's precision, then those of others."""
    own = roofline.limits.flop_per_s or 0.0
    yield Roof(name=f"{roofline.precision} {format_rate(own, 'FLOP/s')}", flop_per_s=own, is_own=True)
    for item in ceilings.value.matrix_products if isinstance(ceilings, Known) else ():
        if item.precision != roofline.precision and isinstance(item.flop_per_s, Known):
            rate = item.flop_per_s.value
            yield Roof(name=f"{item.precision} {format_rate(rate, 'FLOP/s')}", flop_per_s=rate, is_own=False)


def _ceilings_table(source: Source, machine: Machine) -> Table | None:
    """What a machine reached at both ends of its run."""
    record = machine.record
    start, end = record.fingerprint.state.ceilings, record.ceilings_at_end
    if not isinstance(start, Known):
        return None
    later = end.value if isinstance(end, Known) else None
    name = f" of {machine.name}" if source.several else ""
    caption = f"What the machine{name} reached at best, {start.value.threads} threads"
    notes = [] if isinstance(end, Known) else [f"At the end: {end.reason}."]
    return make_table(caption, _CEILING_COLUMNS, _ceiling_rows(start.value, later), notes)


def _ceiling_rows(start: Ceilings, end: Ceilings | None) -> Iterator[Row]:
    last = {item.precision: item.flop_per_s for item in end.matrix_products} if end else {}
    for item in start.matrix_products:
        name = f"matrix product {item.precision}"
        yield (name, item.shape, *_pair(item.flop_per_s, last.get(item.precision), "FLOP/s"))
    fields = {"memory_bytes_per_s": ("memory", "copy or sum of arrays", "B/s")}
    if start.device.startswith("cuda"):
        fields["to_device_bytes_per_s"] = ("host to device", "pinned", "B/s")
        fields["from_device_bytes_per_s"] = ("device to host", "pinned", "B/s")
    fields["launch_s"] = ("launch", "a minimal operator", "s")
    for field, (name, how, unit) in fields.items():
        yield (name, how, *_pair(getattr(start, field), getattr(end, field, None), unit))


def _pair(start: Reading[float], end: Reading[float] | None, unit: str) -> tuple[str | None, ...]:
    first, last = (item.value if isinstance(item, Known) else None for item in (start, end))
    shown = [None if value is None else _format(value, unit) for value in (first, last)]
    return (*shown, format_change_of_rate(last / first) if first and last else None)


def _format(value: float, unit: str) -> str:
    return f"{round_significant(1e6 * value, 3)} us" if unit == "s" else format_rate(value, unit)
