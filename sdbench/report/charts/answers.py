"""A row per machine: what one image takes there. This page's machines are blue, published results grey."""

from collections.abc import Iterator
from math import log10
from typing import Any

from sdbench.report.chart_model import AnswerChart
from sdbench.report.charts import encode
from sdbench.report.charts.encode import Altair, Drawing, Row, plot
from sdbench.report.theme import css_variable

_WIDTH_PX, _ROW_PX = 300, 25
# Remarks end so far right of the plot: between them is room for the value of the slowest machine.
_REMARK_PX = 275
# On a phone the words are above the marks, and all of it 350 px wide.
_NARROW_WIDTH_PX, _NARROW_END_PX, _NARROW_ROW_PX, _BELOW_PX = 255, 345, 42, 9
_TICKS = 7
_DOT_SIZE_PX2 = 80
# What is not measured here is hollow: a projection, or a single number of others.
_LOOKS: dict[str, Row] = {
    "measured": {"filled": True, "fill": css_variable("mark-1"), "stroke": css_variable("mark-1")},
    "projected": {"filled": False, "fill": css_variable("page"), "stroke": css_variable("mark-1"), "strokeWidth": 2},
    "reference": {"filled": True, "fill": css_variable("bar-muted"), "stroke": css_variable("mark-muted")},
}
_DASHED = {"reference": [3, 2], "projected": [5, 2]}


def draw(alt: Altair, chart: AnswerChart) -> Drawing:
    """Return the drawing: bars from zero or points on a log scale, whiskers, values, and remarks at the right."""
    rows = _rows(chart)
    y = alt.Y("label:N", title=None, sort=None)
    layers = list(_marks(alt, chart, rows, y, 0.62))
    for gap_px, is_open in ((encode.TEXT_GAP_PX, False), (encode.OPEN_GAP_PX, True)):
        if named := [row for row in rows if row["is_open"] == is_open]:
            words = plot(alt, named).mark_text(align="left", dx=gap_px)
            layers.append(words.encode(x=alt.X("end:Q", title=chart.axis_title), y=y, text="text:N"))
    layers.append(_words(alt, rows, "remark", _WIDTH_PX + _REMARK_PX, color=css_variable("muted")).encode(y=y))
    return alt.layer(*layers).properties(width=_WIDTH_PX, height=alt.Step(_ROW_PX))


def draw_narrow(alt: Altair, chart: AnswerChart) -> Drawing:
    """Return the drawing for a phone: name and value above the mark, the remark at its right."""
    rows = _rows(chart)
    y = alt.Y("label:N", title=None, sort=None, axis=None)
    layers = [
        *_marks(alt, chart, rows, y, 0.28, yOffset=_BELOW_PX),
        _words(alt, rows, "label", 0, align="left", dy=-_BELOW_PX).encode(y=y),
        _words(alt, rows, "text", _NARROW_END_PX, dy=-_BELOW_PX).encode(y=y),
        _words(alt, rows, "remark", _NARROW_END_PX, dy=_BELOW_PX, color=css_variable("muted")).encode(y=y),
    ]
    return alt.layer(*layers).properties(width=_NARROW_WIDTH_PX, height=alt.Step(_NARROW_ROW_PX))


def _rows(chart: AnswerChart) -> list[Row]:
    return [mark.to_json_dict() | {"end": mark.value if mark.high is None else mark.high} for mark in chart.marks]


def _words(alt: Altair, rows: list[Row], field: str, x_px: int, align: str = "right", **look: Any) -> Drawing:
    return plot(alt, rows).mark_text(align=align, **look).encode(x=alt.value(x_px), text=f"{field}:N")


def _marks(
    alt: Altair, chart: AnswerChart, rows: list[Row], y: Drawing, band: float, **shift: int
) -> Iterator[Drawing]:
    """The marks with their whiskers; on a log scale with a thin line from the name to the point."""
    ends = [row[name] for row in rows for name in ("end", "value", "low") if row[name] is not None]
    looks = encode.number_looks(alt, ends, log_scale=chart.log_scale)
    title = chart.axis_title
    x = alt.X("value:Q", title=title, **looks)
    if chart.log_scale:
        looks["axis"].values = _thin_ticks(looks["axis"].values)
        stems = plot(alt, [row | {"start": looks["scale"].domain[0]} for row in rows])
        stem_x = alt.X("start:Q", title=title, **looks)
        yield stems.mark_rule(color=css_variable("rule"), **shift).encode(x=stem_x, x2="value:Q", y=y)
    for role, look in _LOOKS.items():
        if of_role := [row for row in rows if row["role"] == role]:
            drawing = plot(alt, of_role)
            if chart.log_scale:
                yield drawing.mark_point(size=_DOT_SIZE_PX2, **look, **shift).encode(x=x, y=y)
            else:
                yield _bars(drawing, role, look, band, **shift).encode(x=x, y=y)
    text_colour = css_variable("text")
    if with_interval := [row for row in rows if row["low"] is not None]:
        whiskers = plot(alt, with_interval).mark_rule(strokeWidth=2, color=text_colour, **shift)
        yield whiskers.encode(x=alt.X("low:Q", title=title), x2="high:Q", y=y)
    if open_rows := [row for row in rows if row["is_open"]]:
        yield plot(alt, open_rows).mark_point(stroke=text_colour, **encode.OPEN_LOOK, **shift).encode(x=x, y=y)


def _thin_ticks(ticks: list[float]) -> list[float]:
    """At most so many ticks as have room: of more, the powers of ten."""
    powers = [tick for tick in ticks if log10(tick).is_integer()]
    return ticks if len(ticks) <= _TICKS or len(powers) < 2 else powers  # noqa: PLR2004 - one tick is no scale


def _bars(drawing: Drawing, role: str, look: Row, band: float, **shift: int) -> Drawing:
    outline = {"stroke": look["stroke"], "strokeWidth": 1.5}
    dashes = {"strokeDash": _DASHED[role]} if role in _DASHED else {}
    return drawing.mark_bar(height={"band": band}, fill=look["fill"], **outline, **dashes, **shift)
