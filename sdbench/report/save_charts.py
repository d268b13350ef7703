"""The page's charts as files of their own, for a blog or a talk: SVG and PNG in the light theme."""

import re
from collections.abc import Iterator
from pathlib import Path

from sdbench.errors import EnvironmentProblem
from sdbench.report.chart_model import Chart
from sdbench.report.charts import draw_chart
from sdbench.report.extra import report_extra
from sdbench.report.model import CompareSection, ReportView
from sdbench.report.theme import LIGHT
from sdbench.store.files import write_whole

_VARIABLE = re.compile(r"var\(--([a-z0-9-]+)\)")
# Twice the pixels of the page: sharp on today's screens.
_PNG_SCALE = 2.0


def save_charts(view: ReportView, folder: Path) -> tuple[Path, ...]:
    """Write every chart of the page as ``section-number.svg`` and ``.png`` into ``folder``, and return the paths.

    Raises:
        EnvironmentProblem: the ``report`` extra is not installed, or the folder is not writable.
    """
    with report_extra():
        import vl_convert
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise EnvironmentProblem(f"cannot write to {folder}: {error.strerror}; choose another --charts") from None
    paths = []
    for name, chart in _charts(view):
        svg = _VARIABLE.sub(lambda match: LIGHT[match[1]], draw_chart(chart))
        svg = svg.replace("<g ", f'<rect width="100%" height="100%" fill="{LIGHT["page"]}"/><g ', 1)
        png = vl_convert.svg_to_png(svg, scale=_PNG_SCALE)
        for ending, content in (("svg", svg.encode()), ("png", png)):
            path = folder / f"{name}.{ending}"
            write_whole(path, content)
            paths.append(path)
    return tuple(paths)


def _charts(view: ReportView) -> Iterator[tuple[str, Chart]]:
    for section in view.sections:
        charts = list(section.charts)
        if isinstance(section, CompareSection):
            charts += [pair.chart for pair in section.pairs if pair.chart is not None]
        for number, chart in enumerate(charts, start=1):
            yield f"{section.name}-{number}", chart
