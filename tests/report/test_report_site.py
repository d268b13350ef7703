"""A site of many runs: pages that link to each other, a feed, and the same bytes twice."""

import re
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from sdbench.errors import UserError
from sdbench.report.site import MACHINES_PAGE, find_regressions
from sdbench.report.site_numbers import find_fastest
from sdbench.schema.record import Record
from sdbench.store.bundle import load_record
from tests.compare.test_comparison import run_of, session_of
from tests.compare.test_trends import with_package
from tests.records import make_record, make_result, make_succeeded
from tests.report.test_report_page import Page
from tests.report.untrusted import PAYLOADS, put_everywhere
from tests.views import write_site

ATOM = "{http://www.w3.org/2005/Atom}"


def make_small_record(device: str = "cpu") -> Record:
    return make_record(device=device, results=(make_result(make_succeeded(device=device)),))


def two_runs(ratio: float) -> list[Record]:
    runs = [session_of(pace, number) for number, pace in enumerate((1.0, ratio))]
    return [
        run.model_copy(update={"seal": str(number) * 64, "created_utc": f"2026-01-0{number}T00:00:00Z"})
        for number, run in enumerate(runs, start=1)
    ]


def test_every_link_of_the_index_leads_to_a_page(tmp_path: Path) -> None:
    index = write_site(two_runs(1.1), tmp_path)
    page = Page(index.read_text(encoding="utf-8"))
    links = [link["href"] for link in page.all("a")]
    assert len(links) >= 5
    assert [link.split("/")[0] for link in links if "/" in link].count("comparisons") == 1
    for link in links:
        assert (tmp_path / link).is_file(), link
    assert not page.all("script")


def test_regressions_are_in_the_feed_and_only_they(tmp_path: Path) -> None:
    runs = two_runs(1.1)
    write_site(runs, tmp_path / "slower")
    feed = ET.fromstring((tmp_path / "slower" / "feed.xml").read_bytes())
    (entry,) = feed.findall(f"{ATOM}entry")
    assert "SLOWER" in str(entry.findtext(f"{ATOM}title"))
    link = entry.find(f"{ATOM}link")
    assert link is not None
    assert link.get("href") == "comparisons/1111111111111111-2222222222222222.html"
    assert feed.findtext(f"{ATOM}updated") == "2026-01-02T00:00:00Z"
    write_site(two_runs(1.0), tmp_path / "same")
    assert ET.fromstring((tmp_path / "same" / "feed.xml").read_bytes()).findall(f"{ATOM}entry") == []


def test_an_untrusted_time_does_not_break_the_feed(tmp_path: Path) -> None:
    runs = [run.model_copy(update={"created_utc": f"{run.created_utc}<"}) for run in two_runs(1.1)]
    write_site(runs, tmp_path)
    feed = ET.fromstring((tmp_path / "feed.xml").read_bytes())
    assert {item.text for item in feed.iter(f"{ATOM}updated")} == {"1970-01-01T00:00:00Z"}


@pytest.mark.parametrize("payload", PAYLOADS, ids=range(len(PAYLOADS)))
def test_index_and_feed_of_untrusted_runs_are_inert(
    payload: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The pages have tests of their own.
    monkeypatch.setattr("sdbench.report.site.write_view", lambda *_, **__: None)
    records = [
        put_everywhere(record.to_json_dict(), payload).model_copy(update={"seal": str(number) * 64})
        for number, record in enumerate((make_small_record(), make_small_record("cuda:0")), start=1)
    ]
    page = Page(write_site(records, tmp_path).read_text(encoding="utf-8"))
    assert not page.all("script")
    assert not page.all("img")
    assert all(re.fullmatch(r"feed\.xml|[a-z]+/[0-9a-z-]+\.html", link["href"]) for link in page.all("a"))
    for tag, attributes in page.elements:
        assert not [name for name in attributes if name.startswith("on") or name == "style"], tag
    ET.fromstring((tmp_path / "feed.xml").read_bytes())


def test_machines_stand_on_one_page_and_pages_lead_back(tmp_path: Path) -> None:
    index = write_site([make_small_record(), make_small_record("cuda:0")], tmp_path)
    assert any(link["href"] == MACHINES_PAGE for link in Page(index.read_text(encoding="utf-8")).all("a"))
    for path in tmp_path.glob("*/*.html"):
        home = next(link["href"] for link in Page(path.read_text(encoding="utf-8")).all("a") if "/" in link["href"])
        assert (path.parent / home).resolve() == index.resolve()


def test_a_slower_driver_is_in_the_feed_though_single_runs_tell_nothing() -> None:
    paces = (1.0, 1.003, 0.997, 1.002)
    runs = [
        run_of((1.0 if number < 6 else 1.08) * paces[number % 4], day=number + 1, driver=f"{500 + number}.1")
        for number in range(12)
    ]
    (regression,) = find_regressions(runs, [])
    assert regression.record is runs[6]
    assert regression.title.endswith("1 experiment slower from driver 506.1 on")
    assert "also changed there" not in regression.summary
    updated = [with_package(run, "2.0" if number >= 6 else "1.0") for number, run in enumerate(runs)]
    (regression,) = (item for item in find_regressions(updated, []) if item.what == "driver")
    assert "; also changed there: software.packages.xformers 1.0 -> 2.0" in regression.summary


def test_same_records_give_the_same_bytes(tmp_path: Path) -> None:
    runs = two_runs(1.1)
    for name, given in (("one", runs), ("two", runs[::-1])):
        write_site(given, tmp_path / name)
    files = sorted(path.relative_to(tmp_path / "one") for path in (tmp_path / "one").rglob("*") if path.is_file())
    assert len(files) == 6
    for file in files:
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes(), file


def test_names_of_files_are_not_the_untrusted_ids_of_runs(tmp_path: Path) -> None:
    hostile = [run.model_copy(update={"run_id": f"../../{run.run_id}"}) for run in two_runs(1.0)]
    write_site(hostile, tmp_path / "site")
    assert [path.name for path in tmp_path.iterdir()] == ["site"]


def test_a_site_needs_a_record(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="at least one run"):
        write_site([], tmp_path)


def test_index_has_the_seconds_per_image_of_each_machine_the_fastest_first(tmp_path: Path) -> None:
    slow = make_record(
        device="cpu", results=(make_result(make_succeeded(0.5)), make_result(make_succeeded(0.8, batch=4), batch=4))
    )
    fast = make_record(device="cuda:0", results=(make_result(make_succeeded(0.1, device="cuda:0")),))
    text = write_site([slow, fast], tmp_path).read_text(encoding="utf-8")
    table = text[text.index("<table>") : text.index("</table>")]
    rows = [re.findall(r"<td[^>]*>([^<]*)</td>", row) for row in table.split("<tr>")[2:]]
    assert [row[0] for row in rows] == ["tiny-sd 64x64, 4 steps"] * 2
    assert [float(row[2]) for row in rows] == pytest.approx([0.1, 0.2], rel=0.02)
    assert "batch 4" in rows[1][1]
    assert text.count("<svg") == 1


def test_later_run_replaces_the_numbers_of_an_earlier_one() -> None:
    runs = two_runs(1.5)
    (fastest,) = find_fastest({"page": runs})
    assert fastest.image_s == pytest.approx(1.5, rel=0.02)


def test_reference_results_are_dated_by_their_source(tmp_path: Path) -> None:
    record = load_record(Path(__file__).parents[2] / "reports" / "reference" / "lambda-2022-quadro-rtx-8000")
    text = write_site([record], tmp_path).read_text(encoding="utf-8")
    assert record.created_utc not in text
    assert ">2022<" in text
