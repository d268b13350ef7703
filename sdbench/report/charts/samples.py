"""Every raw sample as a point, a line of points per launch."""

from typing import Any

from sdbench.report.chart_model import SampleChart, SampleMark
from sdbench.report.charts.encode import PLOT_WIDTH_PX, Altair, Drawing, log_ticks, machine_looks, plot
from sdbench.report.grouping import group_by
from sdbench.report.theme import css_variable

ROW_STEP_PX = 24
_SIZE_PX2 = 16
_LOOKS: dict[str, dict[str, Any]] = {
    "steady": {"filled": True, "shape": "circle", "size": _SIZE_PX2},
    "warm-up": {"filled": False, "shape": "triangle-up", "size": 2 * _SIZE_PX2, "strokeWidth": 1.2},
    "throttled": {"filled": True, "shape": "diamond", "size": 2 * _SIZE_PX2},
}
_ROOM = 0.02

_Launch = tuple[str, str, int]


def draw(alt: Altair, chart: SampleChart) -> Drawing:
    """Return the drawing, a layer for each kind of sample."""
    lanes = _find_lanes(chart.marks)
    rows = [mark.to_json_dict() | {"lane": lanes[_launch_of(mark)]} for mark in chart.marks]
    labels = list(dict.fromkeys(mark.label for mark in chart.marks))
    grid = alt.Axis(grid=True, bandPosition=0)
    y = alt.Y("label:N", title=None, sort=None, scale=alt.Scale(domain=labels), axis=grid)
    offset = alt.YOffset("lane:Q", scale=alt.Scale(domain=[0, 1]))
    machine_colour = machine_looks(alt, chart.machines)["color"]
    layers = []
    for kind, look in _LOOKS.items():
        colour = alt.value(css_variable("mark-4")) if kind == "throttled" else machine_colour
        if of_kind := [row for row in rows if row["kind"] == kind]:
            points = plot(alt, of_kind).mark_point(**look)
            layers.append(points.encode(x=_ratio_axis(alt, chart), y=y, yOffset=offset, color=colour))
    height = alt.Step(ROW_STEP_PX, **{"for": "position"})
    return alt.layer(*layers).properties(width=PLOT_WIDTH_PX, height=height)


def _find_lanes(marks: tuple[SampleMark, ...]) -> dict[_Launch, float]:
    """The height (ratio of its row, 0 to 1) at which the samples of each launch lie."""
    launches = group_by(dict.fromkeys(map(_launch_of, marks)), lambda launch: launch[0])
    return {key: place / (len(keys) + 1) for keys in launches.values() for place, key in enumerate(keys, start=1)}


def _launch_of(mark: SampleMark) -> _Launch:
    return (mark.label, mark.machine, mark.launch)


def _ratio_axis(alt: Altair, chart: SampleChart) -> Drawing:
    ratios = [mark.ratio for mark in chart.marks]
    low, high = min(ratios), max(ratios)
    room = _ROOM * (high - low) or _ROOM * high
    # Below the least sample there may be no room left above zero, which a log scale cannot show.
    low, high = max(low - room, low / 2), high + room
    scale = alt.Scale(type="log" if chart.log_scale else "linear", zero=False, nice=False, domain=[low, high])
    ticks = {"values": log_ticks(low, high)} if chart.log_scale else {"tickCount": 6}
    return alt.X("ratio:Q", title=chart.axis_title, scale=scale, axis=alt.Axis(format="~r", **ticks))
