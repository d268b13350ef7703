"""Bars to both directions of zero: what each operator adds to a difference, and below them the whole."""

from sdbench.report.chart_model import ChangeChart
from sdbench.report.charts.encode import ROW_STEP_PX, TEXT_GAP_PX, Altair, Drawing, look, plot
from sdbench.report.theme import css_variable

_WIDTH_PX = 320
# The colours of the verdicts slower and faster; the direction of a bar says the same.
_COLOURS = {"longer": "mark-4", "shorter": "mark-1", "whole": "mark-6"}


def draw(alt: Altair, chart: ChangeChart) -> Drawing:
    """Return the drawing: the bars, and what each is, in words, next to them."""
    rows = [mark.to_json_dict() | {"zero": 0, "end": max(mark.value, 0)} for mark in chart.marks]
    colour = look(alt.Color, "kind", {kind: css_variable(name) for kind, name in _COLOURS.items()})
    y = alt.Y("label:N", title=None, sort=None)
    x = alt.X("value:Q", title=chart.axis, axis=alt.Axis(format="+~g", tickCount=5, grid=False))
    base = plot(alt, rows).encode(y=y)
    layers = [
        base.mark_bar(height={"band": 0.62}).encode(x=x, x2="zero:Q", color=colour),
        plot(alt, [{"zero": 0}]).mark_rule(color=css_variable("muted")).encode(x=alt.X("zero:Q", title=chart.axis)),
        base.mark_text(align="left", dx=TEXT_GAP_PX).encode(x=alt.X("end:Q", title=chart.axis), text="text:N"),
    ]
    return alt.layer(*layers).properties(width=_WIDTH_PX, height=alt.Step(ROW_STEP_PX))
