"""The section about versions: what changed at each step, in the table and on the chart."""

from pathlib import Path

from sdbench.report.chart_model import LineChart
from sdbench.report.render import write_view
from tests.compare.test_comparison import run_of
from tests.compare.test_trends import with_package
from tests.report.inputs import column, find_section
from tests.views import build_view

VERSIONS = [("1.0", 1.0, "1.0"), ("2.0", 1.0, "1.0"), ("3.0", 1.2, "2.0")]
RECORDS = tuple(
    with_package(run_of(latency_s * pace, day=3 * number + session, driver=driver), package)
    for number, (driver, latency_s, package) in enumerate(VERSIONS)
    for session, pace in enumerate((1.0, 1.003, 0.997), start=1)
)


def test_step_that_is_slower_is_marked_with_what_else_changed_there(tmp_path: Path) -> None:
    view = build_view(RECORDS)
    section = find_section(view, "trend")
    chart = next(chart for chart in section.charts if isinstance(chart, LineChart) and chart.x_axis.endswith("driver"))
    assert [(mark.x, mark.text) for mark in chart.marks] == [(3, "also xformers")]
    (table,) = section.tables
    assert column(table, "Also changed there") == ["—", "software.packages.xformers 1.0 -> 2.0"]
    page = write_view(view, tmp_path / "page.html").read_text(encoding="utf-8")
    assert "also xformers" in page
