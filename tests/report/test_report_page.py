import base64
import hashlib
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from sdbench.errors import EnvironmentProblem
from sdbench.report import charts
from sdbench.report.charts import draw_chart
from sdbench.report.sections import CHAPTERS
from sdbench.schema.outcome import RecordWarning
from sdbench.schema.warning_codes import WarningCode
from tests.records import (
    make_environment,
    make_failed,
    make_launch,
    make_manifest,
    make_record,
    make_result,
    make_skipped,
    make_succeeded,
)
from tests.report.inputs import make_full_record, make_images, make_record_without_successes, make_telemetry
from tests.views import build_view, render_report, write_report

SCRIPT = "<script>alert(1)</script>"
HOSTILE = f"{SCRIPT}<a href=https://evil.example>x</a>\"'><img src=x onerror=alert(1)>"


class Page(HTMLParser):
    """The elements of a page with their attributes, and the texts of its style elements."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.styles: list[str] = []
        self.scripts: list[str] = []
        self._in_style = False
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}))
        self._in_style = tag == "style"
        if tag == "script":
            self.scripts.append("")

    def handle_data(self, data: str) -> None:
        if self.cdata_elem == "script":
            self.scripts[-1] += data
        if self._in_style:
            self.styles.append(data)
            self._in_style = False

    def all(self, tag: str) -> list[dict[str, str]]:
        return [attributes for name, attributes in self.elements if name == tag]


@pytest.fixture(scope="module")
def full_text() -> str:
    cpu, cuda = make_full_record(), make_record(device="cuda:0")
    return render_report(build_view((cpu, cuda), make_telemetry(cpu), make_images(cpu)))


@pytest.fixture(scope="module")
def full_page(full_text: str) -> Page:
    return Page(full_text)


SECTIONS = {name for _, names in CHAPTERS.values() for name in names}
# All chapters but the study's, which has no claims here, and that of pictures, which compares nothing here.
SHOWN = set(CHAPTERS) - {"study", "pictures"}


def places_of(page: Page) -> set[str]:
    """The names of the sections that are on a page, those that only give the reason why they are empty among them."""
    named = [*page.all("section"), *page.all("dt")]
    return {element["id"] for element in named} - {"absent"}


def test_the_answers_stand_on_the_page(full_text: str) -> None:
    for question in ("Which machine?", "Can I trust this?", "Can I repeat it?"):
        assert f"<h3>{question}</h3>" in full_text


def test_page_loads_nothing_from_outside(full_page: Page) -> None:
    for tag, attributes in full_page.elements:
        for name in ("src", "href", "action", "data", "poster", "srcset", "background"):
            value = attributes.get(name)
            assert value is None or value.startswith(("#", "data:image/")), (tag, name, value)
        assert tag not in {"link", "iframe", "object", "embed", "base", "form"}
    assert "url(" not in full_page.styles[0]
    assert "@import" not in full_page.styles[0]


def test_page_has_one_script_and_no_inline_style(full_page: Page) -> None:
    assert [script.get("type") for script in full_page.all("script")] == ["application/json", None]
    for tag, attributes in full_page.elements:
        assert "style" not in attributes, tag
        assert not [name for name in attributes if name.startswith("on")], tag


def test_policy_allows_this_very_stylesheet_and_nothing_else(full_page: Page) -> None:
    (policy,) = [
        meta["content"] for meta in full_page.all("meta") if meta.get("http-equiv") == "Content-Security-Policy"
    ]
    (style,) = full_page.styles
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    script = base64.b64encode(hashlib.sha256(full_page.scripts[-1].encode()).digest()).decode()
    assert policy.split("; ") == [
        "default-src 'none'",
        "img-src data:",
        f"style-src 'sha256-{digest}'",
        f"script-src 'sha256-{script}'",
        "base-uri 'none'",
        "form-action 'none'",
    ]  # fmt: skip


def test_charts_and_texts_take_their_colours_from_the_theme(full_text: str) -> None:
    without_theme = re.sub(r":root \{[^}]*\}", "", full_text)
    assert not re.findall(r"#[0-9a-fA-F]{6}\b|#[0-9a-fA-F]{3}\b(?=[;\"\s])", without_theme)
    assert not re.findall(r'(?:fill|stroke)="(?!none|var\(--)[^"]*"', without_theme)


def test_page_is_announced_to_screen_readers_and_phones(full_page: Page) -> None:
    assert full_page.all("html")[0]["lang"] == "en"
    assert any("width=device-width" in meta.get("content", "") for meta in full_page.all("meta"))
    assert all(element["scope"] in {"col", "row"} for element in full_page.all("th"))
    assert len(full_page.all("caption")) == len(full_page.all("table"))
    assert all(image["alt"] for image in full_page.all("img"))
    charts = [element for element in full_page.all("div") if "chart" in element.get("class", "").split()]
    assert len(charts) == len(full_page.all("svg")) == 14
    assert all(chart["role"] == "img" and len(chart["aria-label"]) > 30 for chart in charts)


def test_every_section_is_on_the_page_and_linked(full_page: Page) -> None:
    assert places_of(full_page) == SECTIONS | SHOWN
    links = {link["href"] for link in full_page.all("a")}
    assert {f"#{name}" for name in SHOWN} <= links


def test_ids_of_the_page_are_unique(full_page: Page) -> None:
    ids = [attributes["id"] for _, attributes in full_page.elements if "id" in attributes]
    assert len(ids) == len(set(ids))


def test_every_section_renders_without_any_success() -> None:
    page = Page(render_report(build_view((make_record_without_successes(),))))
    assert places_of(page) >= SECTIONS
    assert not page.all("svg")


def test_record_without_experiments_renders() -> None:
    page = Page(render_report(build_view((make_record(results=()),))))
    assert places_of(page) >= SECTIONS


def test_hostile_texts_come_out_inert() -> None:
    launches: dict[str, Any] = {"environment": make_environment(device_name=HOSTILE, backend_version=HOSTILE)}
    record = make_record(
        manifest=make_manifest(title=HOSTILE),
        results=(
            make_result(make_succeeded(**launches), backend=HOSTILE, prompt=HOSTILE),
            make_result(make_succeeded(**launches), backend=HOSTILE, prompt=HOSTILE, batch=2),
            make_result(make_failed(message=HOSTILE, stderr_tail=HOSTILE, partial=(make_launch(),)), batch=4),
            make_result(make_skipped(reason=HOSTILE, hint=HOSTILE), batch=8),
        ),
        warnings=(RecordWarning(code=WarningCode.STEAL, message=HOSTILE, hint=HOSTILE),),
    )
    text = render_report(build_view((record, make_record(device="cuda:0"))))
    page = Page(text)
    assert SCRIPT not in text
    assert text.count("&lt;script&gt;alert(1)&lt;/script&gt;") > 10
    assert len(page.all("script")) == 2
    assert "<" not in page.scripts[0]
    assert not page.all("img")
    assert all(link["href"].startswith("#") for link in page.all("a"))


def test_report_is_written_whole(tmp_path: Path) -> None:
    path = tmp_path / "new folder" / "report.html"
    assert write_report((make_record_without_successes(),), path) == path
    assert path.read_text(encoding="utf-8").rstrip().endswith("</html>")
    assert [child.name for child in path.parent.iterdir()] == ["report.html"]


def test_report_that_cannot_be_written_is_a_problem_of_the_environment(tmp_path: Path) -> None:
    occupied = tmp_path / "file"
    occupied.write_text("kept")
    with pytest.raises(EnvironmentProblem, match="cannot write"):
        write_report((make_record_without_successes(),), occupied / "report.html")
    assert occupied.read_text() == "kept"


@pytest.mark.parametrize("missing", ["jinja2", "altair", "vl_convert"])
def test_missing_library_names_the_extra(missing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(EnvironmentProblem, match=rf"'{missing}'.*sdbench\[report\]"):
        render_report(build_view((make_record(results=(make_result(),)),)))


def test_building_the_view_imports_no_chart_library_and_no_torch() -> None:
    code = (
        "import sys; from tests.records import make_record; from sdbench.report import render;"
        "from tests.views import build_view;"
        "build_view((make_record(),));"
        "print(sorted({'torch', 'altair', 'jinja2', 'vl_convert', 'diffusers'} & set(sys.modules)))"
    )
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_every_chart_is_valid_vega_lite(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(charts, "IS_CHECKED", True)
    cpu = make_full_record()
    view = build_view((cpu, make_record(device="cuda:0")), make_telemetry(cpu))
    drawn = [draw_chart(chart) for section in view.sections for chart in section.charts]
    assert len(drawn) > 5
    assert all(svg.startswith("<svg") for svg in drawn)
