"""Points or bars with whiskers, one row per experiment and machine, labelled with their values."""

from sdbench.report.chart_model import IntervalChart
from sdbench.report.charts import encode
from sdbench.report.charts.encode import Altair, Drawing, plot_rows
from sdbench.report.theme import css_variable


def draw(alt: Altair, chart: IntervalChart) -> Drawing:
    """Return the drawing: marks, then whiskers, then the values next to them."""
    rows = [mark.to_json_dict() | {"end": mark.value if mark.high is None else mark.high} for mark in chart.marks]
    ends = [row[name] for row in rows for name in ("end", "value", "low", "limit") if row[name] is not None]
    x = alt.X("value:Q", title=chart.axis_title, **encode.number_looks(alt, ends, log_scale=chart.log_scale))
    base = plot_rows(alt, chart.machines, rows)
    # Where every value names its machine, a legend would repeat it.
    legend = not all(mark.machine in mark.text for mark in chart.marks)
    looks = encode.machine_looks(alt, chart.machines, legend=legend)
    text_colour = alt.value(css_variable("text"))
    if chart.kind == "bars":
        whisker_colour = text_colour
        layers = [base.mark_bar(height={"band": 0.6}).encode(x=x, color=looks["color"])]
    else:
        whisker_colour = looks["color"]
        layers = [base.mark_point(filled=True, size=encode.POINT_SIZE_PX2).encode(x=x, **looks)]
    if with_interval := [row for row in rows if row["low"] is not None]:
        whiskers = plot_rows(alt, chart.machines, with_interval).mark_rule(strokeWidth=2)
        layers.append(whiskers.encode(x=alt.X("low:Q", title=chart.axis_title), x2="high:Q", color=whisker_colour))
    if open_rows := [row for row in rows if row["is_open"]]:
        ends_look = plot_rows(alt, chart.machines, open_rows).mark_point(**encode.OPEN_LOOK)
        layers.append(ends_look.encode(x=x, color=whisker_colour))
    text_x = alt.X("end:Q", title=chart.axis_title)
    for gap_px, is_open in ((encode.TEXT_GAP_PX, False), (encode.OPEN_GAP_PX, True)):
        if named := [row for row in rows if row["is_open"] == is_open]:
            words = plot_rows(alt, chart.machines, named).mark_text(align="left", dx=gap_px)
            layers.append(words.encode(x=text_x, text="text:N"))
    if limited := [row for row in rows if row["limit"] is not None]:
        ticks = plot_rows(alt, chart.machines, limited).mark_tick(thickness=3, size=encode.ROW_STEP_PX * 0.8)
        layers.append(ticks.encode(x=alt.X("limit:Q", title=chart.axis_title), color=text_colour))
    return alt.layer(*layers).properties(**encode.rows_size(alt))
