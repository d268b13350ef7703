"""Charts of the view as SVG, drawn by Altair and vl-convert without a browser: colours are the page's CSS variables."""

from collections.abc import Callable
from typing import Any

from sdbench.errors import EnvironmentProblem
from sdbench.report.model import IntervalChart, LineChart, SampleChart, SampleMark, ShareChart
from sdbench.report.theme import MACHINE_MARKS, SHAPES, css_variable

AnyChart = IntervalChart | LineChart | ShareChart | SampleChart
# Altair is passed in by the one function that imports it; its classes are not checked (see pyproject.toml).
Altair = Any
Drawing = Any

ROW_STEP_PX = 22
SAMPLE_ROW_STEP_PX = 30
PLOT_WIDTH_PX = 460
LINE_HEIGHT_PX = 240
_FONT_SIZE_PX = 12
_POINT_SIZE_PX2 = 55
_SAMPLE_SIZE_PX2 = 16
# A log axis has no zero: these leave room for the outermost whiskers.
_LOG_ROOM_LOW, _LOG_ROOM_HIGH = 0.8, 1.15
_LINEAR_ROOM = 1.05


def draw_chart(chart: AnyChart) -> str:
    """Return a chart as an SVG element.

    Raises:
        EnvironmentProblem: the ``report`` extra is not installed.
    """
    try:
        import altair as alt
        import vl_convert
    except ImportError as error:
        msg = f"a report needs {error.name!r}, which is not installed; install the extra: pip install 'sdbench[report]'"
        raise EnvironmentProblem(msg) from None
    draw = _DRAW_BY_KIND[chart.kind]
    drawing = draw(alt, chart).configure(**_configuration())
    return str(vl_convert.vegalite_to_svg(drawing.to_json(), allowed_base_urls=[]))


def _configuration() -> dict[str, Any]:
    """The look of every chart. Marks say nothing to a screen reader one by one: the chart has one label as a whole."""
    muted, rule, text = css_variable("muted"), css_variable("rule"), css_variable("text")
    plain = {"labelColor": text, "titleColor": muted, "labelFontSize": _FONT_SIZE_PX, "titleFontSize": _FONT_SIZE_PX}
    axis = plain | {"gridColor": rule, "domain": False, "ticks": False, "titleFontWeight": "normal", "labelLimit": 0}
    return {
        "aria": False,
        "background": "transparent",
        "font": "DejaVu Sans, Verdana, sans-serif",
        "view": {"stroke": None},
        "axis": axis | {"labelPadding": 6},
        "legend": plain | {"title": None, "labelLimit": 0, "symbolOpacity": 1, "symbolStrokeWidth": 0},
        "text": {"fill": text, "fontSize": _FONT_SIZE_PX},
        "point": {"opacity": 1},
        "bar": {"opacity": 1},
    }


def _draw_intervals(alt: Altair, chart: IntervalChart) -> Drawing:
    rows = [mark.to_json_dict() | {"end": mark.value if mark.high is None else mark.high} for mark in chart.marks]
    with_interval = [row for row in rows if row["low"] is not None]
    ends = [row["end"] for row in rows] + [row["low"] for row in with_interval] + [row["value"] for row in rows]
    axis = alt.X(
        "value:Q", title=chart.axis, scale=_scale(alt, ends, log_scale=chart.log_scale), axis=_number_axis(alt)
    )
    base = _by_row(alt, chart, rows)
    colour = _machine_colour(alt, chart.machines)
    whiskers = _by_row(alt, chart, with_interval).mark_rule(strokeWidth=2).encode(x=axis, x2="high:Q")
    whiskers = whiskers.encode(x=alt.X("low:Q", title=chart.axis))
    labels = base.mark_text(align="left", dx=9).encode(x=alt.X("end:Q", title=chart.axis), text="text:N")
    if chart.kind == "bars":
        values = base.mark_bar(height={"band": 0.6}).encode(x=axis, color=colour)
        whiskers = whiskers.encode(color=alt.value(css_variable("text")))
    else:
        values = base.mark_point(filled=True, size=_POINT_SIZE_PX2).encode(
            x=axis, color=colour, shape=_machine_shape(alt, chart.machines)
        )
        whiskers = whiskers.encode(color=colour)
    layers = (values, whiskers, labels) if with_interval else (values, labels)
    return alt.layer(*layers).properties(width=PLOT_WIDTH_PX, height=alt.Step(ROW_STEP_PX))


def _draw_lines(alt: Altair, chart: LineChart) -> Drawing:
    rows = [point.to_json_dict() for point in chart.points]
    names = list(dict.fromkeys(row["line"] for row in rows))
    batches = sorted({row["batch"] for row in rows})
    ends = [row[key] for row in rows for key in ("value", "low", "high") if row[key] is not None]
    x = alt.X(
        "batch:Q",
        title="batch size",
        scale=alt.Scale(type="log", base=2, domain=[batches[0] * 0.9, batches[-1] * 1.1], nice=False),
        axis=alt.Axis(values=batches, grid=False, format="d"),
    )
    y = alt.Y("value:Q", title=chart.axis, scale=_scale(alt, ends, log_scale=chart.log_scale), axis=_number_axis(alt))
    legend = alt.Legend(orient="top", columns=2)
    colour = alt.Color(
        "line:N", sort=None, legend=legend, scale=alt.Scale(domain=names, range=_cycle(_mark_variables(), len(names)))
    )
    shape = alt.Shape(
        "line:N", sort=None, legend=legend, scale=alt.Scale(domain=names, range=_cycle(SHAPES, len(names)))
    )
    base = alt.Chart(alt.Data(values=rows)).encode(x=x, y=y, color=colour)
    whisker_rows = alt.Data(values=[row for row in rows if row["low"] is not None])
    whiskers = (
        alt.Chart(whisker_rows)
        .mark_rule(strokeWidth=1.5)
        .encode(x=x, y=alt.Y("low:Q", title=chart.axis), y2="high:Q", color=colour)
    )
    points = base.mark_point(filled=True, size=_POINT_SIZE_PX2).encode(shape=shape)
    return alt.layer(base.mark_line(strokeWidth=1.5), whiskers, points).properties(
        width=PLOT_WIDTH_PX + 160, height=LINE_HEIGHT_PX
    )


def _draw_shares(alt: Altair, chart: ShareChart) -> Drawing:
    order = {part: index for index, part in enumerate(chart.parts)}
    rows = [share.to_json_dict() | {"order": order[share.part], "one": 1} for share in chart.shares]
    colour = alt.Color(
        "part:N",
        sort=None,
        legend=alt.Legend(orient="top", symbolType="square"),
        scale=alt.Scale(domain=list(chart.parts), range=_mark_variables()[: len(chart.parts)]),
    )
    axis = alt.Axis(format="%", tickCount=5)
    scale = alt.Scale(domain=[0, 1], nice=False)
    bars = (
        _by_row(alt, chart, rows)
        .mark_bar(height={"band": 0.65}, stroke=css_variable("page"), strokeWidth=1)
        .encode(
            x=alt.X("ratio:Q", title="share of the call", stack="zero", axis=axis, scale=scale),
            color=colour,
            order="order:Q",
        )
    )
    firsts = [row for row in rows if row["order"] == 0]
    wholes = _by_row(alt, chart, firsts).mark_text(align="left", dx=9).encode(x=alt.X("one:Q"), text="whole:N")
    return alt.layer(bars, wholes).properties(width=PLOT_WIDTH_PX, height=alt.Step(ROW_STEP_PX))


def _draw_samples(alt: Altair, chart: SampleChart) -> Drawing:
    lanes = _lanes(chart.marks)
    rows = [mark.to_json_dict() | {"lane": lanes[_lane_key(mark)]} for mark in chart.marks]
    labels = list(dict.fromkeys(row["label"] for row in rows))
    ratios = [row["ratio"] for row in rows]
    scale = alt.Scale(
        type="log" if chart.log_scale else "linear",
        zero=False,
        nice=True,
        domain=[min(ratios) * 0.98, max(ratios) * 1.02],
    )
    colour = _machine_colour(alt, chart.machines)
    looks = {
        "steady": {"filled": True, "shape": "circle"},
        "warm-up": {"filled": False, "shape": "triangle-up", "strokeWidth": 1.2},
        "throttled": {"filled": False, "shape": "cross", "strokeWidth": 1.2},
    }
    layers = [
        alt.Chart(alt.Data(values=members))
        .mark_point(size=_SAMPLE_SIZE_PX2 * (1 if kind == "steady" else 2), **looks[kind])
        .encode(
            x=alt.X("ratio:Q", title=chart.axis, scale=scale, axis=_number_axis(alt)),
            y=alt.Y(
                "label:N",
                title=None,
                sort=None,
                scale=alt.Scale(domain=labels),
                axis=alt.Axis(grid=True, bandPosition=0),
            ),
            yOffset=alt.YOffset("lane:Q", scale=alt.Scale(domain=[0, 1])),
            color=colour,
        )
        for kind in looks
        if (members := [row for row in rows if row["kind"] == kind])
    ]
    return alt.layer(*layers).properties(
        width=PLOT_WIDTH_PX, height=alt.Step(SAMPLE_ROW_STEP_PX, **{"for": "position"})
    )


def _lane_key(mark: SampleMark) -> tuple[str, str, int]:
    return (mark.label, mark.machine, mark.launch)


def _lanes(marks: tuple[SampleMark, ...]) -> dict[tuple[str, str, int], float]:
    """The height (ratio of its row) at which each launch's samples lie."""
    launches: dict[str, list[tuple[str, str, int]]] = {}
    for key in dict.fromkeys(map(_lane_key, marks)):
        launches.setdefault(key[0], []).append(key)
    return {key: (position + 1) / (len(keys) + 1) for keys in launches.values() for position, key in enumerate(keys)}


def _by_row(alt: Altair, chart: IntervalChart | ShareChart, rows: list[dict[str, Any]]) -> Drawing:
    """A chart with one row per experiment; several machines lie beside each other within it."""
    drawing = alt.Chart(alt.Data(values=rows)).encode(y=alt.Y("label:N", title=None, sort=None))
    if len(chart.machines) > 1:
        drawing = drawing.encode(yOffset=alt.YOffset("machine:N", sort=list(chart.machines)))
    return drawing


def _scale(alt: Altair, ends: list[float], *, log_scale: bool) -> Drawing:
    if log_scale:
        return alt.Scale(type="log", domain=[min(ends) * _LOG_ROOM_LOW, max(ends) * _LOG_ROOM_HIGH], nice=False)
    return alt.Scale(type="linear", domain=[0, max(ends) * _LINEAR_ROOM], nice=False)


def _number_axis(alt: Altair) -> Drawing:
    return alt.Axis(format="~g", tickCount=6)


def _machine_colour(alt: Altair, machines: tuple[str, ...]) -> Drawing:
    if len(machines) == 1:
        return alt.value(css_variable(MACHINE_MARKS[0]))
    scale = alt.Scale(domain=list(machines), range=_cycle(_mark_variables(), len(machines)))
    return alt.Color("machine:N", sort=None, scale=scale, legend=alt.Legend(orient="top", columns=2))


def _machine_shape(alt: Altair, machines: tuple[str, ...]) -> Drawing:
    if len(machines) == 1:
        return alt.value(SHAPES[0])
    scale = alt.Scale(domain=list(machines), range=_cycle(SHAPES, len(machines)))
    return alt.Shape("machine:N", sort=None, scale=scale, legend=alt.Legend(orient="top", columns=2))


def _mark_variables() -> list[str]:
    return [css_variable(name) for name in MACHINE_MARKS]


def _cycle(items: tuple[str, ...] | list[str], count: int) -> list[str]:
    return [items[index % len(items)] for index in range(count)]


_DRAW_BY_KIND: dict[str, Callable[[Altair, Any], Drawing]] = {
    "points": _draw_intervals,
    "bars": _draw_intervals,
    "lines": _draw_lines,
    "shares": _draw_shares,
    "samples": _draw_samples,
}
