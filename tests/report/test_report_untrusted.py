"""Untrusted records: every text they hold is shown as text, on the page, in its data and in its charts."""

import json
from pathlib import Path

import pytest

from sdbench.errors import UserError
from sdbench.report import caps as limits
from sdbench.report.escape import LONG_TEXT_CHARACTERS, TEXT_CHARACTERS, clean, find_link
from sdbench.report.model import Detail, Link
from sdbench.schema.outcome import Succeeded
from tests.records import CLAIM, make_launch, make_manifest, make_record, make_result, make_series
from tests.report.inputs import find_section
from tests.report.test_report_page import Page
from tests.report.untrusted import (
    MUTANTS,
    PAYLOADS,
    make_untrusted_view,
    put_everywhere,
    refuse_what_is_not_inert,
    use_mutant,
)
from tests.views import build_view, render_report


@pytest.mark.parametrize("payload", PAYLOADS, ids=range(len(PAYLOADS)))
def test_payload_in_every_field_comes_out_inert(payload: str) -> None:
    refuse_what_is_not_inert(render_report(make_untrusted_view(payload)))


def test_a_record_says_the_payload_nearly_everywhere() -> None:
    """Else the test above would look at records that hold no payload."""
    stored = make_record().to_json_dict()
    filled = json.dumps(put_everywhere(stored, "PAYLOAD").to_json_dict())
    assert filled.count("PAYLOAD") > 300
    for field in (
        "run_id",
        "created_utc",
        "message",
        "reason",
        "hint",
        "prompt",
        "backend",
        "device_name",
        "stderr_tail",
    ):
        assert f'"{field}": "PAYLOAD"' in filled, field


@pytest.mark.parametrize("name", MUTANTS)
def test_a_careless_change_of_a_template_is_caught(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    payload = use_mutant(monkeypatch, tmp_path, MUTANTS[name])
    text = render_report(make_untrusted_view(payload))
    with pytest.raises((AssertionError, json.JSONDecodeError)):
        refuse_what_is_not_inert(text)


def test_text_that_is_too_long_is_cut_and_says_so() -> None:
    assert clean("é" * (TEXT_CHARACTERS + 1)).endswith("… (cut)")
    long = Detail(title="log", text="é" * (LONG_TEXT_CHARACTERS + 1)).text
    assert long == "é" * LONG_TEXT_CHARACTERS + "… (cut)"


def test_ordinary_text_stays_as_it_is() -> None:
    for text in ("résumé 画像 🙂", "two\nlines\tand a tab", "ratio ≤ 1"):
        assert clean(text) == text


@pytest.mark.parametrize("address", ["https://example.org", "http://example.org:8080/a?b=c#d", "https://[::1]/"])
def test_http_with_a_host_is_a_link(address: str) -> None:
    assert find_link(address) == address


@pytest.mark.parametrize(
    "address",
    [
        None,
        "",
        "example.org",
        "//example.org",
        "https:",
        "https://",
        "https:///path",
        "https://user@example.org",
        "https://user:secret@example.org",
        "https://:@example.org",
        "https://example.org:port",
        "https://example.org\\@evil.example",
        "https://exa mple.org",
        "https://example.org\u202e",
        " https://example.org",
        "java\nscript:alert(1)",
        "javascript:alert(1)",
        "JAVASCRIPT://example.org/%0aalert(1)",
        "data:text/html,x",
        "file:///etc/passwd",
        "ftp://example.org",
        "https://[::1",
    ],
)
def test_any_other_address_is_text(address: str | None) -> None:
    assert find_link(address) is None
    if address is not None:
        with pytest.raises(ValueError, match="not http"):
            Link(text="x", address=address)


def test_source_of_the_manifest_is_linked_or_named() -> None:
    def page_of(url: str) -> Page:
        source = {"title": "A study", "authors": "A and B", "year": 2022, "url": url}
        return Page(render_report(build_view((make_record(manifest=make_manifest(claims=(CLAIM,), source=source)),))))

    (link,) = [link for link in page_of("https://example.org/study").all("a") if link["href"].startswith("http")]
    assert link["href"] == "https://example.org/study"
    assert link["rel"] == "noopener nofollow"
    assert all(link["href"].startswith("#") for link in page_of("javascript:alert(1)").all("a"))


@pytest.mark.parametrize("latency_s", [1e-300, 1e29])
def test_absurd_numbers_are_drawn_without_harm(latency_s: float) -> None:
    launches = tuple(make_launch(index, 1.0, series=make_series(index, latency_s)) for index in range(3))
    results = (make_result(Succeeded(launches=launches, stop_reason="budget")), make_result(batch=2))
    refuse_what_is_not_inert(render_report(build_view((make_record(results=results),))))


def test_more_results_than_a_page_holds_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sdbench.report.view.RESULTS", 5)
    with pytest.raises(UserError, match="results are too many for one page"):
        build_view((make_record(),))
    assert limits.RESULTS >= 10_000


def test_of_very_many_samples_every_kth_is_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sdbench.report.sections.samples._DOTS", 20)
    (chart,) = find_section(build_view((make_record(),)), "samples").charts
    assert chart.kind == "samples"
    assert len(chart.marks) <= 20
    assert chart.caption.startswith(f"{len(chart.marks)} of ")
