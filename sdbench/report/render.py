"""The view as one HTML file that needs nothing else: strict content policy, one script, no network."""

import base64
import hashlib
import json
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sdbench.errors import EnvironmentProblem
from sdbench.report.charts import draw_chart
from sdbench.report.charts.compact import compact_svg
from sdbench.report.model import Cell, Column, ReportView, SiteView
from sdbench.report.points import Images, Telemetry
from sdbench.report.prices import NO_PRICES, Prices
from sdbench.report.theme import DARK, LIGHT, css_declarations
from sdbench.report.view import build_view
from sdbench.schema.record import Record
from sdbench.store.files import write_whole

if TYPE_CHECKING:
    import jinja2
    import markupsafe

TEMPLATE_FOLDER = "templates"
PAGE_TEMPLATE = "page.html.j2"
SITE_TEMPLATE = "site.html.j2"
STYLESHEET = "report.css"
SCRIPT = "report.js"


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
    return write_view(build_view(records, telemetry, images, prices), path)


def write_view(view: ReportView, path: Path) -> Path:
    """Write the page to ``path``, whole or not at all, and return the path.

    Raises:
        EnvironmentProblem: the ``report`` extra is not installed, or the file cannot be written.
    """
    write_whole(path, render_report(view).encode())
    return path


def render_report(view: ReportView) -> str:
    """Return the page as HTML text.

    Raises:
        EnvironmentProblem: the ``report`` extra is not installed.
    """
    environment = _make_environment()
    style, script = make_stylesheet(), _read_text(SCRIPT)
    markup = environment.filters["markup"]
    text: str = environment.get_template(PAGE_TEMPLATE).render(
        view=view, style=markup(style), script=markup(script), policy=_policy(style, script)
    )
    return text


def render_site(view: SiteView) -> str:
    """Return a site's index as HTML text; it has no script.

    Raises:
        EnvironmentProblem: the ``report`` extra is not installed.
    """
    environment = _make_environment()
    style = make_stylesheet()
    text: str = environment.get_template(SITE_TEMPLATE).render(
        view=view, style=environment.filters["markup"](style), policy=_policy(style, "")
    )
    return text


def make_stylesheet() -> str:
    """Return the page's CSS with the colours of both themes."""
    light, dark = css_declarations(LIGHT), css_declarations(DARK)
    variables = (
        f":root {{ color-scheme: light dark; {light} }}\n"
        f"@media screen and (prefers-color-scheme: dark) {{ :root {{ {dark} }} }}\n"
    )
    return variables + _read_text(STYLESHEET)


def _read_text(name: str) -> str:
    return resources.files("sdbench.report").joinpath(TEMPLATE_FOLDER, name).read_text(encoding="utf-8")


def _policy(style: str, script: str) -> str:
    """The content security policy: nothing may load or run but images inside the file, this style and this script."""
    style_hash, script_hash = (
        base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in (style, script)
    )
    return (
        f"default-src 'none'; img-src data:; style-src 'sha256-{style_hash}'; script-src 'sha256-{script_hash}'; "
        "base-uri 'none'; form-action 'none'"
    )


def _to_island(value: Any) -> str:
    """Return JSON that cannot end its script element, nor be taken for a comment or a line's end within it."""
    text = json.dumps(value, default=lambda model: model.to_json_dict(), separators=(",", ":"), ensure_ascii=False)
    return text.translate({ord(char): f"\\u{ord(char):04x}" for char in "<>&\u2028\u2029"})


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
    # Only our own style and script, JSON with its own escapes, and the SVG that vl-convert has escaped go in unescaped.
    environment.filters["markup"] = markupsafe.Markup
    environment.filters["island"] = lambda value: markupsafe.Markup(_to_island(value))  # noqa: S704 - escaped as JSON
    environment.filters["draw"] = lambda chart: markupsafe.Markup(compact_svg(draw_chart(chart)))  # noqa: S704 - escaped by vl-convert
    environment.filters["classes"] = _class_attribute
    return environment


def _class_attribute(cell: Cell, column: Column) -> "markupsafe.Markup":
    """The class attribute of a cell, none for a plain one: a page of many results has tens of thousands of cells."""
    import markupsafe

    classes = ([cell.tone] if cell.tone != "plain" else []) + (["number"] if column.numeric else [])
    return markupsafe.Markup(' class="{}"').format(" ".join(classes)) if classes else markupsafe.Markup()
