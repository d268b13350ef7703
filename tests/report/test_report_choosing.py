"""What a buyer looks at: machines side by side, energy and cost, memory against capacity, telemetry over time."""

from typing import Any, Literal

import pytest

from sdbench.compare.repeat import make_command
from sdbench.report.chart_model import IntervalChart, TraceChart
from sdbench.report.charts import draw_chart
from sdbench.report.model import ReportView, Section, SummarySection
from sdbench.report.naming import name_machines
from sdbench.report.prices import Price, Prices
from sdbench.schema.base import Known
from sdbench.schema.outcome import Series, Succeeded
from sdbench.schema.record import Record, Session
from tests.fingerprints import make_fingerprint, make_hardware
from tests.records import make_launch, make_record, make_request, make_result, make_succeeded
from tests.report.inputs import find_section
from tests.views import build_view

FULL_SIZE: dict[str, Any] = {"pipeline": "sd-1.4", "height": 512, "width": 512}


def chart_of(section: Section) -> IntervalChart:
    chart = section.charts[0]
    assert isinstance(chart, IntervalChart)
    return chart


def machine(name: str, latency_s: float, **changes: Any) -> Record:
    hardware = make_hardware(cpu_model=Known(value=name))
    results = (
        make_result(make_succeeded(latency_s), **FULL_SIZE),
        make_result(make_succeeded(latency_s / 2), precision="fp16", **FULL_SIZE),
        make_result(make_succeeded(latency_s / 3), precision="fp16", attention="sdpa-flash", **FULL_SIZE),
        make_result(make_succeeded(latency_s / 4), batch=8, **FULL_SIZE),
    )
    return make_record(results=results, fingerprint=make_fingerprint(hardware=hardware), **changes)


def test_machines_stand_side_by_side_each_at_its_best_per_precision() -> None:
    view = build_view((machine("slow 01", 90.0), machine("fast 02", 1.0)))
    chart = chart_of(find_section(view, "devices"))
    assert chart.log_scale
    assert [(mark.label, mark.machine) for mark in chart.marks] == [
        ("fast 02", "fp16"),
        ("fast 02", "fp32"),
        ("slow 01", "fp16"),
        ("slow 01", "fp32"),
    ]
    assert "(the fastest)" in chart.marks[0].text
    assert "(90.0 times the fastest)" in chart.marks[2].text


def test_one_machine_is_not_held_against_itself() -> None:
    assert find_section(build_view((machine("only 01", 1.0),)), "devices").is_bare


def test_energy_and_cost_are_drawn_where_they_are_known() -> None:
    prices = Prices(Price(3.6, "EUR"), {})
    view = build_view((make_record(device="cuda:0"),), prices=prices)
    energy, cost = find_section(view, "energy").charts
    assert isinstance(energy, IntervalChart)
    assert energy.axis == "J per image"
    assert isinstance(cost, IntervalChart)
    assert cost.axis == "EUR per 1,000 images"
    # 3.60 EUR an hour are 0.001 EUR a second.
    assert cost.title.endswith(": sd-1.4 fp32 batch 1 512x512 1 step")
    assert cost.marks[0].value == pytest.approx(2.5, rel=0.01)
    assert energy.marks[0].value == pytest.approx(300 * 2.5, rel=0.05)


def test_without_price_and_energy_the_section_says_why() -> None:
    section = find_section(build_view((make_record(),)), "energy")
    assert section.is_bare
    assert section.paragraphs[0] == "Energy is not known: RAPL is not readable here."
    assert "--price" in section.paragraphs[1]


def test_best_per_money_is_named_among_priced_machines() -> None:
    prices = Prices(None, {"slow": Price(0.01, "EUR"), "fast": Price(90.0, "EUR")})
    view = build_view((machine("slow 01", 2.0), machine("fast 02", 1.0)), prices=prices)
    lines = summary_lines(view)
    assert any(line.startswith("best per money: ") and "slow 01" in line for line in lines)


def summary_lines(view: ReportView) -> list[str]:
    section = find_section(view, "summary")
    assert isinstance(section, SummarySection)
    return [line for card in section.cards for line in card.lines]


def test_memory_stands_beside_what_the_device_has() -> None:
    small = make_hardware(memory_total_bytes=Known(value=2 * 2**30))
    record = make_record(fingerprint=make_fingerprint(hardware=small))
    chart = chart_of(find_section(build_view((record,)), "memory"))
    assert {mark.limit for mark in chart.marks} == {2.0}
    assert "The device has 2.00 GiB. The tick is all there is." in chart.caption
    assert "<svg" in draw_chart(chart)


def test_memory_far_above_what_is_used_is_said_not_drawn() -> None:
    chart = chart_of(find_section(build_view((make_record(device="cuda:0"),)), "memory"))
    assert {mark.limit for mark in chart.marks} == {None}
    assert "The device has 131 GiB." in chart.caption


def with_telemetry(record: Record, *series: Series) -> ReportView:
    launches = [(record.results[0].planned.experiment_id, index, series) for index in range(2)]
    return build_view((record,), {record.run_id: tuple(launches)})


def test_telemetry_is_drawn_over_the_minutes_of_the_run() -> None:
    times = Series(name="time_s", unit="s", samples=tuple(float(second) for second in range(60)))
    clock = Series(name="gpu_sm_clock_mhz", unit="MHz", samples=tuple(1000.0 + second for second in range(60)))
    same = Series(name="steal_ratio", unit="ratio", samples=(0.0,) * 60)
    bits = Series(name="gpu_throttle_reasons", unit="bits", samples=(*(0.0,) * 59, 4.0))
    section = find_section(with_telemetry(make_record(), times, clock, same, bits), "telemetry")
    (chart,) = section.charts
    assert isinstance(chart, TraceChart)
    assert {point.series for point in chart.points} == {"gpu sm clock, MHz"}
    assert {point.launch for point in chart.points} == {0, 1}
    assert len(chart.points) <= 82
    assert all(point.low <= point.value <= point.high for point in chart.points)
    # The second launch began a minute after the run did.
    assert min(point.minute for point in chart.points if point.launch == 1) == pytest.approx(1.0, abs=0.02)
    assert "<svg" in draw_chart(chart)


@pytest.mark.parametrize(
    "started", ["not a time", "2026-01-15T10:00:00", "2020-01-01T00:00:00Z", "9999-12-31T00:00:00Z"]
)
def test_telemetry_of_launches_without_a_usable_time_is_only_summed_up(started: str) -> None:
    launches = tuple(make_launch(index, started_utc=started) for index in range(3))
    record = make_record(results=(make_result(Succeeded(launches=launches, stop_reason="budget")),))
    times = Series(name="time_s", unit="s", samples=(0.0, 1.0))
    load = Series(name="load1", unit="tasks", samples=(0.5, 1.5))
    section = find_section(with_telemetry(record, times, load), "telemetry")
    assert section.charts == ()
    assert section.tables


def arm(name: Literal["a", "b"]) -> Record:
    settings = Known(value=(f"threads={1 if name == 'a' else 2}", "env.LABEL=two words"))
    return make_record(
        run_id=f"run-{name}",
        session=Session(session_id="s", arm=name, seed=7, settings=settings),
        request=make_request(settings=("steps=4", settings.value[0])),
    )


def test_a_side_of_a_session_is_repeated_with_the_other_one() -> None:
    both = make_command(arm("b"), [arm("a"), arm("b")])
    assert both == (
        "sdbench ab manifests/quick.yaml --device auto --budget 255s --set steps=4 "
        "--a threads=1 --a 'env.LABEL=two words' --b threads=2 --b 'env.LABEL=two words' --seed 7"
    )
    assert make_command(arm("a"), [arm("b"), arm("a")]) == both
    assert "--b ... --seed 7" in make_command(arm("a"))


def test_identical_arms_are_named_by_their_letters() -> None:
    same = Known(value=("threads=1",))
    records = [
        record.model_copy(update={"session": record.session.model_copy(update={"settings": same})})
        for record in (arm("a"), arm("b"))
        if record.session
    ]
    assert name_machines(records) == ("arm A, threads=1", "arm B, threads=1")
