"""The view as one HTML file that needs nothing else: strict content policy, no script, no network."""

import base64
import hashlib
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

from sdbench.errors import EnvironmentProblem
from sdbench.report.charts import draw_chart
from sdbench.report.model import ReportView
from sdbench.report.points import Images, Telemetry
from sdbench.report.prices import NO_PRICES, Prices
from sdbench.report.theme import DARK, LIGHT, css_declarations
from sdbench.report.view import build_view
from sdbench.schema.record import Record
from sdbench.store.files import write_whole

if TYPE_CHECKING:
    import jinja2

TEMPLATE_FOLDER = "templates"
PAGE_TEMPLATE = "page.html.j2"
STYLESHEET = "report.css"


def write_report(
    records: Sequence[Record],
    path: Path,
    telemetry: Telemetry | None = None,
    images: Images | None = None,
    prices: Prices = NO_PRICES,
) -> Path:
    """Write the report of one or more records to ``path``, whole or not at all, and return the path.

    Args:
        records: in the order in which their machines are shown.
        path: the HTML file; an older one is replaced.
        telemetry: per run id, the telemetry of each launch: (experiment id, launch index, series).
        images: per run id and path within the bundle, the bytes of the images.
        prices: what the machines cost.

    Raises:
        UserError: there is no record, the same one twice, or the prices' names fit no machine.
        EnvironmentProblem: the ``report`` extra is not installed, or the file cannot be written.
    """
    write_whole(path, render_report(build_view(records, telemetry, images, prices)).encode())
    return path


def render_report(view: ReportView) -> str:
    """Return the page as HTML text.

    Raises:
        EnvironmentProblem: the ``report`` extra is not installed.
    """
    environment = _make_environment()
    style = make_stylesheet()
    text: str = environment.get_template(PAGE_TEMPLATE).render(
        view=view, style=environment.filters["markup"](style), policy=_policy(style)
    )
    return text


def make_stylesheet() -> str:
    """Return the page's CSS with the colours of both themes."""
    light, dark = css_declarations(LIGHT), css_declarations(DARK)
    variables = (
        f":root {{ color-scheme: light dark; {light} }}\n"
        f"@media screen and (prefers-color-scheme: dark) {{ :root {{ {dark} }} }}\n"
    )
    return variables + resources.files("sdbench.report").joinpath(TEMPLATE_FOLDER, STYLESHEET).read_text(
        encoding="utf-8"
    )


def _policy(style: str) -> str:
    """The content security policy: nothing may load but images inside the file and this very stylesheet."""
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    return f"default-src 'none'; img-src data:; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"


def _make_environment() -> "jinja2.Environment":
    try:
        import jinja2
        import markupsafe
    except ImportError as error:
        msg = f"a report needs {error.name!r}, which is not installed; install the extra: pip install 'sdbench[report]'"
        raise EnvironmentProblem(msg) from None
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("sdbench.report", TEMPLATE_FOLDER),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    # Only our own stylesheet and the SVG that vl-convert has escaped go in unescaped.
    environment.filters["markup"] = markupsafe.Markup
    environment.filters["draw"] = lambda chart: markupsafe.Markup(draw_chart(chart))  # noqa: S704 - escaped by vl-convert
    return environment
