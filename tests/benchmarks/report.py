"""What the report costs: its size, the time and memory to make it, and how fast it is in a browser."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from importlib import import_module
from pathlib import Path

from sdbench.schema.outcome import Succeeded
from sdbench.schema.record import Record
from tests.benchmarks.bars import Bar, at_most
from tests.records import make_launch, make_record, make_result

FEW, MANY = 400, 10_000
LAUNCHES = 3
FEW_KIB, MANY_KIB, RENDER_S, RENDER_MB = 300.0, 1536.0, 3.0, 500.0
READY_MS, USE_MS, PAGES = 500.0, 200.0, 6
REPEATS = 5


def measure_report() -> list[Bar]:
    """Return sizes, times and memory of pages of 400 and 10,000 results, and the pages that one prints on."""
    with tempfile.TemporaryDirectory() as name:
        few, many = Path(name) / "few.html", Path(name) / "many.html"
        _make_in_a_process(few, FEW)
        cost = _make_in_a_process(many, MANY)
        bars = [
            at_most(f"report, {FEW} rows: size", few.stat().st_size / 1024, FEW_KIB, "KiB"),
            at_most(f"report, {MANY:,} rows: size", many.stat().st_size / 1024, MANY_KIB, "KiB"),
            at_most(f"report, {MANY:,} rows: from the view to HTML", cost["render_s"], RENDER_S, "s"),
            Bar(f"report, {MANY:,} rows: from the record to the view", f"{cost['view_s']:.3g} s"),
            at_most(f"report, {MANY:,} rows: peak memory over that of the record", cost["added_mb"], RENDER_MB, "MB"),
            Bar(f"report, {MANY:,} rows: peak memory with the record", f"{cost['peak_mb']:.3g} MB"),
        ]
        return bars + _measure_in_browser(many)


def _make_in_a_process(path: Path, count: int) -> dict[str, float]:
    """Write a page of ``count`` results in a fresh process, and return the cost that it printed."""
    command = [sys.executable, "-m", "tests.benchmarks.report", str(path), str(count)]
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=os.environ | {"PYTHONPATH": "."})
    cost: dict[str, float] = json.loads(done.stdout)
    return cost


def make_large_record(count: int) -> Record:
    """Return a record of ``count`` results of three launches."""
    results = tuple(
        make_result(
            Succeeded(
                launches=tuple(make_launch(index, 1 + seed / count) for index in range(LAUNCHES)), stop_reason="budget"
            ),
            seed=seed,
        )
        for seed in range(count)
    )
    return make_record(results=results)


def _write_page(path: Path, count: int) -> dict[str, float]:
    """Write a page and return CPU times (s) and memory (MB)."""
    from sdbench.report.render import write_view
    from tests.views import build_view

    # What loads once is not a cost of a page.
    for name in ("altair", "jinja2", "vl_convert"):
        import_module(name)
    record = make_large_record(count)
    # Forget the peak that making the record had.
    Path("/proc/self/clear_refs").write_text("5")
    before_mb = _peak_mb()
    started_s = time.process_time()
    view = build_view((record,))
    viewed_s = time.process_time()
    write_view(view, path)
    return {
        "view_s": viewed_s - started_s,
        "render_s": time.process_time() - viewed_s,
        "added_mb": _peak_mb() - before_mb,
        "peak_mb": _peak_mb(),
    }


def _peak_mb() -> float:
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) * 1024 / 1e6


def _measure_in_browser(path: Path) -> list[Bar]:
    """Return how long Chromium takes until a page is ready, to sort and to filter (ms, medians), and printed pages."""
    from statistics import median

    chromium = shutil.which("chromium")
    if chromium is None:
        return [Bar("report in a browser", "no Chromium here")]
    from playwright.sync_api import sync_playwright
    from pypdf import PdfReader

    from sdbench.report.render import write_view
    from tests.browser.conftest import ARGUMENTS
    from tests.browser.pages import make_rich_view

    ready, sort, chosen = [], [], []
    printed = path.with_name("printed.pdf")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=list(ARGUMENTS))
        for _ in range(REPEATS):
            page = browser.new_page(viewport={"width": 1280, "height": 900})
            page.goto(path.as_uri())
            ready.append(page.evaluate("performance.getEntriesByType('navigation')[0].domContentLoadedEventEnd"))
            sort.append(page.evaluate(_TIMED % "document.querySelectorAll('#results thead th button')[2].click()"))
            chosen.append(page.evaluate(_TIMED % _FILTER))
            page.close()
        page = browser.new_page()
        page.goto(write_view(make_rich_view(), path.with_name("rich.html")).as_uri())
        page.pdf(path=printed, prefer_css_page_size=True)
        browser.close()
    pages = len(PdfReader(printed).pages)
    return [
        at_most(f"report, {MANY:,} rows: ready in Chromium", median(ready), READY_MS, "ms"),
        at_most(f"report, {MANY:,} rows: sort", median(sort), USE_MS, "ms"),
        at_most(f"report, {MANY:,} rows: filter", median(chosen), USE_MS, "ms"),
        Bar("report of four runs: printed", f"{pages} A4 pages", f"at most {PAGES}", pages <= PAGES),
    ]


# Until the browser has laid the rows out again, not only until the script has returned.
_TIMED = "() => { const start = performance.now(); %s; document.body.offsetHeight; return performance.now() - start; }"
_FILTER = (
    "const filter = document.querySelector('[data-filter]'); filter.value = 'batch 1'; "
    "filter.dispatchEvent(new Event('input'))"
)


if __name__ == "__main__":
    sys.stdout.write(json.dumps(_write_page(Path(sys.argv[1]), int(sys.argv[2]))))
