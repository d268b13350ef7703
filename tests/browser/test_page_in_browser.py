"""The page in a real browser: quiet, usable, readable on a phone, on paper and without scripts."""

import csv
import io
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, BrowserContext, Page
from pypdf import PdfReader

from sdbench.report.render import write_view
from tests.browser.conftest import DESK, PHONE, watch
from tests.browser.pages import ROWS_OF_A_LONG_PAGE
from tests.records import make_record, make_result, make_succeeded
from tests.report.test_report_first_screen import FULL_SIZE
from tests.report.test_report_pictures import view_with_pictures
from tests.report.untrusted import make_untrusted_view
from tests.views import build_view

pytestmark = pytest.mark.browser

ROWS_WITHOUT_SCRIPTS = 200
A4_PAGES = 7
CHART_TEXT_PX = 11


@pytest.fixture
def desk(browser: Browser) -> Iterator[BrowserContext]:
    context = browser.new_context(viewport=DESK, accept_downloads=True)
    yield context
    context.close()


@pytest.fixture
def phone(browser: Browser) -> Iterator[BrowserContext]:
    context = browser.new_context(viewport=PHONE, device_scale_factor=2)
    yield context
    context.close()


@pytest.mark.parametrize("name", ["rich", "long"])
def test_page_asks_for_nothing_says_nothing_and_keeps_its_policy(
    desk: BrowserContext, name: str, request: pytest.FixtureRequest
) -> None:
    watched = watch(desk, request.getfixturevalue(name))
    watched.page.wait_for_function("document.documentElement.dataset.ready === 'yes'")
    assert (watched.messages, watched.requests, watched.violations()) == ([], [], [])


CELLS = "rows => rows.map(row => [...row.cells].map(cell => cell.textContent).join('\\t'))"


def rows_of(page: Page) -> list[str]:
    return list(page.locator("#results tbody tr").evaluate_all(CELLS))


def test_results_are_filtered_sorted_paged_and_the_address_holds_the_view(desk: BrowserContext, long: Path) -> None:
    page = watch(desk, long).page
    assert len(rows_of(page)) == ROWS_WITHOUT_SCRIPTS
    page.click("[data-next]")
    page.click("[data-next]")
    assert len(rows_of(page)) == ROWS_OF_A_LONG_PAGE - 2 * ROWS_WITHOUT_SCRIPTS
    heads = page.locator("#results thead th button")
    latency = next(place for place in range(heads.count()) if "latency" in heads.nth(place).inner_text().lower())
    heads.nth(latency).click()
    shortest = rows_of(page)[0]
    heads.nth(latency).click()
    longest = rows_of(page)[0]
    assert shortest != longest
    assert page.locator("#results thead th").nth(latency).get_attribute("aria-sort") == "descending"
    name = longest.split("\t")[0]
    page.fill("[data-filter]", name)
    assert all(name in row for row in rows_of(page))
    shown = rows_of(page)
    again = watch(desk, long, page.evaluate("location.hash")).page
    assert rows_of(again) == shown
    assert again.input_value("[data-filter]") == name


def test_filter_without_a_match_says_so(desk: BrowserContext, long: Path) -> None:
    page = watch(desk, long).page
    page.fill("[data-filter]", "no such experiment")
    assert rows_of(page) == []
    assert "0 of 450 rows" in page.inner_text("[data-results] [data-status]")


def test_what_is_shown_can_be_saved_as_csv_and_json(desk: BrowserContext, long: Path) -> None:
    page = watch(desk, long).page
    with page.expect_download() as saved:
        page.click("[data-csv]")
    table = list(csv.reader(io.StringIO(Path(saved.value.path()).read_text(encoding="utf-8"))))
    assert len(table) == 1 + ROWS_OF_A_LONG_PAGE
    with page.expect_download() as saved:
        page.click("[data-json]")
    objects = json.loads(Path(saved.value.path()).read_text(encoding="utf-8"))
    assert list(objects[0]) == table[0]
    assert {"latency_s", "memory_bytes", "images_per_min"} <= set(table[0])
    assert isinstance(objects[0]["latency_s"], float)
    assert isinstance(objects[0]["memory_bytes"], int | float)
    texts = [["" if value is None else str(value).removesuffix(".0") for value in item.values()] for item in objects]
    assert texts == table[1:]


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t"])
def test_saved_cell_of_an_untrusted_record_is_no_formula(desk: BrowserContext, tmp_path: Path, start: str) -> None:
    view = make_untrusted_view(f"{start}HYPERLINK(1)")
    page = watch(desk, write_view(view, tmp_path / "page.html")).page
    with page.expect_download() as saved:
        page.click("[data-csv]")
    table = list(csv.reader(io.StringIO(Path(saved.value.path()).read_text(encoding="utf-8"))))
    cells = [cell for row in table[1:] for cell in row if "HYPERLINK" in cell]
    assert cells
    assert not [cell for cell in cells if cell[0] in "=+-@\t\r"]


def test_page_and_step_are_in_the_link(desk: BrowserContext, long: Path, rich: Path) -> None:
    page = watch(desk, long).page
    page.click("[data-next]")
    again = watch(desk, long, page.evaluate("location.hash")).page
    assert rows_of(again) == rows_of(page)
    assert "page 2 of 3" in (again.text_content("[data-results] [data-status]") or "")
    page = watch(desk, rich).page
    page.locator("[data-slider] input").first.fill("1")
    again = watch(desk, rich, page.evaluate("location.hash")).page
    assert again.locator("[data-slider] input").first.input_value() == "1"


def test_pairs_are_chosen_swapped_and_linked(desk: BrowserContext, rich: Path) -> None:
    page = watch(desk, rich).page
    shown = page.locator("details.pair:not([hidden])")
    assert shown.count() == 1
    first = shown.locator("> summary").inner_text()
    page.click("[data-swap]")
    swapped = shown.locator("> summary").inner_text()
    assert swapped.split(" compared with ") == first.split(" compared with ")[::-1]
    again = watch(desk, rich, page.evaluate("location.hash")).page
    assert again.locator("details.pair:not([hidden]) > summary").inner_text() == swapped
    page.select_option("[data-baseline]", page.input_value("[data-candidate]"))
    assert shown.count() == 0
    assert "not compared" in page.inner_text("[data-pairs] [data-status]")


def test_slider_shows_one_step_at_a_time(desk: BrowserContext, rich: Path) -> None:
    page = watch(desk, rich).page
    steps = page.locator("[data-series] [data-step]:not([hidden])")
    assert steps.count() == 1
    assert "denoiser call 2" in (steps.text_content() or "")
    page.locator("[data-slider] input").fill("1")
    assert "denoiser call 1" in (steps.text_content() or "")


@pytest.mark.parametrize(
    "fragment", ["#?sort=99z&compare=7-7-7", "#?compare=%00&sort=-1d", "#?filter=%3Cb%3E", "#?&&=="]
)
def test_an_address_of_nonsense_does_no_harm(desk: BrowserContext, rich: Path, fragment: str) -> None:
    watched = watch(desk, rich, fragment)
    watched.page.wait_for_function("document.documentElement.dataset.ready === 'yes'")
    assert watched.messages == []


def test_pictures_beside_the_page_load_under_its_policy(desk: BrowserContext, tmp_path: Path) -> None:
    watched = watch(desk, write_view(view_with_pictures(800), tmp_path / "page.html"))
    page = watched.page
    page.wait_for_function("[...document.images].every((image) => image.complete)")
    assert page.evaluate("[...document.images].filter((image) => !image.naturalWidth).length") == 0
    assert (watched.messages, watched.violations()) == ([], [])
    folder = (tmp_path / "page.files").as_uri()
    assert watched.requests
    assert all(url.startswith(folder) for url in watched.requests)


@pytest.mark.parametrize("name", ["rich", "long"])
@pytest.mark.parametrize("look", ["light", "dark", "phone", "without scripts"])
def test_axe_finds_nothing(browser: Browser, look: str, name: str, request: pytest.FixtureRequest) -> None:
    path: Path = request.getfixturevalue(name)
    if look == "without scripts":
        # Axe is a script itself, so it looks at the page with its own script taken out.
        text = re.sub(r"<script>.*?</script>", "", path.read_text(encoding="utf-8"), flags=re.DOTALL)
        path = path.with_name("without-scripts.html")
        path.write_text(text, encoding="utf-8")
    settings: dict[str, Any] = {"viewport": PHONE if look == "phone" else DESK}
    theme: Literal["dark", "light"] = "dark" if look == "dark" else "light"
    context = browser.new_context(color_scheme=theme, bypass_csp=True, **settings)
    page = watch(context, path).page
    # Axe skips what is folded or hidden.
    page.evaluate("for (const fold of document.querySelectorAll('details')) { fold.hidden = false; fold.open = true; }")
    result = Axe().run(page)
    context.close()
    assert result.response["passes"]
    problems = [f"{item['id']}: {item['nodes'][0]['html'][:200]}" for item in result.response["violations"]]
    assert problems == []


@pytest.mark.parametrize("name", ["rich", "long"])
def test_phone_needs_no_sideways_scroll_and_charts_are_legible(
    phone: BrowserContext, name: str, request: pytest.FixtureRequest
) -> None:
    page = watch(phone, request.getfixturevalue(name)).page
    assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
    page.evaluate("for (const fold of document.querySelectorAll('details')) { fold.hidden = false; fold.open = true; }")
    sizes_px = page.evaluate(
        """() => [...document.querySelectorAll(".chart svg")].filter((svg) => svg.checkVisibility()).flatMap((svg) => {
            const scale = svg.getBoundingClientRect().width / svg.viewBox.baseVal.width;
            return [...svg.querySelectorAll("text")].map((text) => parseFloat(getComputedStyle(text).fontSize) * scale);
        })"""
    )
    assert len(sizes_px) > page.locator(".chart svg").count() > 1
    assert min(sizes_px) >= CHART_TEXT_PX


@pytest.mark.parametrize("name", ["rich", "long"])
def test_page_is_laid_out_whole_so_that_a_picture_of_it_is(
    desk: BrowserContext, name: str, request: pytest.FixtureRequest
) -> None:
    page = watch(desk, request.getfixturevalue(name)).page
    styles = page.evaluate(
        "() => [...document.querySelectorAll('body *')].map((element) => getComputedStyle(element).contentVisibility)"
    )
    assert set(styles) == {"visible"}


def test_chart_of_machines_fits_a_phone_without_scrolling(phone: BrowserContext, tmp_path: Path) -> None:
    view = build_view((make_record(results=(make_result(make_succeeded(40.0, steps=1), steps=1, **FULL_SIZE),)),))
    page = watch(phone, write_view(view, tmp_path / "page.html")).page
    shown = page.locator(".chart[data-kind=answers]:visible")
    assert shown.count() == 1
    assert shown.evaluate("box => box.scrollWidth <= box.clientWidth")


def test_without_scripts_every_chart_and_the_first_rows_are_there(browser: Browser, rich: Path, long: Path) -> None:
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(long.as_uri())
    assert page.locator("#results tbody tr").count() == ROWS_WITHOUT_SCRIPTS
    assert page.locator("[data-results]").is_hidden()
    page.goto(rich.as_uri())
    assert page.locator(".chart svg").count() == len(re.findall("<svg", rich.read_text(encoding="utf-8")))
    closed = page.locator("details:not([open]) > summary:visible")
    while closed.count():
        closed.first.click()
    assert all(chart.is_visible() for chart in page.locator(".chart:not(.narrow) svg").all())
    assert page.locator("[data-step]").count() > 1
    assert all(step.is_visible() for step in page.locator("[data-step]").all())
    context.close()


@pytest.mark.parametrize("name", ["rich", "long"])
def test_print_is_short_and_strands_no_heading(
    desk: BrowserContext, name: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    page = watch(desk, request.getfixturevalue(name)).page
    headings = {text.strip() for text in page.locator("h2, h3, h4").all_inner_texts()}
    page.pdf(path=tmp_path / "page.pdf", prefer_css_page_size=True)
    pages = PdfReader(tmp_path / "page.pdf").pages
    assert len(pages) <= A4_PAGES
    for sheet in pages[:-1]:
        lines = [line.strip() for line in sheet.extract_text().replace("\ufb01", "fi").splitlines() if line.strip()]
        # A long heading is broken into lines: its last one would stand there.
        assert not [heading for heading in headings if heading.endswith(lines[-1])], lines[-1]
