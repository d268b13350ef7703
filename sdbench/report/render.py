"""The view as one HTML file that needs nothing else: strict content policy, one script, no network."""

import base64
import hashlib
import json
import urllib.parse
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sdbench.errors import EnvironmentProblem
from sdbench.report.charts import draw_chart
from sdbench.report.charts.compact import compact_svg
from sdbench.report.model import Cell, Column, Picture, ReportView, SiteView
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
# A page with more pictures than these bytes keeps the others in a folder beside it.
_EMBEDDED_BYTES_MAX = 3 * 1024**2
_FILE_NAME_DIGITS = 16
_POLICY_MARK = "content-security-policy-of-this-page"
_CONTENTS_MARK = "what-this-page-is-made-of"


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


def write_view(view: ReportView, path: Path, home: str | None = None) -> Path:
    """Write the page to ``path``, whole or not at all, and return the path; ``home`` is the site's index seen from it.

    Raises:
        EnvironmentProblem: the ``report`` extra is not installed, or the file cannot be written.
    """
    shelf = _Shelf(f"{path.stem}.files")
    text = _render_page(view, shelf, home)
    for name, content in shelf.files.items():
        write_whole(path.parent / name, content)
    write_whole(path, text.encode())
    return path


def render_report(view: ReportView) -> str:
    """Return the page as HTML text, every picture inside it.

    Raises:
        EnvironmentProblem: the ``report`` extra is not installed.
    """
    return _render_page(view, _Shelf(None), None)


@dataclass
class _Shelf:
    """Where pictures go: into the page, and when that has enough into a folder beside it, if one may be made."""

    folder: str | None
    embedded_bytes: int = 0
    files: dict[str, bytes] = field(default_factory=dict)

    def address(self, picture: Picture) -> str:
        """Return the URL that shows a picture: a data URI, or the relative one of a file named after its hash."""
        content = base64.b64decode(picture.webp_base64)
        if self.folder is None or self.embedded_bytes + len(content) <= _EMBEDDED_BYTES_MAX:
            self.embedded_bytes += len(content)
            return f"data:image/webp;base64,{picture.webp_base64}"
        name = f"{self.folder}/{hashlib.sha256(content).hexdigest()[:_FILE_NAME_DIGITS]}.webp"
        self.files[name] = content
        return urllib.parse.quote(name)


def _render_page(view: ReportView, shelf: _Shelf, home: str | None) -> str:
    environment = _make_environment()
    environment.filters["address"] = shelf.address
    style, script = make_stylesheet(), _read_text(SCRIPT)
    page = environment.get_template(PAGE_TEMPLATE)
    # Policy and contents say what the pictures, whichever come in between, turn out to need.
    body: str = page.render(
        view=view,
        style=_own(style),
        script=_own(script),
        policy=_POLICY_MARK,
        contents=_CONTENTS_MARK,
        home=home,
    )
    head, rest = body.split(_POLICY_MARK, 1)
    rest, tail = rest.rsplit(_CONTENTS_MARK, 1)
    return f"{head}{_policy(style, script, has_files=bool(shelf.files))}{rest}{_contents(shelf)}{tail}"


def _contents(shelf: _Shelf) -> str:
    if not shelf.files:
        return "This file has everything inside it."
    return f"This file has everything inside it but {len(shelf.files)} pictures, which are in the folder beside it."


def _own(text: str) -> "markupsafe.Markup":
    """Our own style or script, which goes in as it is."""
    import markupsafe

    return markupsafe.Markup(text)  # noqa: S704 - no text of a record


def render_site(view: SiteView) -> str:
    """Return a site's index as HTML text; it has no script.

    Raises:
        EnvironmentProblem: the ``report`` extra is not installed.
    """
    environment = _make_environment()
    style = make_stylesheet()
    text: str = environment.get_template(SITE_TEMPLATE).render(view=view, style=_own(style), policy=_policy(style, ""))
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


def _policy(style: str, script: str, *, has_files: bool = False) -> str:
    """The content security policy: nothing may load or run but images inside the file, this style and this script.

    With ``has_files`` images from the page's own place may load too: its folder of pictures.
    """
    style_hash, script_hash = (
        base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in (style, script)
    )
    pictures = " 'self' file:" if has_files else ""
    return (
        f"default-src 'none'; img-src data:{pictures}; style-src 'sha256-{style_hash}'; "
        f"script-src 'sha256-{script_hash}'; base-uri 'none'; form-action 'none'"
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
    environment.filters["island"] = lambda value: markupsafe.Markup(_to_island(value))  # noqa: S704 - escaped as JSON
    environment.filters["draw"] = lambda chart: markupsafe.Markup(compact_svg(draw_chart(chart)))  # noqa: S704 - escaped by vl-convert
    environment.filters["classes"] = _class_attribute
    return environment


def _class_attribute(cell: Cell, column: Column) -> "markupsafe.Markup":
    """The class attribute of a cell, none for a plain one: a page of many results has tens of thousands of cells."""
    import markupsafe

    classes = ([cell.tone] if cell.tone != "plain" else []) + (["number"] if column.numeric else [])
    return markupsafe.Markup(' class="{}"').format(" ".join(classes)) if classes else markupsafe.Markup()
