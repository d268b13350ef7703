"""The view as one HTML file that needs nothing else: strict content policy, one script, no network."""

import base64
import hashlib
import json
import urllib.parse
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sdbench.report.charts import draw_chart
from sdbench.report.charts.compact import compact_svg
from sdbench.report.extra import report_extra
from sdbench.report.model import Cell, Column, EmbeddedImage, ReportView, SiteView
from sdbench.report.theme import DARK, LIGHT
from sdbench.store.files import write_whole

if TYPE_CHECKING:
    import jinja2
    import markupsafe

TEMPLATE_FOLDER = "templates"
# A page with more pictures than these bytes keeps the others in a folder next to it.
_EMBEDDED_BYTES_MAX = 3 * 1024**2
_FILE_NAME_DIGITS = 16
_POLICY_MARK = "content-security-policy-of-this-page"
_CONTENTS_MARK = "what-this-page-is-made-of"


def write_view(view: ReportView, path: Path, home: str | None = None) -> Path:
    """Write the page to ``path``, whole or not at all, and return the path; ``home`` is the site's index seen from it.

    Raises:
        EnvironmentProblem: the ``report`` extra is not installed, or the file cannot be written.
    """
    shelf = _Shelf(f"{path.stem}.files")
    environment = _make_environment(shelf)
    style, script = make_stylesheet(), _read_text("report.js")
    page = environment.get_template("page.html.j2")
    # Policy and contents depend on the pictures, which come between them.
    body = page.render(view=view, style=style, script=script, policy=_POLICY_MARK, contents=_CONTENTS_MARK, home=home)
    head, rest = body.split(_POLICY_MARK, 1)
    rest, tail = rest.rsplit(_CONTENTS_MARK, 1)
    contents = "This file has everything inside it"
    if shelf.files:
        contents += f" but {len(shelf.files)} pictures, which are in the folder next to it"
    for name, content in shelf.files.items():
        write_whole(path.parent / name, content)
    policy = _policy(style, script, has_files=bool(shelf.files))
    write_whole(path, f"{head}{policy}{rest}{contents}.{tail}".encode())
    return path


@dataclass
class _Shelf:
    """Where pictures go: into the page, and when that has enough into a folder next to it."""

    folder: str
    embedded_bytes: int = 0
    files: dict[str, bytes] = field(default_factory=dict)

    def address(self, picture: EmbeddedImage) -> str:
        """Return the URL that shows a picture: a data URI, or the relative one of a file named after its hash."""
        content = base64.b64decode(picture.webp_base64)
        if self.embedded_bytes + len(content) <= _EMBEDDED_BYTES_MAX:
            self.embedded_bytes += len(content)
            return f"data:image/webp;base64,{picture.webp_base64}"
        name = f"{self.folder}/{hashlib.sha256(content).hexdigest()[:_FILE_NAME_DIGITS]}.webp"
        self.files[name] = content
        return urllib.parse.quote(name)


def render_site(view: SiteView) -> str:
    """Return a site's index as HTML text; it has no script.

    Raises:
        EnvironmentProblem: the ``report`` extra is not installed.
    """
    style = make_stylesheet()
    site = _make_environment(_Shelf("")).get_template("site.html.j2")
    return site.render(view=view, style=style, policy=_policy(style, ""))


def make_stylesheet() -> str:
    """Return the page's CSS with the colours of both themes."""
    light, dark = (" ".join(f"--{name}: {value};" for name, value in theme.items()) for theme in (LIGHT, DARK))
    variables = (
        f":root {{ color-scheme: light dark; {light} }}\n"
        f"@media screen and (prefers-color-scheme: dark) {{ :root {{ {dark} }} }}\n"
    )
    return variables + _read_text("report.css")


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


def _make_environment(shelf: _Shelf) -> "jinja2.Environment":
    with report_extra():
        import jinja2
        import markupsafe
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("sdbench.report", TEMPLATE_FOLDER),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["address"] = shelf.address
    # Only our own style and script, JSON with its own escapes, and the SVG that vl-convert has escaped go in unescaped.
    environment.filters["own"] = markupsafe.Markup
    environment.filters["island"] = lambda value: markupsafe.Markup(_to_island(value))  # noqa: S704 - escaped as JSON
    environment.filters["draw"] = lambda chart, narrow=False: markupsafe.Markup(  # noqa: S704 - escaped by vl-convert
        compact_svg(draw_chart(chart, narrow=narrow))
    )
    environment.filters["classes"] = _class_attribute
    return environment


def _class_attribute(cell: Cell, column: Column) -> "markupsafe.Markup":
    """The class attribute of a cell, none for a plain one: a page of many results has tens of thousands of cells."""
    import markupsafe

    classes = ([cell.tone] if cell.tone != "plain" else []) + (["number"] if column.numeric else [])
    return markupsafe.Markup(' class="{}"').format(" ".join(classes)) if classes else markupsafe.Markup()
