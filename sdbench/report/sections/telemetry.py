"""What the machine did while it was measured: the telemetry, summed up."""

from collections.abc import Iterable
from statistics import median

from sdbench.report.model import Section
from sdbench.report.points import Machine, Source
from sdbench.report.text import format_count, format_number, make_table, name_field
from sdbench.schema.outcome import Series

# The other series' clock: it says when, not what.
TIME_SERIES = "time_s"
TITLE = "What did the machine do meanwhile?"


def build(source: Source) -> Section:
    """Return the lowest, middle and highest value of every telemetry series, per machine."""
    groups = {machine.name: _group(source, machine) for machine in source.machines}
    rows = [
        (*((name,) if source.several else ()), name_field(series_name), unit, *_figures(values), f"{len(values):,}")
        for name, group in groups.items()
        for (series_name, unit), values in group.items()
    ]
    if not rows:
        return Section(name="telemetry", title=TITLE, paragraphs=("No telemetry is at hand for these records.",))
    launch_count = sum(len(source.telemetry.get(machine.record.run_id, ())) for machine in source.machines)
    titles = ("Machine|" if source.several else "") + "Series|Unit|#lowest|#median|#highest|#readings"
    table = make_table(
        f"Telemetry over {format_count(launch_count, 'launch')}; the bundle holds every reading", titles, rows
    )
    return Section(name="telemetry", title=TITLE, tables=(table,))


def _group(source: Source, machine: Machine) -> dict[tuple[str, str], list[float]]:
    values: dict[tuple[str, str], list[float]] = {}
    for series in _all_series(source, machine):
        if series.samples and series.name != TIME_SERIES:
            values.setdefault((series.name, series.unit), []).extend(series.samples)
    return values


def _all_series(source: Source, machine: Machine) -> Iterable[Series]:
    return (series for _, _, launch in source.telemetry.get(machine.record.run_id, ()) for series in launch)


def _figures(values: list[float]) -> tuple[str, ...]:
    return tuple(format_number(value) for value in (min(values), median(values), max(values)))
