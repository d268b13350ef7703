"""Ratios around 1: the margin as a band, a dot with its interval per experiment, its verdict as a word beside it."""

from math import log10
from typing import Any

from sdbench.report.chart_model import DrawnVerdict, RatioChart
from sdbench.report.charts.encode import POINT_SIZE_PX2, ROW_STEP_PX, Altair, Drawing
from sdbench.report.theme import css_variable

_WIDTH_PX = 420
_SHAPES: dict[DrawnVerdict, str] = {
    "slower": "triangle-up",
    "faster": "triangle-down",
    "same": "circle",
    "inconclusive": "diamond",
}
_COLOURS: dict[DrawnVerdict, str] = {
    "slower": "mark-4",
    "faster": "mark-1",
    "same": "mark-6",
    "inconclusive": "mark-2",
}
_ROOM = 0.04
# From here on the axis is one of factors: 2, 5, 10.
_FACTOR_AXIS_FROM = 2.0
# Wider than this an interval is cut off at the frame: it would press all others together.
_WIDEST = 3.0


def draw(alt: Altair, chart: RatioChart) -> Drawing:
    """Return the drawing: the band and the line of no change, then intervals, dots and words."""
    low_end, high_end = _frame(chart)
    edge = 1 + chart.margin
    rows = [
        mark.to_json_dict()
        | {
            "shown": min(max(mark.ratio, low_end), high_end),
            "from": max(mark.low if mark.low is not None else mark.ratio, low_end),
            "to": min(mark.high if mark.high is not None else mark.ratio, high_end),
            "end": high_end,
        }
        for mark in chart.marks
    ]
    scale = alt.Scale(type="log", domain=[low_end, high_end], nice=False)
    axis = alt.Axis(format="~g", values=_ticks(low_end, high_end), grid=False)
    x = alt.X("shown:Q", title=chart.axis, scale=scale, axis=axis)
    band = alt.Chart(alt.Data(values=[{"shown": max(1 / edge, low_end), "to": min(edge, high_end)}]))
    line = alt.Chart(alt.Data(values=[{"shown": 1}]))
    base = alt.Chart(alt.Data(values=rows)).encode(y=alt.Y("label:N", title=None, sort=None))
    colour = alt.Color("verdict:N", scale=_scale(alt, {k: css_variable(v) for k, v in _COLOURS.items()}), legend=None)
    shape = alt.Shape("verdict:N", scale=_scale(alt, _SHAPES), legend=None)
    cut = [
        {"label": row["label"], "verdict": row["verdict"], "shown": end, "angle": angle}
        for row in rows
        for end, angle, beyond in (
            (low_end, 270, row["low"] is not None and row["low"] < low_end),
            (high_end, 90, row["high"] is not None and row["high"] > high_end),
        )
        if beyond
    ]
    arrows = alt.Chart(alt.Data(values=cut)).mark_point(shape="triangle", filled=True, size=1.5 * POINT_SIZE_PX2)
    layers = [
        band.mark_rect(color=css_variable("rule")).encode(x=x, x2="to:Q"),
        line.mark_rule(strokeDash=[3, 3], color=css_variable("muted")).encode(x=x),
        base.mark_rule(strokeWidth=2).encode(x=alt.X("from:Q", title=chart.axis, scale=scale), x2="to:Q", color=colour),
        base.mark_point(filled=True, size=1.5 * POINT_SIZE_PX2).encode(x=x, color=colour, shape=shape),
        arrows.encode(
            x=x, y=alt.Y("label:N", title=None, sort=None), color=colour, angle=alt.Angle("angle:Q", scale=None)
        ),
        base.mark_text(align="left", dx=12).encode(x=alt.X("end:Q", title=chart.axis, scale=scale), text="text:N"),
    ]
    return alt.layer(*layers).properties(width=_WIDTH_PX, height=alt.Step(ROW_STEP_PX))


def _scale(alt: Altair, looks: dict[Any, str]) -> Drawing:
    return alt.Scale(domain=list(looks), range=list(looks.values()))


def _frame(chart: RatioChart) -> tuple[float, float]:
    """The ends of the axis: all dots and the margin; intervals as far as they do not press all others together."""
    dots = [mark.ratio for mark in chart.marks]
    ends = [end for mark in chart.marks for end in (mark.low, mark.high) if end is not None]
    edge = (1 + chart.margin) ** 2
    most, least = max([*dots, edge]) * _WIDEST, min([*dots, 1 / edge]) / _WIDEST
    high = max([edge, *dots, *(min(end, most) for end in ends)])
    low = min([1 / edge, *dots, *(max(end, least) for end in ends)])
    room = _ROOM * log10(high / low)
    return low / 10**room, high * 10**room


def _ticks(low: float, high: float) -> list[float]:
    """Round numbers on both sides of 1."""
    if high / low > _FACTOR_AXIS_FROM:
        ticks = [factor * 10.0**power for power in range(-6, 7) for factor in (1, 2, 5)]
        return [tick for tick in ticks if low <= tick <= high]
    step = next(step for step in (0.005, 0.01, 0.02, 0.05, 0.1, 0.2) if (high - low) / step <= 8)  # noqa: PLR2004
    return [round(1 + step * number, 3) for number in range(-200, 201) if low <= 1 + step * number <= high]
