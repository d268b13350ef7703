"""What the machine did while it was measured: the telemetry over time, and summed up."""

from collections.abc import Iterator, Sequence
from datetime import datetime
from statistics import median

from sdbench.report.chart_model import TraceChart, TracePoint
from sdbench.report.format import Row, make_table, name_field, numbers, texts
from sdbench.report.model import Section
from sdbench.report.series import Machine, Source
from sdbench.schema.outcome import Launch, Series
from sdbench.units import format_count

# The other series' clock.
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

# A series' name and unit.
_Key = tuple[str, str]
_Groups = dict[str, dict[_Key, list[float]]]


def build(source: Source) -> Section | str:
    """Return traces over time of what changed, and the lowest, middle and highest value of every series per machine."""
    groups = {machine.name: _group(machine) for machine in source.machines}
    rows: list[Row] = [
        (
            *([machine] if source.several else []),
            name_field(name),
            unit,
            min(values),
            median(values),
            max(values),
            f"{len(values):,}",
        )
        for machine, group in groups.items()
        for (name, unit), values in group.items()
    ]
    if not rows:
        return "No telemetry is available for these records."
    launch_count = sum(len(machine.run.telemetry) for machine in source.machines)
    caption = f"Telemetry over {format_count(launch_count, 'launch')}; the bundle holds every reading"
    titles = texts(*(["Machine"] if source.several else []), "Series", "Unit")
    table = make_table(caption, (*titles, *numbers("lowest", "median", "highest", "readings")), rows)
    chart = _chart(source, groups)
    return Section(charts=(chart,) if chart else (), tables=(table,))


def _group(machine: Machine) -> dict[_Key, list[float]]:
    values: dict[_Key, list[float]] = {}
    for launch in machine.run.telemetry:
        for series in launch.series:
            if series.samples and series.name != TIME_SERIES:
                values.setdefault((series.name, series.unit), []).extend(series.samples)
    return values


def _chart(source: Source, groups: _Groups) -> TraceChart | None:
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
    names = ", ".join(dict.fromkeys(point.series for point in points))
    drawn = {point.machine for point in points}
    return TraceChart(
        alt=f"Over the minutes of the run: {names}. The table has their lowest, median and highest values.",
        caption="Telemetry over the minutes since the start of the run; a line is broken between launches. "
        f"Line: median of a stretch of a {_STRETCHES}th of the run. Band: its lowest to highest reading.",
        machines=tuple(machine.name for machine in machines if machine.name in drawn),
        points=points,
    )


def _trace(source: Source, machine: Machine, key: _Key) -> Iterator[TracePoint]:
    """One series of a machine's run: within each launch, stretch by stretch."""
    readings = list(_readings(source, machine, key))
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


def _readings(source: Source, machine: Machine, key: _Key) -> Iterator[tuple[int, float, float]]:
    """Each reading of a series: its launch's place, the minute since the run began, and the value."""
    launches = {
        (point.planned.experiment_id, launch.index): launch
        for point in source.points
        if point.machine is machine
        for launch in point.launches
    }
    for place, telemetry in enumerate(machine.run.telemetry):
        launch = launches.get((telemetry.experiment_id, telemetry.index))
        if launch is not None and (offset_min := _offset_min(machine, launch)) is not None:
            for minute, value in _timed_values(telemetry.series, key):
                yield place, offset_min + minute, value


def _offset_min(machine: Machine, launch: Launch) -> float | None:
    """When a launch began (minutes since the run did), if its time is usable."""
    try:
        began, started = map(datetime.fromisoformat, (machine.record.created_utc, launch.started_utc))
        offset_min = (started - began).total_seconds() / _SECONDS_PER_MINUTE
    # An untrusted time is any text; one with a zone and one without do not subtract.
    except (ValueError, TypeError):
        return None
    return offset_min if 0 <= offset_min <= _MINUTES_MAX else None


def _timed_values(launch: Sequence[Series], key: _Key) -> Iterator[tuple[float, float]]:
    times = next((series.samples for series in launch if series.name == TIME_SERIES), ())
    for series in launch:
        if (series.name, series.unit) == key and len(series.samples) == len(times):
            for time_s, value in zip(times, series.samples, strict=True):
                if 0 <= time_s <= _MINUTES_MAX * _SECONDS_PER_MINUTE:
                    yield time_s / _SECONDS_PER_MINUTE, value
