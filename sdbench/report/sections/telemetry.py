"""What the machine did while it was measured: the telemetry over time, and summed up."""

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from statistics import median

from sdbench.report.chart_model import TraceChart, TracePoint
from sdbench.report.model import Section
from sdbench.report.points import Machine, Source
from sdbench.report.text import format_count, format_number, make_table, name_field
from sdbench.schema.outcome import Launch, Series

# The other series' clock: it says when, not what.
TIME_SERIES = "time_s"
TITLE = "What did the machine do meanwhile?"
_PANELS = 4
# Over the whole run, per series and machine: more would be no wider than a pixel or two.
_STRETCHES = 80
_MACHINES = 4
_GPU = "gpu_"
_BITS = "bits"
_SECONDS_PER_MINUTE = 60.0
# A trace of longer than a week is a clock that was set, not a run.
_MINUTES_MAX = 7 * 24 * 60.0


def build(source: Source) -> Section:
    """Return traces over time of what changed, and the lowest, middle and highest value of every series per machine."""
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
    chart = _chart(source, groups)
    return Section(name="telemetry", title=TITLE, charts=(chart,) if chart else (), tables=(table,))


_Group = dict[tuple[str, str], list[float]]


def _group(source: Source, machine: Machine) -> _Group:
    values: _Group = {}
    for series in _all_series(source, machine):
        if series.samples and series.name != TIME_SERIES:
            values.setdefault((series.name, series.unit), []).extend(series.samples)
    return values


def _all_series(source: Source, machine: Machine) -> Iterable[Series]:
    return (series for _, _, launch in source.telemetry.get(machine.record.run_id, ()) for series in launch)


def _figures(values: list[float]) -> tuple[str, ...]:
    return tuple(format_number(value) for value in (min(values), median(values), max(values)))


def _chart(source: Source, groups: dict[str, _Group]) -> TraceChart | None:
    """The series that changed, those of the GPU first."""
    changed = dict.fromkeys(
        key
        for group in groups.values()
        for key, values in group.items()
        if min(values) < max(values) and key[1] != _BITS
    )
    keys = sorted(changed, key=lambda key: not key[0].startswith(_GPU))[:_PANELS]
    machines = source.machines[:_MACHINES]
    points = tuple(point for key in keys for machine in machines for point in _trace(source, machine, key))
    if not points:
        return None
    names = list(dict.fromkeys(point.series for point in points))
    shown = tuple(machine.name for machine in machines if any(point.machine == machine.name for point in points))
    return TraceChart(
        alt=f"Over the minutes of the run: {', '.join(names)}. The table has their lowest, median and highest values.",
        caption="Telemetry over the minutes since the run began; a line is broken between launches. "
        f"Line: median of a stretch of a {_STRETCHES}th of the run. Band: its lowest to highest reading.",
        machines=shown,
        points=points,
    )


def _trace(source: Source, machine: Machine, key: tuple[str, str]) -> Iterator[TracePoint]:
    """One series of a machine's run: within each launch, stretch by stretch."""
    readings = [
        (place, minute, value)
        for place, offset_min, series in _timed_launches(source, machine)
        for minute, value in _readings(series, key, offset_min)
    ]
    end = max((minute for _, minute, _ in readings), default=0.0)
    if not 0 < end <= _MINUTES_MAX:
        return
    stretches: dict[tuple[int, int], list[float]] = {}
    for place, minute, value in readings:
        stretches.setdefault((place, int(minute / end * _STRETCHES)), []).append(value)
    name = f"{name_field(key[0]).removesuffix(key[1]).strip()}, {key[1]}"
    for (place, stretch), values in stretches.items():
        yield TracePoint(
            series=name,
            machine=machine.name,
            launch=place,
            minute=(stretch + 0.5) * end / _STRETCHES,
            value=median(values),
            low=min(values),
            high=max(values),
        )


def _timed_launches(source: Source, machine: Machine) -> Iterator[tuple[int, float, Sequence[Series]]]:
    """Each launch's place, when it began (minutes since the run did) and its series; none without a usable time."""
    started = {
        (point.planned.experiment_id, launch.index): launch
        for point in source.points
        if point.machine is machine
        for launch in point.launches
    }
    for place, (experiment_id, index, series) in enumerate(source.telemetry.get(machine.record.run_id, ())):
        launch = started.get((experiment_id, index))
        if launch is not None and (offset_min := _offset_min(machine, launch)) is not None:
            yield place, offset_min, series


def _offset_min(machine: Machine, launch: Launch) -> float | None:
    try:
        began, started = map(datetime.fromisoformat, (machine.record.created_utc, launch.started_utc))
        offset_min = (started - began).total_seconds() / _SECONDS_PER_MINUTE
    # A stranger's time is any text; one with a zone and one without do not subtract.
    except (ValueError, TypeError):
        return None
    return offset_min if 0 <= offset_min <= _MINUTES_MAX else None


def _readings(launch: Sequence[Series], key: tuple[str, str], offset_min: float) -> Iterator[tuple[float, float]]:
    times = next((series.samples for series in launch if series.name == TIME_SERIES), ())
    for series in launch:
        if (series.name, series.unit) == key and len(series.samples) == len(times):
            for time_s, value in zip(times, series.samples, strict=True):
                if 0 <= time_s <= _MINUTES_MAX * _SECONDS_PER_MINUTE:
                    yield offset_min + time_s / _SECONDS_PER_MINUTE, value
