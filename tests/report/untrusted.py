"""What an untrusted source might put into a record, and what a page must not make of it."""

import json
import re
from pathlib import Path
from typing import Any

import jinja2
import pytest
from pydantic import ValidationError

from sdbench.report import render
from sdbench.report.model import ReportView
from sdbench.schema.outcome import Series
from sdbench.schema.record import Record
from tests.records import CLAIM, make_manifest, make_record
from tests.report.inputs import make_full_record, make_png
from tests.report.test_report_page import Page
from tests.report.test_report_workload_results import make_search_result, precision_record
from tests.views import Images, Telemetry, build_view

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
    "x onfocus=alert(1) autofocus tabindex=1",
    "` onclick=`alert(1)`",
    "javascript:alert(1)",
    "data:text/html,<script>alert(1)</script>",
    "https://user:secret@evil.example/",
    "url(//evil.example)",
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
FORBIDDEN = ("iframe", "object", "link", "base", "form", "embed", "image", "use", "foreignObject")
_ROUNDS = 20
# What says which of several shapes a value has: of any other, nothing would be read.
_TAGS = ("kind", "status")


def make_untrusted_view(payload: str) -> ReportView:
    """Return a page of records that say ``payload`` in every field that takes it."""
    full, workload_result = make_full_record(), precision_record()
    rich = full.model_copy(update={"results": (*full.results, *workload_result.results, make_search_result())})
    source = {"title": "a", "authors": "b", "url": "c"}
    rich = rich.model_copy(update={"manifest": make_manifest(claims=(CLAIM,), source=source, deviations=("d",))})
    # Without a series of the name latency there is no result, without cuda no memory of a GPU, without a time no trace.
    first = put_everywhere(rich.to_json_dict(), payload, ("series", "device", "created_utc", "started_utc"))
    second = put_everywhere(make_record(device="cuda:0").to_json_dict(), payload)
    series = (
        Series(name="time_s", unit="s", samples=tuple(map(float, range(60)))),
        Series(name=payload, unit=payload, samples=tuple(map(float, range(60)))),
    )
    telemetry: Telemetry = {first.run_id: tuple((r.planned.experiment_id, 0, series) for r in first.results)}
    images: Images = {first.run_id: {first.files[0].path: make_png()}}
    return build_view((first, second), telemetry, images)


def put_everywhere(stored: dict[str, Any], payload: str, kept: tuple[str, ...] = ()) -> Record:
    """Return a record with ``payload`` for every text of ``stored``, but those that the schema would then refuse.

    What is under the keys ``kept`` stays as it is.
    """
    filled = _replace(stored, payload, (*_TAGS, *kept))
    for _ in range(_ROUNDS):
        try:
            return Record.model_validate_json(json.dumps(filled))
        except ValidationError as error:
            places = [problem["loc"] for problem in error.errors()]
            for place in places:
                # A list of what is refused is called too short as well.
                if not any(other[: len(place)] == place != other for other in places):
                    _restore(filled, stored, place)
    raise AssertionError("no record is left of it")


def _replace(value: Any, payload: str, kept: tuple[str, ...]) -> Any:
    if isinstance(value, str):
        return payload
    if isinstance(value, list):
        return [_replace(item, payload, kept) for item in value]
    if isinstance(value, dict):
        return {key: item if key in kept else _replace(item, payload, kept) for key, item in value.items()}
    return value


def _restore(filled: Any, stored: Any, place: tuple[int | str, ...]) -> None:
    """Put back what was at a place. The names of union members stand in it too, and are not keys."""
    steps = [filled, stored]
    keys: list[int | str] = []
    for step in place:
        here, there = steps
        is_key = step in here if isinstance(here, dict) else isinstance(here, list) and isinstance(step, int)
        if is_key:
            parents, keys = (here, there), [step]
            steps = [here[step], there[step]]
    (key,) = keys
    parents[0][key] = parents[1][key]


def refuse_what_is_not_inert(text: str) -> None:
    """Fail if a page has an element, an attribute, a link or a byte that no page of ours has."""
    page = Page(text)
    for tag, count in ALLOWED.items():
        assert len(page.all(tag)) == count, tag
    assert not [tag for tag in FORBIDDEN if page.all(tag)]
    assert all(link["href"].startswith("#") for link in page.all("a"))
    assert all(image["src"].startswith("data:image/webp;base64,") for image in page.all("img"))
    for tag, attributes in page.elements:
        assert not [name for name in attributes if name.startswith("on") or name in ("style", "autofocus")], tag
        assert all(re.fullmatch("[a-zA-Z][a-zA-Z0-9:-]*", name) for name in attributes), tag
    island = page.scripts[0]
    assert not re.search("[<>&\u2028\u2029]", island)
    assert json.loads(island)["columns"]
    assert not re.search("[\x00-\x08\x0b-\x1f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]", text)


# What a hurried change might do to the page: file, before, after, and a payload that must show it.
MUTANTS = {
    "safe reason": ("page.html.j2", "<dd>{{ paragraph }}</dd>", "<dd>{{ paragraph | safe }}</dd>", 0),
    "safe cell": (
        "macros.html.j2",
        '<th scope="row">{{ cell.text }}</th>',
        '<th scope="row">{{ cell.text | safe }}</th>',
        7,
    ),
    "safe title": ("page.html.j2", "<h1>{{ view.title }}</h1>", "<h1>{{ view.title | safe }}</h1>", 8),
    "unquoted attribute": ("macros.html.j2", 'alt="{{ picture.alt }}"', "alt={{ picture.alt }}", 20),
    "unchecked link": ("macros.html.j2", "{% if link.address %}", "{% if link.text %}", 0),
    "raw JSON": ("results.html.j2", "| island }}", "| raw_json | safe }}", 1),
}
SCRIPT_MUTANTS = {"innerHTML": ("report.js", "cell.textContent = text;", "cell.innerHTML = text;", 7)}


def use_mutant(monkeypatch: pytest.MonkeyPatch, folder: Path, mutant: tuple[str, str, str, int]) -> str:
    """Make pages from templates that were changed, and return the payload that must show it."""
    file, before, after, place = mutant
    source = Path(render.__file__).parent / render.TEMPLATE_FOLDER
    for path in source.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    text = (folder / file).read_text(encoding="utf-8")
    assert before in text, f"{file} no longer has {before!r}; fix the mutant"
    (folder / file).write_text(text.replace(before, after), encoding="utf-8")
    monkeypatch.setattr(jinja2, "PackageLoader", lambda *_: jinja2.FileSystemLoader(folder))
    monkeypatch.setattr(render, "_read_text", lambda name: (folder / name).read_text(encoding="utf-8"))
    monkeypatch.setitem(jinja2.filters.FILTERS, "raw_json", _raw_json)
    return PAYLOADS[place]


def _raw_json(value: Any) -> str:
    return json.dumps(value, default=lambda model: model.to_json_dict(), ensure_ascii=False)
