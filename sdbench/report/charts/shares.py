"""Stacked bars of equal length: the parts of a whole."""

from sdbench.report.chart_model import ShareChart
from sdbench.report.charts.encode import Altair, Drawing, look, mark_variables, plot_rows, rows_size
from sdbench.report.theme import css_variable


def draw(alt: Altair, chart: ShareChart) -> Drawing:
    """Return the drawing: the bars, and what the whole is next to them."""
    order = {part: index for index, part in enumerate(chart.parts)}
    rows = [share.to_json_dict() | {"order": order[share.part], "one": 1} for share in chart.shares]
    colours = dict(zip(chart.parts, mark_variables(), strict=False))
    colour = look(alt.Color, "part", colours, alt.Legend(orient="top", symbolType="square"))
    x = alt.X(
        "ratio:Q",
        title="share of the call",
        stack="zero",
        axis=alt.Axis(format="%", tickCount=5),
        scale=alt.Scale(domain=[0, 1], nice=False),
    )
    bars = plot_rows(alt, chart.machines, rows).mark_bar(
        height={"band": 0.65}, stroke=css_variable("page"), strokeWidth=1
    )
    firsts = [row for row in rows if row["order"] == 0]
    wholes = plot_rows(alt, chart.machines, firsts).mark_text(align="left", dx=9)
    layers = (bars.encode(x=x, color=colour, order="order:Q"), wholes.encode(x=alt.X("one:Q"), text="whole:N"))
    return alt.layer(*layers).properties(**rows_size(alt))
