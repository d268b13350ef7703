"""Lines over a whole number, with their intervals as bands."""

from typing import Any

from sdbench.report.chart_model import LineChart
from sdbench.report.charts.encode import PLOT_WIDTH_PX, POINT_SIZE_PX2, Altair, Drawing, name_looks, number_looks, plot

HEIGHT_PX = 240
_BAND_OPACITY = 0.25
_STOP_LOOK: dict[str, Any] = {"shape": "M-.5,-.5L.5,.5M-.5,.5L.5,-.5", "size": 220, "strokeWidth": 3, "filled": False}


def draw(alt: Altair, chart: LineChart) -> Drawing:
    """Return the drawing: bands, then lines, then points, then where lines stop and what changed."""
    rows = [point.to_json_dict() for point in chart.points]
    if chart.x_names:
        rows = [row | {"name": chart.x_names[row["x"] - 1]} for row in rows]
    ends = [row[key] for row in rows for key in ("value", "low", "high") if row[key] is not None]
    y_looks = number_looks(alt, ends, log_scale=chart.log_scale)
    if not chart.from_zero:
        y_looks["scale"] = alt.Scale(zero=False, nice=True)
    x, y = _x_axis(alt, chart), alt.Y("value:Q", title=chart.axis_title, **y_looks)
    looks = name_looks(alt, "line", tuple(dict.fromkeys(row["line"] for row in rows)))
    base = plot(alt, rows).encode(x=x, y=y, color=looks["color"])
    layers = [
        base.mark_line(strokeWidth=1.5),
        base.mark_point(filled=True, size=POINT_SIZE_PX2).encode(shape=looks["shape"]),
    ]
    if with_interval := [row for row in rows if row["low"] is not None]:
        low = alt.Y("low:Q", title=chart.axis_title)
        bands = plot(alt, with_interval).encode(x=x, y=low, y2="high:Q", color=looks["color"])
        # A band as thin as its line, or of one point only, is still visible.
        layers = [bands.mark_area(opacity=_BAND_OPACITY), bands.mark_rule(strokeWidth=1.5), *layers]
    if chart.stops:
        crosses = plot(alt, [stop.to_json_dict() for stop in chart.stops]).mark_point(**_STOP_LOOK)
        layers.append(crosses.encode(x=x, y=y, color=looks["color"]))
    if chart.marks:
        places = [mark.to_json_dict() for mark in chart.marks]
        places = [row | {"name": chart.x_names[row["x"] - 1]} if chart.x_names else row for row in places]
        marked = plot(alt, places).encode(x=x)
        layers.append(marked.mark_rule(strokeDash=[4, 3]))
        layers.append(marked.mark_text(align="left", baseline="top", dx=4).encode(y=alt.value(0), text="text:N"))
    return alt.layer(*layers).properties(width=PLOT_WIDTH_PX + 100, height=HEIGHT_PX)


def _x_axis(alt: Altair, chart: LineChart) -> Drawing:
    if chart.x_names:
        return alt.X("name:N", title=chart.x_axis, sort=list(chart.x_names), axis=alt.Axis(grid=False, labelAngle=-40))
    values = sorted({point.x for point in chart.points} | {stop.x for stop in chart.stops})
    if not chart.doubling:
        return alt.X("x:Q", title=chart.x_axis, scale=alt.Scale(nice=False), axis=alt.Axis(grid=False, format="d"))
    scale = alt.Scale(type="log", base=2, domain=[values[0] * 0.9, values[-1] * 1.1], nice=False)
    return alt.X("x:Q", title=chart.x_axis, scale=scale, axis=alt.Axis(values=values, grid=False, format="d"))
