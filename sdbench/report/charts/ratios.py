"""Ratios around 1: the margin as a band, a dot with its interval per experiment, its verdict as a word next to it."""

from math import log10

from sdbench.report.chart_model import RatioChart
from sdbench.report.charts.encode import OPEN_LOOK, POINT_SIZE_PX2, ROW_STEP_PX, Altair, Drawing, log_ticks, look, plot
from sdbench.report.theme import css_variable

_WIDTH_PX = 420
_DOT_SIZE_PX2 = 1.5 * POINT_SIZE_PX2
_SHAPES = {"slower": "triangle-up", "faster": "triangle-down", "same": "circle", "inconclusive": "diamond"}
_COLOURS = {"slower": "mark-4", "faster": "mark-1", "same": "mark-6", "inconclusive": "mark-2"}
_ROOM = 0.04
# From here on the axis is one of factors: 2, 5, 10.
_FACTOR_AXIS_FROM = 2.0
# Wider than this an interval is cut off at the frame: it would press all others together.
_WIDEST = 3.0


def draw(alt: Altair, chart: RatioChart) -> Drawing:
    """Return the drawing: the band and the line of no change, then intervals, dots and words."""
    low_end, high_end = _frame(chart)
    edge = 1 + chart.margin
    rows, cut, opened = [], [], []
    for mark in chart.marks:
        low, high = (mark.ratio if end is None else end for end in (mark.low, mark.high))
        row = {"label": mark.label, "verdict": mark.verdict}
        shown = min(max(mark.ratio, low_end), high_end)
        ends = {"shown": shown, "from": max(low, low_end), "to": min(high, high_end), "end": high_end}
        rows.append(row | ends | {"text": mark.text})
        opened += [row | {"shown": shown}] if mark.is_open else []
        cut += [row | {"shown": low_end, "angle": 270}] if low < low_end else []
        cut += [row | {"shown": high_end, "angle": 90}] if high > high_end else []
    colour = look(alt.Color, "verdict", {verdict: css_variable(name) for verdict, name in _COLOURS.items()})
    shape = look(alt.Shape, "verdict", _SHAPES)
    scale = alt.Scale(type="log", domain=[low_end, high_end], nice=False)
    axis = alt.Axis(format="~g", values=_ticks(low_end, high_end), grid=False)
    x = alt.X("shown:Q", title=chart.axis, scale=scale, axis=axis)
    y = alt.Y("label:N", title=None, sort=None)
    band = plot(alt, [{"shown": max(1 / edge, low_end), "to": min(edge, high_end)}])
    base = plot(alt, rows).encode(y=y)
    arrows = plot(alt, cut).mark_point(shape="triangle", filled=True, size=_DOT_SIZE_PX2)
    rule_x, text_x = (alt.X(f"{field}:Q", title=chart.axis, scale=scale) for field in ("from", "end"))
    layers = [
        band.mark_rect(color=css_variable("rule")).encode(x=x, x2="to:Q"),
        plot(alt, [{"shown": 1}]).mark_rule(strokeDash=[3, 3], color=css_variable("muted")).encode(x=x),
        base.mark_rule(strokeWidth=2).encode(x=rule_x, x2="to:Q", color=colour),
        base.mark_point(filled=True, size=_DOT_SIZE_PX2).encode(x=x, color=colour, shape=shape),
        arrows.encode(x=x, y=y, color=colour, angle=alt.Angle("angle:Q", scale=None)),
        plot(alt, opened).mark_point(**OPEN_LOOK).encode(x=x, y=y, color=colour),
        base.mark_text(align="left", dx=12).encode(x=text_x, text="text:N"),
    ]
    return alt.layer(*layers).properties(width=_WIDTH_PX, height=alt.Step(ROW_STEP_PX))


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
    if high / low > _FACTOR_AXIS_FROM:
        return log_ticks(low, high)
    step = next(step for step in (0.005, 0.01, 0.02, 0.05, 0.1, 0.2) if (high - low) / step <= 8)  # noqa: PLR2004
    return [round(1 + step * number, 3) for number in range(-200, 201) if low <= 1 + step * number <= high]
