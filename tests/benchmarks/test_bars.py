"""The arithmetic of the benchmark's bars; what they measure is printed by ``make benchmark``, not tested."""

from pathlib import Path

import pytest

from sdbench.store.bundle import encode_record
from tests.benchmarks.bars import Bar, at_most, format_table
from tests.benchmarks.overhead import judge
from tests.benchmarks.share import find_newest_record, read_share
from tests.records import make_launch, make_record, make_result, make_succeeded


@pytest.mark.parametrize(
    ("low", "high", "met"),
    [(0.998, 1.004, True), (0.99, 1.004, None), (1.0, 1.02, None), (1.006, 1.02, False), (0.9, 0.99, False)],
)
def test_bar_is_judged_by_the_whole_interval(low: float, high: float, met: bool | None) -> None:
    assert judge(low, high) is met


def test_table_says_yes_no_or_nothing() -> None:
    rows = format_table(
        [at_most("a", 0.2, 0.25, "s"), at_most("b", 0.3, 0.25, "s"), Bar("c", "no record")]
    ).splitlines()
    assert [row.split()[-1] for row in rows] == ["met", "yes", "no", "-"]


def test_share_counts_every_call_of_the_full_size_launches(tmp_path: Path) -> None:
    # A spawned launch imports the libraries itself.
    outcome = make_succeeded(25.0, 1, steps=1, call_count=2, isolation="spawn", template_id=None)
    full = make_result(outcome, pipeline="sd-1.4", height=512, width=512)
    launch = make_launch(0, 25.0, steps=1, call_count=2)
    record = make_record(results=(full, make_result()))
    path = tmp_path / "record.json"
    path.write_bytes(encode_record(record.to_json_dict()))
    calls_s = sum(sum(series.samples) for series in launch.series if series.name == "latency")
    without, with_load, *parts = read_share(path)
    assert without.measured.startswith(f"{calls_s / (launch.wall_s - launch.import_s - launch.load_s):.1%} of ")
    assert with_load.measured == f"{calls_s / launch.wall_s:.1%} of {launch.wall_s:.1f} s"
    assert sum(float(part.measured.split()[0]) for part in parts) == pytest.approx(launch.wall_s, abs=0.05)


def test_newest_record_is_found_by_the_name_of_its_folder(tmp_path: Path) -> None:
    assert find_newest_record(tmp_path) is None
    for name in ("quick-20270101T000000Z", "quick-20261231T235959Z", "smoke-20280101T000000Z"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "record.json").touch()
    assert find_newest_record(tmp_path) == tmp_path / "quick-20270101T000000Z" / "record.json"
