"""Readings over time, a panel per series below each other."""

from sdbench.report.chart_model import TraceChart
from sdbench.report.charts.encode import PLOT_WIDTH_PX, Altair, Drawing, machine_colour
from sdbench.report.theme import css_variable

PANEL_HEIGHT_PX = 64
_BAND_OPACITY = 0.3


def draw(alt: Altair, chart: TraceChart) -> Drawing:
    """Return the drawing: per series the band from the lowest to the highest reading, and the medians as a line."""
    names = list(dict.fromkeys(point.series for point in chart.points))
    end = max(point.minute for point in chart.points)
    panels = []
    for name in names:
        rows = [point.to_json_dict() for point in chart.points if point.series == name]
        is_last = name == names[-1]
        axis = alt.Axis(grid=False, labels=is_last, tickCount=8, format="~g")
        x = alt.X(
            "minute:Q",
            title="minutes since the run began" if is_last else None,
            scale=alt.Scale(domain=[0, end], nice=False),
            axis=axis,
        )
        scale, ticks = alt.Scale(zero=False, nice=True), alt.Axis(tickCount=3, format="~r")
        base = alt.Chart(
            alt.Data(values=rows), title=alt.Title(name, anchor="start", fontSize=12, color=css_variable("text"))
        ).encode(x=x, detail="launch:N", color=machine_colour(alt, chart.machines))
        band = base.mark_area(opacity=_BAND_OPACITY).encode(y=alt.Y("low:Q", title=None), y2="high:Q")
        line = base.mark_line(strokeWidth=1.5).encode(y=alt.Y("value:Q", title=None, scale=scale, axis=ticks))
        panels.append(alt.layer(band, line).properties(width=PLOT_WIDTH_PX + 100, height=PANEL_HEIGHT_PX))
    return alt.vconcat(*panels, spacing=12)
