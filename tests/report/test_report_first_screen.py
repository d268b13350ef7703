"""The first screen: one sentence, a chart per question, whether to trust it, how to repeat it."""

from typing import Any

import pytest

from sdbench.report import view as views
from sdbench.report.chart_model import AnswerChart, IntervalChart, LineChart
from sdbench.report.charts import draw_chart
from sdbench.report.labels import name_experiments, split_labels
from sdbench.report.model import Section, SummarySection
from sdbench.report.naming import shorten_device
from sdbench.schema.base import Known, Unknown
from sdbench.schema.outcome import Succeeded, launches_of
from sdbench.schema.record import Record, Result
from tests.compare.test_comparison import session_of
from tests.records import (
    make_conditions,
    make_launch,
    make_manifest,
    make_record,
    make_result,
    make_results,
    make_skipped,
    make_succeeded,
    slow_phases,
)
from tests.report.inputs import find_section, find_table
from tests.views import build_view, make_run

FULL_SIZE: dict[str, Any] = {"pipeline": "sd-1.4", "height": 512, "width": 512}


def full_size(steps: int, latency_s: float, launch_count: int = 3, **options: Any) -> Result:
    return make_result(make_succeeded(latency_s, launch_count, steps=steps), steps=steps, **FULL_SIZE, **options)


def first_screen(*records: Record, **options: Any) -> SummarySection:
    section = find_section(views.build_view([make_run(record) for record in records], **options), "summary")
    assert isinstance(section, SummarySection)
    return section


def answer_chart(section: Section) -> AnswerChart:
    (chart,) = (chart for chart in section.charts if isinstance(chart, AnswerChart))
    return chart


def test_run_of_full_size_stands_next_to_the_machines_of_2022() -> None:
    screen = first_screen(make_record(results=(full_size(50, 900.0),)))
    assert screen.headline == "One 512x512 image, 50 steps of SD v1.4, takes 15 m 03 s on Example CPU 8480"
    assert screen.lead[0].startswith("fp32: 141x slower than A100 80GB PCIe, 2022 (6.39 s, fp32)")
    marks = {mark.label: mark for mark in answer_chart(screen).marks}
    assert marks["Example CPU 8480"].role == "measured"
    assert marks["RTX 3090, 2022"].role == "reference"
    assert marks["RTX 3090, 2022"].remark == "113x faster"
    assert len(marks) == 9
    assert "<svg" in draw_chart(answer_chart(screen))


def test_few_steps_are_projected_and_marked_as_such() -> None:
    screen = first_screen(make_record(results=(full_size(1, 40.0),)))
    assert screen.headline.endswith("on Example CPU 8480 (projected)")
    assert "not measured at 50" in screen.lead[-1]
    (own,) = (mark for mark in answer_chart(screen).marks if mark.role == "projected")
    assert "projected" in own.text
    assert "Hollow" in answer_chart(screen).caption


def test_phases_of_a_slower_call_make_a_projection_rough() -> None:
    result = full_size(1, 40.0)
    launches = tuple(slow_phases(launch, 1.6) for launch in launches_of(result.outcome))
    slow = result.model_copy(update={"outcome": result.outcome.model_copy(update={"launches": launches})})
    assert "which took 1.60 times a timed one" in first_screen(make_record(results=(slow,))).lead[-1]
    assert "times a timed one" not in first_screen(make_record(results=(result,))).lead[-1]


def test_references_can_be_left_out() -> None:
    record = make_record(results=(full_size(50, 900.0),))
    screen = first_screen(record, with_references=False)
    assert not [chart for chart in screen.charts if isinstance(chart, AnswerChart)]
    assert "2022" not in " ".join(screen.lead)


def test_too_few_launches_have_open_ends_among_the_machines_too() -> None:
    (own,) = (
        mark for mark in answer_chart(first_screen(make_record(results=(full_size(50, 9.0, 2),)))).marks
        if mark.role == "measured"
    )  # fmt: skip
    assert (own.low, own.high, own.is_open) == (None, None, True)
    assert "2 launches: too few" in own.text


def test_tiny_network_is_in_no_chart_for_buyers_and_shares_no_axis_with_full_size() -> None:
    view = build_view((make_record(),))
    summary = find_section(view, "summary")
    latency = [chart for chart in summary.charts if isinstance(chart, IntervalChart)]
    assert len(latency) == 2
    for chart in latency:
        names = {mark.value > 10 for mark in chart.marks}
        assert len(names) == 1
    for name in ("devices", "throughput", "memory", "energy"):
        assert "tiny-sd" not in " ".join(chart.alt for chart in find_section(view, name).charts)


def test_run_of_the_tiny_network_says_what_it_does_not_say() -> None:
    screen = first_screen(make_record(results=(make_result(),)))
    assert screen.headline == "tiny-sd fp32 batch 1 64x64 4 steps: 251 ms a call on Example CPU 8480"
    assert screen.lead == (
        (
            "Tiny and changed pipelines are for comparing settings and versions; their times say nothing about whole "
            "ones. "
            "To measure that: sdbench run quick."
        ),
    )
    skipped = make_result(make_skipped(), steps=1, **FULL_SIZE)
    lead = first_screen(make_record(results=(make_result(), skipped))).lead
    assert "(skipped: fp16 autocast needs a CUDA device)" in lead[0]


@pytest.mark.parametrize(
    ("others", "launch_count", "answer", "tone"),
    [
        (0.01, 6, "Yes", "good"),
        (0.01, 2, "With care: too few launches for an interval", "warn"),
        (0.5, 6, "No: the machine was busy", "bad"),
    ],
)
def test_trust_is_yes_with_care_or_no_with_one_reason(others: float, launch_count: int, answer: str, tone: str) -> None:
    conditions = make_conditions(others_cpu_ratio=Known(value=others))
    record = make_record(results=(make_result(make_succeeded(0.2, launch_count, conditions=conditions)),), warnings=())
    (card,) = (card for card in first_screen(record).cards if card.question == "Can I trust this?")
    assert (card.answer, card.tone) == (answer, tone)
    assert len(card.lines) <= 2


def test_what_could_not_be_checked_is_a_grey_remark() -> None:
    conditions = make_conditions(clock_spread_ratio=Unknown(reason="no cpufreq"))
    record = make_record(results=(make_result(make_succeeded(0.2, 6, conditions=conditions)),), warnings=())
    (card,) = (card for card in first_screen(record).cards if card.question == "Can I trust this?")
    assert card.answer == "Yes"
    assert "clocks" in card.remarks[0]


def test_repeating_takes_three_lines_to_copy() -> None:
    (card,) = (card for card in first_screen(make_record()).cards if card.question == "Can I repeat it?")
    clone, checkout, command = card.commands
    assert clone.startswith("git clone ")
    assert checkout.endswith("make run-environment")
    assert command.startswith(".venv/bin/sdbench run manifests/quick.yaml")


def test_arms_are_named_by_what_differs_and_rows_by_what_they_share() -> None:
    arms = (
        session_of(1.0, 0, attention="eager"),
        session_of(1.1, 1, attention="sdpa-math").model_copy(update={"seal": "1" * 64}),
    )
    view = build_view(arms)
    screen = find_section(view, "summary")
    assert isinstance(screen, SummarySection)
    assert screen.headline.startswith("threads=b is slower than threads=a: +10")
    assert " / " not in find_section(view, "compare").model_dump_json(include={"pairs": {0: {"verdicts"}}})


def test_option_that_a_run_varies_is_named_at_its_default_too() -> None:
    results = tuple(
        make_result(scheduler=scheduler, steps=steps) for steps in (5, 9) for scheduler in ("pndm", "euler")
    )
    labels = name_experiments([make_record(results=results)])
    assert [labels[result.planned.experiment_id] for result in results[:2]] == [
        "tiny-sd fp32 batch 1 64x64 5 steps pndm",
        "tiny-sd fp32 batch 1 64x64 5 steps euler",
    ]
    one = make_record(results=(make_result(threads=1), make_result()))
    assert sorted(name_experiments([one]).values()) == [
        "tiny-sd fp32 batch 1 64x64 4 steps 1 thread",
        "tiny-sd fp32 batch 1 64x64 4 steps all threads",
    ]


def test_options_that_nothing_varies_are_not_named() -> None:
    results = (make_result(), make_result(precision="bf16", attention="eager"))
    labels = name_experiments([make_record(results=results)])
    assert labels[results[0].planned.experiment_id] == results[0].planned.label


def test_steps_and_schedulers_are_lines() -> None:
    results = tuple(
        make_result(make_succeeded(0.1 * steps, 3, steps=steps), scheduler=scheduler, steps=steps)
        for steps in (5, 9)
        for scheduler in ("pndm", "euler")
    )
    (chart,) = first_screen(make_record(results=results)).charts
    assert isinstance(chart, LineChart)
    assert {point.line for point in chart.points} == {"pndm", "euler"}
    assert {point.x for point in chart.points} == {5, 9}


@pytest.mark.parametrize(
    ("labels", "shared", "own"),
    [
        (["tiny batch 1 4 steps", "tiny batch 2 4 steps"], "tiny 4 steps", ["batch 1", "batch 2"]),
        (["a 2 steps", "a 20 steps euler"], "a", ["2 steps", "20 steps euler"]),
        (["a", "a b"], "", ["a", "a b"]),
        (["a"], "", ["a"]),
    ],
)
def test_labels_are_split_into_what_they_share_and_what_differs(labels: list[str], shared: str, own: list[str]) -> None:
    assert split_labels(labels) == (shared, dict(zip(labels, own, strict=True)))


@pytest.mark.parametrize(
    ("name", "short"),
    [
        ("NVIDIA GeForce RTX 3090", "RTX 3090"),
        ("Intel(R) Core(TM) i7-6850K CPU @ 3.60GHz", "i7-6850K"),
        ("AMD EPYC 7352 24-Core Processor (reference, 2022)", "AMD EPYC 7352, 2022"),
        ("NVIDIA", "NVIDIA"),
    ],
)
def test_rows_of_machines_have_short_names(name: str, short: str) -> None:
    assert shorten_device(name) == short


def test_run_that_the_budget_cut_short_is_not_called_complete() -> None:
    protocol = make_result().planned.protocol.model_copy(update={"launches_min": 3})
    result = make_result(make_succeeded(0.2, 1).model_copy(update={"stop_reason": "budget"}))
    short = result.model_copy(update={"planned": result.planned.model_copy(update={"protocol": protocol})})
    section = find_section(build_view((make_record(results=(short,)),)), "unmeasured")
    assert section.paragraphs == (
        (
            "Every experiment has a result, but 1 of 1 had fewer launches than planned: "
            "the budget ended it after 1 of 3 launches."
        ),
    )


def test_claims_that_nothing_tested_say_why_in_one_line() -> None:
    claim = {
        "id": "half",
        "text": "half is faster",
        "metric": "latency_s",
        "numerator": {"options": {"precision": "bf16", "steps": 50}},
        "expected": {"high": 0.6},
        "source": "a table",
    }
    record = make_record(manifest=make_manifest(claims=(claim,)), results=make_results()[:6])
    table = find_table(build_view((record,)), "claims")
    assert table.caption == "The claim could not be tested: no run here has 50 steps"


def test_single_run_says_what_ab_would_detect() -> None:
    launches = tuple(make_launch(index, 1.0 + 0.01 * (index % 3)) for index in range(8))
    result = make_result(Succeeded(launches=launches, stop_reason="max_launches"))
    (card,) = (
        card for card in first_screen(make_record(results=(result,))).cards if card.question.startswith("What can")
    )
    assert card.answer.startswith("Changes of ")
    assert card.lines[0].startswith("sdbench ab would detect a change of ")
