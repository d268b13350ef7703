"""Pages of untrusted input' records in a real browser, with the content policy on and without it."""

from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import Browser

from sdbench.report.render import write_view
from tests.browser.conftest import DESK, Watched, watch
from tests.report.untrusted import PAYLOADS, SCRIPT_MUTANTS, make_untrusted_view, use_mutant

pytestmark = pytest.mark.browser

TOUCH = """
for (const fold of document.querySelectorAll("details")) fold.open = true;
for (const button of document.querySelectorAll("#results thead th button, [data-swap]")) button.click();
const filter = document.querySelector("[data-filter]");
filter.value = "a";
filter.dispatchEvent(new Event("input"));
for (const element of document.querySelectorAll("body *")) element.dispatchEvent(new Event("focus"));
"""


def use_page(browser: Browser, path: Path, *, bypass_csp: bool) -> Watched:
    """Open a page and touch whatever reacts."""
    context = browser.new_context(viewport=DESK, bypass_csp=bypass_csp)
    watched = watch(context, path)
    page = watched.page
    page.wait_for_function("document.documentElement.dataset.ready === 'yes'")
    page.evaluate(TOUCH)
    # What was set off needs a moment to fail, or to ask for something.
    page.wait_for_timeout(150)
    return watched


def wait_for(watched: Watched, happened: Callable[[], bool]) -> bool:
    """Return whether it came to happen, on a machine that may be busy."""
    for _ in range(100):
        if happened():
            return True
        watched.page.wait_for_timeout(100)
    return False


def close(watched: Watched) -> None:
    watched.page.context.close()


@pytest.mark.parametrize("payload", PAYLOADS, ids=range(len(PAYLOADS)))
def test_payload_in_every_field_does_nothing(browser: Browser, payload: str, tmp_path: Path) -> None:
    path = write_view(make_untrusted_view(payload), tmp_path / "page.html")
    for bypass_csp in (False, True):
        watched = use_page(browser, path, bypass_csp=bypass_csp)
        assert (watched.messages, watched.requests, watched.violations()) == ([], [], [])
        close(watched)


@pytest.mark.parametrize("name", SCRIPT_MUTANTS)
def test_a_careless_change_of_the_script_is_caught(
    browser: Browser, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "templates").mkdir()
    payload = use_mutant(monkeypatch, tmp_path / "templates", SCRIPT_MUTANTS[name])
    path = write_view(make_untrusted_view(payload), tmp_path / "page.html")
    # The policy stops it and says so; without the policy it runs.
    guarded = use_page(browser, path, bypass_csp=False)
    assert wait_for(guarded, lambda: bool(guarded.violations()))
    close(guarded)
    bare = use_page(browser, path, bypass_csp=True)
    assert wait_for(bare, lambda: any(message.startswith("dialog") for message in bare.messages))
    close(bare)
