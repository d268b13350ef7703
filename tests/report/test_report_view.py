import json
import os
from pathlib import Path
from typing import Any

import pytest

from sdbench.errors import UserError
from sdbench.report.model import SummarySection
from sdbench.report.sections import CHAPTERS
from sdbench.schema.outcome import Succeeded
from tests.compare.test_comparison import arm_of_session
from tests.records import make_launch, make_planned, make_record, make_result, make_results, make_succeeded
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
from tests.views import build_view, make_source

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
    # A seal changes with every change of the record's schema.
    sealed = [record.model_copy(update={"seal": digit * 64}) for record, digit in ((cpu, "1"), (cuda, "2"))]
    view = build_view(sealed, make_telemetry(cpu), make_images(cpu))
    shown = round_floats(view.to_json_dict())
    if os.environ.get(UPDATE_VARIABLE):
        GOLDEN.write_text(json.dumps(shown, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    assert shown == json.loads(GOLDEN.read_text(encoding="utf-8"))


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
    record = make_record(results=(make_result(prompt="a"), make_result(prompt="b")))
    labels = {point.label for point in make_source((record,), None, None).points}
    ids = [make_planned(prompt=prompt).experiment_id for prompt in ("a", "b")]
    assert labels == {f"{make_planned().label} ({key[:6]})" for key in ids}


def test_throttled_launch_is_kept_but_not_counted() -> None:
    launches = (make_launch(0, 0.2), make_throttled_launch(1, 0.9), make_launch(2, 0.2))
    record = make_record(results=(make_result(Succeeded(launches=launches, stop_reason="converged")),))
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
    section = find_section(build_view((make_record(results=(make_result(make_succeeded(0.2, 1)),)),)), "summary")
    (chart,) = section.charts
    assert chart.kind == "points"
    (mark,) = chart.marks
    assert (mark.low, mark.high, mark.is_open) == (None, None, True)
    assert mark.text == "200 ms (1 launch: too few)"
    assert "too few" in chart.caption


def test_sides_of_a_session_and_virtual_machines_are_named_as_such() -> None:
    arms = [
        make_record(
            run_id=f"run-{arm}",
            seal=number * 64,
            session=arm_of_session(arm),
        ).model_copy(update={"origin": "virtual"})
        for number, arm in (("1", "a"), ("2", "b"))
    ]
    view = build_view(arms)
    assert view.subtitle.split(" · ")[:2] == ["Example CPU 8480 (virtual)", "threads=a → threads=b"]
    assert view.warning is not None
    assert view.warning.startswith("Simulated results: ")
