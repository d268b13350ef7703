"""Charts of the view as SVG, drawn by Altair and vl-convert without a browser: colours are the page's CSS variables.

One module per chart, each with ``draw(altair, chart)``; a new chart is one file and one line in ``CHARTS``.
"""

from importlib import import_module
from typing import Any

from sdbench.report.chart_model import Chart
from sdbench.report.extra import report_extra
from sdbench.report.theme import css_variable

CHARTS = {
    "points": "sdbench.report.charts.intervals",
    "bars": "sdbench.report.charts.intervals",
    "answers": "sdbench.report.charts.answers",
    "lines": "sdbench.report.charts.lines",
    "shares": "sdbench.report.charts.shares",
    "samples": "sdbench.report.charts.samples",
    "traces": "sdbench.report.charts.traces",
    "ratios": "sdbench.report.charts.ratios",
    "changes": "sdbench.report.charts.changes",
    "roofline": "sdbench.report.charts.roofline",
}
IS_CHECKED = False
_FONT_SIZE_PX = 12


def draw_chart(chart: Chart, *, narrow: bool = False) -> str:
    """Return a chart as an SVG element; ``narrow`` for a phone, which charts of answers have a drawing for.

    Raises:
        EnvironmentProblem: the ``report`` extra is not installed.
    """
    with report_extra():
        import altair as alt
        import vl_convert
        from altair.utils.schemapi import debug_mode
    # Altair's own check of every part against Vega-Lite's schema takes two thirds of the time; the tests have it on.
    with debug_mode(IS_CHECKED):
        module = import_module(CHARTS[chart.kind])
        drawing = (module.draw_narrow if narrow else module.draw)(alt, chart).configure(**_configuration())
        specification = drawing.to_json(validate=IS_CHECKED)
    return str(vl_convert.vegalite_to_svg(specification, allowed_base_urls=[]))


def _configuration() -> dict[str, Any]:
    """The look of every chart. Single marks mean nothing to a screen reader: the chart has one label as a whole."""
    muted, rule, text = css_variable("muted"), css_variable("rule"), css_variable("text")
    plain = {"labelColor": text, "titleColor": muted, "labelFontSize": _FONT_SIZE_PX, "titleFontSize": _FONT_SIZE_PX}
    axis = {"gridColor": rule, "domain": False, "ticks": False, "titleFontWeight": "normal", "labelPadding": 6}
    return {
        "aria": False,
        "background": "transparent",
        # The page's own fonts: widths are measured here, and a wider font there would cut the labels.
        "font": "DejaVu Sans, Verdana, sans-serif",
        "view": {"stroke": None},
        "axis": plain | axis | {"labelLimit": 0, "titlePadding": 8},
        "legend": plain | {"title": None, "labelLimit": 0, "symbolOpacity": 1, "symbolStrokeWidth": 0},
        "text": {"fill": text, "fontSize": _FONT_SIZE_PX},
        "point": {"opacity": 1},
        "bar": {"opacity": 1},
    }
