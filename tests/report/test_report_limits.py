"""What a page holds of very long records, and how large it becomes."""

import pytest

from sdbench.report.caps import DETAILS, DETAILS_CHARACTERS, limit_details
from sdbench.report.model import Detail
from tests.benchmarks.report import make_large_record
from tests.records import make_failed, make_record, make_result
from tests.views import build_view, render_report

KIB = 1024


@pytest.mark.parametrize(("rows", "most_bytes"), [(400, 300 * KIB), (10_000, 1536 * KIB)])
def test_page_without_pictures_stays_small(rows: int, most_bytes: int) -> None:
    assert len(render_report(build_view((make_large_record(rows),))).encode()) <= most_bytes


def test_folded_texts_of_an_untrusted_record_are_bounded() -> None:
    results = tuple(make_result(make_failed(stderr_tail="x" * 20_000), seed=seed) for seed in range(300))
    text = render_report(build_view((make_record(results=results),)))
    assert len(text) < 600 * KIB
    assert "more (folded text) are not on this page" in text


def test_details_are_cut_by_number_and_by_length() -> None:
    short = tuple(Detail(title=str(number), text="x") for number in range(DETAILS + 5))
    assert len(limit_details(short)) == DETAILS
    long = tuple(Detail(title=str(number), text="x" * (DETAILS_CHARACTERS // 4)) for number in range(DETAILS))
    assert len(limit_details(long)) == 4
