"""Every raw sample as a point, a line of points per launch."""

from typing import Any

from sdbench.report.chart_model import SampleChart, SampleMark
from sdbench.report.charts.encode import PLOT_WIDTH_PX, Altair, Drawing, log_ticks, machine_colour
from sdbench.report.theme import css_variable

ROW_STEP_PX = 24
_SIZE_PX2 = 16
_LOOKS: dict[str, dict[str, Any]] = {
    "steady": {"filled": True, "shape": "circle", "size": _SIZE_PX2},
    "warm-up": {"filled": False, "shape": "triangle-up", "size": 2 * _SIZE_PX2, "strokeWidth": 1.2},
    "throttled": {"filled": True, "shape": "diamond", "size": 2 * _SIZE_PX2},
}
_ROOM = 0.02

LaunchKey = tuple[str, str, int]


def draw(alt: Altair, chart: SampleChart) -> Drawing:
    """Return the drawing, a layer for each kind of sample."""
    lanes = find_lanes(chart.marks)
    rows = [mark.to_json_dict() | {"lane": lanes[_key(mark)]} for mark in chart.marks]
    labels = list(dict.fromkeys(mark.label for mark in chart.marks))
    x = _ratio_axis(alt, chart)
    grid = alt.Axis(grid=True, bandPosition=0)
    y = alt.Y("label:N", title=None, sort=None, scale=alt.Scale(domain=labels), axis=grid)
    offset = alt.YOffset("lane:Q", scale=alt.Scale(domain=[0, 1]))
    layers = [
        alt.Chart(alt.Data(values=members))
        .mark_point(**look)
        .encode(x=x, y=y, yOffset=offset, color=_colour(alt, chart, kind))
        for kind, look in _LOOKS.items()
        if (members := [row for row in rows if row["kind"] == kind])
    ]
    height = alt.Step(ROW_STEP_PX, **{"for": "position"})
    return alt.layer(*layers).properties(width=PLOT_WIDTH_PX, height=height)


def find_lanes(marks: tuple[SampleMark, ...]) -> dict[LaunchKey, float]:
    """Return for each launch the height (ratio of its row, 0 to 1) at which its samples lie."""
    launches: dict[str, list[LaunchKey]] = {}
    for key in dict.fromkeys(map(_key, marks)):
        launches.setdefault(key[0], []).append(key)
    return {key: (place + 1) / (len(keys) + 1) for keys in launches.values() for place, key in enumerate(keys)}


def _colour(alt: Altair, chart: SampleChart, kind: str) -> Drawing:
    if kind == "throttled":
        return alt.value(css_variable("mark-4"))
    return machine_colour(alt, chart.machines)


def _key(mark: SampleMark) -> LaunchKey:
    return (mark.label, mark.machine, mark.launch)


def _ratio_axis(alt: Altair, chart: SampleChart) -> Drawing:
    ratios = [mark.ratio for mark in chart.marks]
    low, high = min(ratios), max(ratios)
    room = _ROOM * (high - low) or _ROOM * high
    # Below the least sample there may be no room left above zero, which a log scale cannot show.
    low, high = max(low - room, low / 2), high + room
    scale = alt.Scale(type="log" if chart.log_scale else "linear", zero=False, nice=False, domain=[low, high])
    ticks = {"values": log_ticks(low, high)} if chart.log_scale else {"tickCount": 6}
    return alt.X("ratio:Q", title=chart.axis, scale=scale, axis=alt.Axis(format="~r", **ticks))
