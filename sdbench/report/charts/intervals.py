"""Points or bars with whiskers, one row per experiment and machine, labelled with their values."""

from sdbench.report.chart_model import IntervalChart
from sdbench.report.charts.encode import (
    POINT_SIZE_PX2,
    ROW_STEP_PX,
    Altair,
    Drawing,
    machine_colour,
    machine_shape,
    number_axis,
    number_scale,
    rows_drawing,
    rows_size,
)
from sdbench.report.theme import css_variable


def draw(alt: Altair, chart: IntervalChart) -> Drawing:
    """Return the drawing: marks, then whiskers, then the values beside them."""
    rows = [mark.to_json_dict() | {"end": mark.value if mark.high is None else mark.high} for mark in chart.marks]
    with_interval = [row for row in rows if row["low"] is not None]
    ends = [row[name] for row in rows for name in ("end", "value", "low", "limit") if row[name] is not None]
    x = alt.X(
        "value:Q",
        title=chart.axis,
        scale=number_scale(alt, ends, log_scale=chart.log_scale),
        axis=number_axis(alt, ends, log_scale=chart.log_scale),
    )
    base = rows_drawing(alt, chart.machines, rows)
    # Where every value says whose it is, a legend would say it again.
    legend = not all(mark.machine in mark.text for mark in chart.marks)
    colour = machine_colour(alt, chart.machines, legend=legend)
    whiskers = rows_drawing(alt, chart.machines, with_interval).mark_rule(strokeWidth=2)
    whiskers = whiskers.encode(x=alt.X("low:Q", title=chart.axis), x2="high:Q")
    values = base.mark_text(align="left", dx=9).encode(x=alt.X("end:Q", title=chart.axis), text="text:N")
    if chart.kind == "bars":
        marks = base.mark_bar(height={"band": 0.6}).encode(x=x, color=colour)
        whiskers = whiskers.encode(color=alt.value(css_variable("text")))
    else:
        points = base.mark_point(filled=True, size=POINT_SIZE_PX2)
        marks = points.encode(x=x, color=colour, shape=machine_shape(alt, chart.machines, legend=legend))
        whiskers = whiskers.encode(color=colour)
    limited = [row for row in rows if row["limit"] is not None]
    layers = [marks, *([whiskers] if with_interval else []), values]
    if limited:
        ticks = rows_drawing(alt, chart.machines, limited).mark_tick(thickness=3, size=ROW_STEP_PX * 0.8)
        layers.append(ticks.encode(x=alt.X("limit:Q", title=chart.axis), color=alt.value(css_variable("text"))))
    return alt.layer(*layers).properties(**rows_size(alt))
