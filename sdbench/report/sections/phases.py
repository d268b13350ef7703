"""Where the time goes: cold start and steady state, and the phases of a call, from the last warm-up call."""

from collections.abc import Iterator, Sequence
from statistics import median

from sdbench.compare.projection import ENCODERS, PhaseTimes, median_phases, phases_of_launch
from sdbench.report.chart_model import Share, ShareChart
from sdbench.report.format import Row, format_percent, numbers, texts
from sdbench.report.model import Section, Table
from sdbench.report.sections.reproduce import WEIGHTS_SOURCES
from sdbench.report.series import Measured, Point, Source
from sdbench.schema.metrics import latency_s, result_sustained_ratio
from sdbench.schema.outcome import Launch
from sdbench.units import format_bytes, format_duration

TITLE = "The parts of one call"
_NOTE = (
    "Phases are measured in the last warm-up call of a launch, so they do not slow any reported latency. "
    "The last column of their table compares this call with a timed one: near 1, the phases stand for it."
)
_PHASE_TITLES = ("denoising steps", "VAE decode", "rest")
_PHASE_COLUMNS = ("denoising steps", "one step, median", "VAE decode", "rest", "total", "total / timed")
_START_CAPTION = (
    "Cold start, seconds: the first launch, and the median of those after it, which find the caches filled. The "
    "template of a round imports once for all of its launches"
)
_START_COLUMNS = (*texts("launches"), *numbers("import", "load", "first call", "steady call"), *texts("weights"))
_SUSTAINED_CAPTION = "After the load, seconds: what a call takes, as a ratio to the timed calls before"
_START_FIELDS = ("import_s", "load_s", "first_call_s")


def phases_of(measured: Measured) -> PhaseTimes | None:
    """Return the phases (s) of an experiment: of each phase the median over its counted launches."""
    launches = [times for launch in measured.counted if (times := phases_of_launch(launch))]
    return median_phases(launches) if launches else None


def build(source: Source) -> Section | str:
    """Return cold start and steady state (s), and the phases with their ratio to the timed latency."""
    if not source.own:
        return "No experiment was measured, so there are no phases to show."
    start_rows = ((point, row) for point in source.own for row in _start_rows(point))
    tables = (
        source.table(_START_CAPTION, _START_COLUMNS, start_rows),
        *_sustained_tables(source),
        *_export_tables(source),
    )
    phased = [(point, times) for point in source.own if (times := phases_of(point))]
    if not phased:
        return Section(paragraphs=("No launch has phases.",), tables=tables)
    encoders = _encoders(phased)
    rows = (
        (
            point,
            (*map(times.encoders_s.get, encoders), *times[1:], f"{times.total_s / point.estimate.value:.3f}"),
        )
        for point, times in phased
    )
    phase_table = source.table("Phases of one call, seconds", numbers(*encoders, *_PHASE_COLUMNS), rows)
    return Section(paragraphs=(_NOTE,), charts=(_chart(source, phased),), tables=(*tables, phase_table))


def _encoders(phased: list[tuple[Measured, PhaseTimes]]) -> tuple[str, ...]:
    """The titles of the text encoders that any of the pipelines has."""
    return tuple(title for title in ENCODERS.values() if any(title in times.encoders_s for _, times in phased))


def _start_rows(point: Point) -> Iterator[Row]:
    first, *later = point.launches
    yield _start_row("first", [first])
    if later:
        yield _start_row(f"{len(later)} later", later)


def _start_row(name: str, launches: Sequence[Launch]) -> Row:
    starts = (median(getattr(launch, field) for launch in launches) for field in _START_FIELDS)
    steady = [time_s for launch in launches if (time_s := latency_s(launch)) is not None]
    sources = dict.fromkeys(WEIGHTS_SOURCES[launch.environment.weights_source] for launch in launches)
    return (name, *starts, median(steady) if steady else None, ", ".join(sources))


def _sustained_tables(source: Source) -> tuple[Table, ...]:
    """What a call takes after a time of load, where the protocol asks for it."""
    rows = [
        (point, (f"{point.planned.protocol.sustained_s:g}", f"{ratio:.3f}"))
        for point in source.own
        if (ratio := result_sustained_ratio(point.outcome)) is not None
    ]
    return (source.table(_SUSTAINED_CAPTION, numbers("load", "sustained / short"), rows),) if rows else ()


def _export_tables(source: Source) -> tuple[Table, ...]:
    """What was exported to ONNX, each network of an experiment once: its time is in no latency."""
    exports = {
        (point.planned.experiment_id, point.machine.name, export.part): (point, export)
        for point in source.own
        for launch in point.counted
        for export in launch.exports
    }
    if not exports:
        return ()
    rows = (
        (point, (export.part.replace("_", " "), format_bytes(export.size_bytes), format_duration(export.export_s)))
        for point, export in exports.values()
    )
    columns = (*texts("Network"), *numbers("Size", "time it took"))
    return (source.table("Exported to ONNX once, outside load and latency", columns, rows),)


def _chart(source: Source, phased: list[tuple[Measured, PhaseTimes]]) -> ShareChart:
    shares, sentences = [], []
    for point, times in phased:
        whole = format_duration(times.total_s) + (f" {point.machine.name}" if source.several else "")
        names = {"label": point.label, "machine": point.machine.name}
        shares += [Share(**names, part=title, ratio=ratio, whole=whole) for title, ratio in times.shares.items()]
        parts = (f"{title} {format_percent(ratio)}" for title, ratio in times.shares.items())
        sentences.append(f"{point.label} {', '.join(parts)}")
    return ShareChart(
        alt=f"Share of each phase: {'; '.join(sentences)}",
        caption="Share of each phase in a call; at the right the whole call with phase timing on.",
        machines=source.machine_names,
        parts=(*_encoders(phased), *_PHASE_TITLES),
        shares=tuple(shares),
    )
