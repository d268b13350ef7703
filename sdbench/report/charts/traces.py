"""Readings over time, a panel per series below each other."""

from sdbench.report.chart_model import TraceChart
from sdbench.report.charts.encode import PLOT_WIDTH_PX, Altair, Drawing, machine_looks, plot
from sdbench.report.theme import css_variable

PANEL_HEIGHT_PX = 64
_BAND_OPACITY = 0.3


def draw(alt: Altair, chart: TraceChart) -> Drawing:
    """Return the drawing: per series the band from the lowest to the highest reading, and the medians as a line."""
    names = list(dict.fromkeys(point.series for point in chart.points))
    x_scale = alt.Scale(domain=[0, max(point.minute for point in chart.points)], nice=False)
    y_looks = {"scale": alt.Scale(zero=False, nice=True), "axis": alt.Axis(tickCount=3, format="~r")}
    colour = machine_looks(alt, chart.machines)["color"]
    panels = []
    for name in names:
        is_last = name == names[-1]
        title = "minutes since the run began" if is_last else None
        axis = alt.Axis(grid=False, labels=is_last, tickCount=8, format="~g")
        base = plot(alt, [point.to_json_dict() for point in chart.points if point.series == name])
        base = base.encode(x=alt.X("minute:Q", title=title, scale=x_scale, axis=axis), detail="launch:N", color=colour)
        band = base.mark_area(opacity=_BAND_OPACITY).encode(y=alt.Y("low:Q", title=None), y2="high:Q")
        line = base.mark_line(strokeWidth=1.5).encode(y=alt.Y("value:Q", title=None, **y_looks))
        heading = alt.Title(name, anchor="start", fontSize=12, color=css_variable("text"))
        panel = alt.layer(band, line, title=heading)
        panels.append(panel.properties(width=PLOT_WIDTH_PX + 100, height=PANEL_HEIGHT_PX))
    return alt.vconcat(*panels, spacing=12)
