"""Lines over a whole number, with whiskers."""

from sdbench.report.chart_model import LineChart
from sdbench.report.charts.encode import (
    PLOT_WIDTH_PX,
    POINT_SIZE_PX2,
    Altair,
    Drawing,
    line_colour,
    line_shape,
    number_axis,
    number_scale,
)

HEIGHT_PX = 240


def draw(alt: Altair, chart: LineChart) -> Drawing:
    """Return the drawing: lines, then whiskers, then points."""
    rows = [point.to_json_dict() for point in chart.points]
    if chart.x_names:
        rows = [row | {"name": chart.x_names[row["x"] - 1]} for row in rows]
    with_interval = [row for row in rows if row["low"] is not None]
    names = tuple(dict.fromkeys(row["line"] for row in rows))
    ends = [row[key] for row in rows for key in ("value", "low", "high") if row[key] is not None]
    x = _x_axis(alt, chart)
    y = alt.Y(
        "value:Q",
        title=chart.axis,
        scale=number_scale(alt, ends, log_scale=chart.log_scale)
        if chart.from_zero
        else alt.Scale(zero=False, nice=True),
        axis=number_axis(alt, ends, log_scale=chart.log_scale),
    )
    colour = line_colour(alt, names)
    base = alt.Chart(alt.Data(values=rows)).encode(x=x, y=y, color=colour)
    layers = [base.mark_line(strokeWidth=1.5)]
    if with_interval:
        whiskers = alt.Chart(alt.Data(values=with_interval)).mark_rule(strokeWidth=1.5)
        layers.append(whiskers.encode(x=x, y=alt.Y("low:Q", title=chart.axis), y2="high:Q", color=colour))
    layers.append(base.mark_point(filled=True, size=POINT_SIZE_PX2).encode(shape=line_shape(alt, names)))
    return alt.layer(*layers).properties(width=PLOT_WIDTH_PX + 100, height=HEIGHT_PX)


def _x_axis(alt: Altair, chart: LineChart) -> Drawing:
    if chart.x_names:
        return alt.X("name:N", title=chart.x_axis, sort=list(chart.x_names), axis=alt.Axis(grid=False, labelAngle=-40))
    values = sorted({point.x for point in chart.points})
    if not chart.doubling:
        return alt.X("x:Q", title=chart.x_axis, scale=alt.Scale(nice=False), axis=alt.Axis(grid=False, format="d"))
    scale = alt.Scale(type="log", base=2, domain=[values[0] * 0.9, values[-1] * 1.1], nice=False)
    return alt.X("x:Q", title=chart.x_axis, scale=scale, axis=alt.Axis(values=values, grid=False, format="d"))
