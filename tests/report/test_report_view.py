import json
import os
from pathlib import Path
from typing import Any

import pytest

from sdbench.errors import UserError
from sdbench.report.model import SummarySection
from sdbench.report.points import make_source
from sdbench.report.sections import CHAPTERS
from sdbench.report.view import build_view
from sdbench.schema.outcome import Succeeded
from tests.compare.test_comparison import session_side
from tests.records import (
    make_launch,
    make_planned,
    make_record,
    make_result,
    make_results,
    make_succeeded,
)
from tests.report.inputs import (
    column,
    find_section,
    find_table,
    make_full_record,
    make_images,
    make_record_without_successes,
    make_telemetry,
    make_throttled_launch,
)

GOLDEN = Path(__file__).parent / "golden" / "view.json"
# To accept a wanted change of the view: SDBENCH_UPDATE_GOLDEN=1 python -m pytest tests/report, then read the diff.
UPDATE_VARIABLE = "SDBENCH_UPDATE_GOLDEN"


def round_floats(value: Any) -> Any:
    """The last digits of a float may differ between machines."""
    if isinstance(value, float):
        return float(f"{value:.9g}")
    if isinstance(value, dict):
        return {key: round_floats(item) for key, item in value.items()}
    return [round_floats(item) for item in value] if isinstance(value, list) else value


def test_view_is_the_golden_one() -> None:
    cpu, cuda = make_full_record(), make_record(device="cuda:0", results=make_results("cuda:0")[5:8])
    view = build_view((cpu, cuda), make_telemetry(cpu), make_images(cpu))
    found = round_floats(view.to_json_dict())
    if os.environ.get(UPDATE_VARIABLE):
        GOLDEN.write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    assert found == json.loads(GOLDEN.read_text(encoding="utf-8"))


def test_every_section_carries_the_name_of_its_line_in_the_table() -> None:
    view = build_view((make_record(),))
    assert [section.name for section in view.sections] == [name for _, names in CHAPTERS.values() for name in names]


def test_every_link_of_the_summary_leads_to_a_section() -> None:
    for record in (make_record(), make_record_without_successes()):
        summary = find_section(build_view((record,)), "summary")
        assert isinstance(summary, SummarySection)
        assert {card.link_section for card in summary.cards} <= {
            name for _, names in CHAPTERS.values() for name in names
        }


def test_report_of_no_record_is_refused() -> None:
    with pytest.raises(UserError, match="at least one record"):
        build_view(())


def test_the_same_record_twice_is_refused() -> None:
    with pytest.raises(UserError, match="given twice"):
        build_view((make_record(), make_record()))


def test_experiments_of_two_machines_are_joined_on_their_id() -> None:
    fast = make_succeeded(0.02, device="cuda:0")
    cpu = make_record(results=(make_result(make_succeeded(0.2)), make_result(batch=2)))
    cuda = make_record(device="cuda:0", results=(make_result(fast, batch=4), make_result(fast)))
    table = find_table(build_view((cpu, cuda)), "results")
    first = make_planned().label
    assert column(table, "Experiment").count(first) == 2
    assert [row[1].text for row in table.rows if row[0].text == first] == ["Example CPU 8480", "NVIDIA H200"]


def test_two_runs_of_one_machine_get_different_names() -> None:
    first, second = make_record(), make_record(run_id="20260116-100000-cpu-ffffff", created_utc="2026-01-16T10:00:00Z")
    names = make_source((first, second), None, None).machine_names
    assert len(set(names)) == 2
    assert all(name.startswith("Example CPU 8480") for name in names)


def test_experiments_that_no_label_tells_apart_get_the_start_of_their_id() -> None:
    record = make_record(results=(make_result(seed=1), make_result(seed=2)))
    labels = {point.label for point in make_source((record,), None, None).points}
    assert labels == {f"{make_planned().label} ({make_planned(seed=seed).experiment_id[:6]})" for seed in (1, 2)}


def test_throttled_launch_is_kept_but_not_counted() -> None:
    launches = (make_launch(0, 0.2), make_throttled_launch(1, 0.9), make_launch(2, 0.2))
    record = make_record(results=(make_result(Succeeded(launches=launches, stop_reason="precise enough")),))
    (point,) = make_source((record,), None, None).points
    assert [launch.index for launch in point.counted] == [0, 2]
    assert point.estimate is not None
    assert point.estimate.value == pytest.approx(0.2, rel=0.02)
    assert column(find_table(build_view((record,)), "results"), "launches") == ["2 (+1 not counted)"]


def test_throttled_launches_count_when_there_are_no_others() -> None:
    outcome = Succeeded(launches=(make_throttled_launch(0, 0.9),), stop_reason="budget")
    view = build_view((make_record(results=(make_result(outcome),)),))
    assert column(find_table(view, "results"), "launches") == ["1"]
    assert "no throttling" in column(find_table(view, "checks"), "Check")[0]


def test_one_launch_has_a_point_without_an_interval_and_the_page_says_so() -> None:
    section = find_section(build_view((make_record(results=(make_result(make_succeeded(0.2, 1)),)),)), "latency")
    (chart,) = section.charts
    assert chart.kind == "points"
    (mark,) = chart.marks
    assert (mark.low, mark.high) == (None, None)
    assert mark.text == "200 ms (one launch)"
    assert "one launch only" in section.paragraphs[0]


def test_sides_of_a_session_and_virtual_machines_are_named_as_such() -> None:
    sides = [
        make_record(
            run_id=f"run-{side}",
            seal=number * 64,
            session=session_side(side),
        ).model_copy(update={"origin": "virtual"})
        for number, side in (("1", "a"), ("2", "b"))
    ]
    view = build_view(sides)
    names = view.subtitle.split(" · ")[0].split(", ")
    assert [name for name in names if name.startswith("side")] == ["side a", "side b"]
    assert view.notice is not None
    assert view.notice.startswith("Virtual: ")
