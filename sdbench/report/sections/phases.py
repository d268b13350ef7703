"""Where the time goes: load, first call and steady state, and the phases of a call."""

from statistics import median

from sdbench.report.chart_model import Share, ShareChart
from sdbench.report.model import Section, Table
from sdbench.report.phases import PHASE_TITLES, PhaseTimes, phases_of
from sdbench.report.points import Measured, Source
from sdbench.report.text import format_number, format_percent, make_table
from sdbench.units import format_bytes, format_duration

TITLE = "The parts of one call"
_NOTE = (
    "Phases come from calls of their own after the timed ones, so that timing them slows no reported figure. "
    "The last column of their table compares such a call with a timed one: near 1, the phases stand for them."
)
_PHASE_COLUMNS = "#text encode|#denoising steps|#one step, median|#VAE decode|#rest|#total|#total / timed"
_START_FIELDS = ("import_s", "load_s", "first_call_s")


def build(source: Source) -> Section:
    """Return load, first call and steady state (s), and the phases with their ratio to the timed latency."""
    if not source.own:
        return Section(
            name="phases", title=TITLE, paragraphs=("No experiment was measured, so there are no phases to show.",)
        )
    phased = [(m, times) for m in source.own if (times := phases_of(m))]
    if not phased:
        return Section(
            name="phases",
            title=TITLE,
            paragraphs=("No launch has phases.",),
            tables=(_start_table(source), *_export_tables(source)),
        )
    phase_table = make_table(
        "Phases of one call, seconds",
        f"{source.row_columns}|{_PHASE_COLUMNS}",
        (_phase_row(source, m, times) for m, times in phased),
    )
    return Section(
        name="phases",
        title=TITLE,
        paragraphs=(_NOTE,),
        charts=(_chart(source, phased),),
        tables=(_start_table(source), *_export_tables(source), phase_table),
    )


def _start_table(source: Source) -> Table:
    return make_table(
        "Load, first call and steady state are three figures: seconds, medians over the launches",
        f"{source.row_columns}|#import|#load|#first call|#steady call",
        (
            (
                *source.row_names(m.point),
                *(format_number(median(getattr(launch, name) for launch in m.point.counted)) for name in _START_FIELDS),
                format_number(m.estimate.value),
            )
            for m in source.own
        ),
    )


def _export_tables(source: Source) -> tuple[Table, ...]:
    """What was exported to ONNX, each network of an experiment once: its time is in no latency."""
    found = {
        (*source.row_names(m.point), export.part): export
        for m in source.own
        for launch in m.point.counted
        for export in launch.exports
    }
    if not found:
        return ()
    rows = (
        (*names, export.part.replace("_", " "), format_bytes(export.size_bytes), format_duration(export.export_s))
        for (*names, _), export in found.items()
    )
    caption = "Exported to ONNX once, outside load and latency"
    return (make_table(caption, f"{source.row_columns}|Network|#Size|#time it took", rows),)


def _phase_row(source: Source, measured: Measured, times: PhaseTimes) -> tuple[str, ...]:
    durations_s = (times.text_encode_s, times.denoise_s, times.step_s, times.vae_decode_s, times.rest_s, times.total_s)
    ratio = times.total_s / measured.estimate.value
    return (*source.row_names(measured.point), *map(format_number, durations_s), f"{ratio:.3f}")


def _chart(source: Source, phased: list[tuple[Measured, PhaseTimes]]) -> ShareChart:
    return ShareChart(
        alt="Share of each phase: " + "; ".join(f"{m.point.label} {_sentence(times)}" for m, times in phased),
        caption="Share of each phase in a call; at the right the whole call with phase timing on.",
        machines=source.machine_names,
        parts=tuple(PHASE_TITLES.values()),
        shares=tuple(
            Share(
                label=m.point.label,
                machine=m.point.machine.name,
                part=title,
                ratio=duration_s / _whole_s(times),
                whole=_whole_words(source, m, times),
            )
            for m, times in phased
            for title, duration_s in times.by_phase
        ),
    )


def _whole_s(times: PhaseTimes) -> float:
    return sum(duration_s for _, duration_s in times.by_phase) or 1.0


def _whole_words(source: Source, measured: Measured, times: PhaseTimes) -> str:
    machine = f" {measured.point.machine.name}" if source.several else ""
    return format_duration(times.total_s) + machine


def _sentence(times: PhaseTimes) -> str:
    return ", ".join(f"{title} {format_percent(duration_s / _whole_s(times))}" for title, duration_s in times.by_phase)
