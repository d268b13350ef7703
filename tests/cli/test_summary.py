import re
from typing import Any

import pytest

from sdbench.cli import output
from sdbench.cli.print_summary import print_summary
from sdbench.schema.base import Known
from sdbench.schema.outcome import Skipped, Succeeded
from sdbench.schema.record import Record
from tests.records import (
    make_conditions,
    make_environment,
    make_failed,
    make_launch,
    make_record,
    make_result,
    make_succeeded,
    make_work,
    sustain,
)

STUDY: dict[str, Any] = {"pipeline": "sd-1.4", "width": 512, "height": 512}


def full_size(steps: int = 2, **options: Any) -> Record:
    return make_record(results=(make_result(make_succeeded(40.0, 6, steps=steps), steps=steps, **STUDY, **options),))


def printed(record: Record, capsys: pytest.CaptureFixture[str], **options: Any) -> list[str]:
    print_summary(record, **options)
    return [line.rstrip() for line in capsys.readouterr().out.splitlines()]


def test_headline_is_one_image_of_fifty_steps_next_to_a_machine_of_2022(capsys: pytest.CaptureFixture[str]) -> None:
    headline, others = printed(full_size(), capsys)[1:3]
    assert headline.startswith("One 512x512 image, 50 steps of SD v1.4: about ")
    assert "(projected) on " in headline
    assert headline.endswith("; RTX 3090 in 2022: 7.96 s")
    assert others.startswith("published in 2022, fp32: ")
    assert "RTX 3080 5.59 s (fp16)" in others


def test_references_can_be_left_out(capsys: pytest.CaptureFixture[str]) -> None:
    assert "2022" not in "\n".join(printed(full_size(), capsys, with_references=False))


def test_measured_fifty_steps_are_not_called_projected(capsys: pytest.CaptureFixture[str]) -> None:
    headline = printed(full_size(50), capsys)[1]
    assert "projected" not in headline
    assert "about" not in headline


def test_small_network_is_headed_by_its_own_latency(capsys: pytest.CaptureFixture[str]) -> None:
    record = make_record(results=(make_result(make_succeeded(0.25, 6)),))
    assert printed(record, capsys)[1].startswith("tiny-sd fp32 batch 1 64x64 4 steps: 251 ms a call on ")


def test_most_work_is_the_headline_with_what_its_own_steps_would_take(capsys: pytest.CaptureFixture[str]) -> None:
    work = make_work(flop_per_image={"transformer": 10**12}, native_steps=28, denoiser_calls_at_native_steps=28)
    launches = tuple(make_launch(index, 2.0, environment=make_environment(work=work)) for index in range(3))
    large = make_result(Succeeded(launches=launches, stop_reason="converged"), pipeline="sdxl")
    lines = printed(make_record(results=(make_result(), large)), capsys)
    assert any(line.startswith("sdxl fp32 batch 1 64x64 4 steps: 2") for line in lines)
    assert any(
        line.startswith("At the pipeline's own 28 steps about") and "from 4 steps, not" in line for line in lines
    )


def test_interval_of_two_launches_is_not_printed(capsys: pytest.CaptureFixture[str]) -> None:
    text = "\n".join(printed(make_record(results=(make_result(make_succeeded(0.25, 2)),)), capsys))
    assert "too few  " in text
    assert "+-" not in text


def test_launches_that_the_budget_ended_are_not_called_complete(capsys: pytest.CaptureFixture[str]) -> None:
    result = make_result(Succeeded(launches=(make_launch(0),), stop_reason="budget"))
    protocol = result.planned.protocol.model_copy(update={"launches_min": 3})
    short = result.model_copy(update={"planned": result.planned.model_copy(update={"protocol": protocol})})
    assert any("1 of 3: budget" in line for line in printed(make_record(results=(short,)), capsys))


def test_many_warnings_are_one_line_a_kind_and_three_at_most(capsys: pytest.CaptureFixture[str]) -> None:
    busy = make_conditions(others_cpu_ratio=Known(value=0.29), steal_ratio=Known(value=0.2))
    results = [make_result(make_succeeded(0.25, 2, conditions=busy, batch=batch), batch=batch) for batch in range(1, 7)]
    lines = printed(make_record(results=tuple(results)), capsys)
    start = next(index for index, line in enumerate(lines) if line.startswith("Can it be trusted?"))
    assert lines[start] == (
        "Can it be trusted? No: all 6 experiments: other programs used 29 % of the CPU (limit 5 %); "
        "close them and run again, or trust only large differences"
    )
    assert len([line for line in lines[start:] if line.startswith("and: ")]) <= 2


def test_quiet_run_with_enough_launches_can_be_trusted(capsys: pytest.CaptureFixture[str]) -> None:
    record = make_record(results=(make_result(make_succeeded(0.25, 8)),), warnings=())
    assert "Can it be trusted? Yes: no quality check warned." in printed(record, capsys)


def test_experiments_without_a_result_are_a_line_each_and_few(capsys: pytest.CaptureFixture[str]) -> None:
    results = [
        make_result(Skipped(reason=f"it needs {batch} s more", hint="raise it"), batch=batch) for batch in range(1, 9)
    ]
    text = "\n".join(printed(make_record(results=(make_result(make_failed()), *results)), capsys))
    assert "nothing was timed" in text
    assert "failed during 'load'" in text
    assert "and 4 more experiments without a result" in text
    assert "Can it be trusted?" not in text


def test_experiments_with_one_reason_share_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    skipped = Skipped(reason="the budget is used up", hint="raise it")
    results = tuple(make_result(skipped, batch=batch) for batch in range(1, 9))
    named = "8 experiments, tiny-sd fp32 64x64 4 steps (batch 1, batch 2, batch 3 and 5 more)"
    assert f"{named}: skipped: the budget is used up; raise it" in printed(make_record(results=results), capsys)


def test_long_line_wraps_at_spaces_with_an_indent_on_a_terminal(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "40")
    monkeypatch.setenv("TERM", "xterm")
    output.print_wrapped("one two three four five six seven eight nine ten eleven", "red")
    lines = re.sub(r"\x1b\[\d*m", "", capsys.readouterr().out).splitlines()
    assert lines == ["one two three four five six seven eight", "  nine ten eleven"]
    monkeypatch.setenv("NO_COLOR", "1")
    output.print_wrapped("plain", "red")
    assert capsys.readouterr().out == "plain\n"


def test_quantity_is_not_broken() -> None:
    for width in range(12, 40):
        lines = output.wrap_line("on average 7 m 39 s of 12 %, 5.48 GiB and 204 ms", width).splitlines()
        for quantity in ("7 m 39 s", "12 %", "5.48 GiB", "204 ms"):
            assert sum(quantity in line for line in lines) == 1


def test_sustained_load_is_one_line_with_its_ratio(capsys: pytest.CaptureFixture[str]) -> None:
    results = (
        sustain(make_result(make_succeeded(0.25, 6)), 1.02),
        sustain(make_result(make_succeeded(0.5, 6), steps=8), 1.31),
    )
    line = "Sustained / short: after 60 s of load a call takes 1.020 to 1.310 times as long."
    assert line in printed(make_record(results=results), capsys)
    assert line.replace("1.020 to ", "") in printed(make_record(results=results[1:]), capsys)
    assert "Sustained" not in "\n".join(printed(full_size(), capsys))
