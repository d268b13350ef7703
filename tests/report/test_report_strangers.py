"""Records of strangers: every text they hold is shown as text, on the page, in its data and in its charts."""

import json
import re
from typing import Any

import pytest

from sdbench.report.render import render_report
from sdbench.report.safe_text import TEXT_CHARACTERS, clean
from sdbench.report.view import build_view
from sdbench.schema.outcome import Notice
from sdbench.schema.record import Record
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
from tests.report.test_report_page import Page

PAYLOADS = (
    "<script>alert(1)</script>",
    "</script><script>alert(1)</script>",
    "</style><script>alert(1)</script>",
    "</title><script>alert(1)</script>",
    "<!--<script>",
    "-->",
    "]]><script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "<svg onload=alert(1)>",
    "<svg><script>alert(1)</script></svg>",
    "<iframe srcdoc='<script>alert(1)</script>'>",
    "<a href=javascript:alert(1)>x</a>",
    "<base href=//evil.example>",
    "<link rel=stylesheet href=//evil.example>",
    "<meta http-equiv=refresh content=0>",
    "<form action=//evil.example><button>x</button></form>",
    "<object data=//evil.example>",
    "<style>*{display:none}</style>",
    '" onmouseover="alert(1)',
    "' onfocus='alert(1)' autofocus='",
    "` onclick=`alert(1)`",
    "{{ 7 * 7 }}",
    "{% for x in y %}",
    "${alert(1)}",
    "&lt;script&gt;alert(1)&lt;/script&gt;",
    "\u2028alert(1)\u2029",
    "\u202egnp.exe\u2066x\u2069",
    "\x1b[2J\x07\x00",
    '=HYPERLINK("//evil.example")',
    "A" * 200,
)
ALLOWED = {"script": 2, "style": 1, "meta": 4}
FORBIDDEN = ("img", "iframe", "object", "link", "base", "form", "embed")


def record_with(payload: str) -> Record:
    """A record that says the same thing wherever it can say anything."""
    launches: dict[str, Any] = {"environment": make_environment(device_name=payload, backend_version=payload)}
    return make_record(
        manifest=make_manifest(title=payload),
        results=(
            make_result(make_succeeded(**launches), backend=payload, prompt=payload),
            make_result(make_succeeded(**launches), backend=payload, prompt=payload, batch=2),
            make_result(make_failed(message=payload, stderr_tail=payload, partial=(make_launch(),)), batch=4),
            make_result(make_skipped(reason=payload, remedy=payload), batch=8),
        ),
        warnings=(Notice(code="x", message=payload, remedy=payload),),
    )


@pytest.mark.parametrize("payload", PAYLOADS, ids=range(len(PAYLOADS)))
def test_payload_comes_out_inert(payload: str) -> None:
    text = render_report(build_view((record_with(payload),)))
    page = Page(text)
    for tag, count in ALLOWED.items():
        assert len(page.all(tag)) == count, tag
    assert not [tag for tag in FORBIDDEN if page.all(tag)]
    assert all(link["href"].startswith("#") for link in page.all("a"))
    for tag, attributes in page.elements:
        assert not [name for name in attributes if name.startswith("on") or name in ("style", "autofocus")], tag
    island = page.scripts[0]
    assert not re.search("[<>&\u2028\u2029]", island)
    assert json.loads(island)["columns"]
    assert not re.search("[\x00-\x08\x0b-\x1f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]", text)


def test_text_that_is_too_long_is_cut_and_says_so() -> None:
    assert clean("é" * (TEXT_CHARACTERS + 1)).endswith("… (cut)")


def test_ordinary_text_stays_as_it_is() -> None:
    for text in ("résumé 画像 🙂", "two\nlines\tand a tab", "ratio ≤ 1"):
        assert clean(text) == text
