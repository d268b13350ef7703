from pathlib import Path

import pytest

from sdbench.report.chart_model import RooflineChart
from sdbench.report.charts import draw_chart
from sdbench.report.model import Section
from sdbench.report.view import build_view
from sdbench.schema.base import Known, Unknown
from sdbench.schema.record import Record
from sdbench.store.run import Run, load_run
from tests.fingerprints import make_ceilings, make_fingerprint
from tests.records import make_record, make_result, make_succeeded
from tests.views import make_run

REFERENCES = Path(__file__).parents[2] / "reports" / "reference"


def section_of(*runs: Run) -> Section:
    return next(section for section in build_view(runs, with_references=False).sections if section.name == "roofline")


def words_of(section: Section) -> list[list[str]]:
    return [[cell.text for cell in row] for row in section.tables[0].rows]


def record_without_ceilings() -> Record:
    fingerprint = make_fingerprint()
    state = fingerprint.state.model_copy(update={"ceilings": Unknown(reason="it died")})
    return make_record(
        fingerprint=fingerprint.model_copy(update={"state": state}), ceilings_at_end=Unknown(reason="too")
    )


def test_each_part_of_a_call_has_its_share_and_its_wall() -> None:
    section = section_of(make_run(make_record(results=(make_result(make_succeeded(0.2)),))))

    assert [row[1] for row in words_of(section)] == ["whole call"]
    assert [row[1].text for row in section.tables[1].rows] == ["text encoders", "denoiser", "VAE decode"]
    # 1.369 GFLOP in 0.2 s of 400 GFLOP/s.
    assert words_of(section)[0][5] == "1.7 %"
    assert words_of(section)[0][-1] == "—"


def test_chart_has_the_roofs_the_slope_and_a_point_for_each_part() -> None:
    section = section_of(make_run(make_record(results=(make_result(make_succeeded(0.2)),))))
    (chart,) = section.charts
    assert isinstance(chart, RooflineChart)

    assert [(roof.name, roof.is_own) for roof in chart.roofs] == [
        ("fp32 400 GFLOP/s", True),
        ("bf16 1.00 TFLOP/s", False),
    ]
    assert len(chart.marks) == 4
    assert "whole call 6.83 GFLOP/s at" in chart.alt
    drawn = draw_chart(chart)
    for text in ("fp32 400 GFLOP/s", "memory 40.0 GB/s", "whole call 1.7 %", "FLOP for each byte moved, log scale"):
        assert text in drawn


def test_both_ends_of_a_run_are_shown_with_the_change() -> None:
    record = make_record(ceilings_at_end=Known(value=make_ceilings(pace=1.25)))
    rows = [[cell.text for cell in row] for row in section_of(make_run(record)).tables[2].rows]

    assert rows[0] == ["matrix product fp32", "2048x2048x2048", "400 GFLOP/s", "320 GFLOP/s", "-20 %"]
    assert rows[-1] == ["launch", "a minimal operator", "0.400 us", "0.500 us", "+25 %"]


def test_without_ceilings_there_is_no_chart_and_the_reason() -> None:
    section = section_of(make_run(record_without_ceilings()))

    assert section.charts == ()
    assert words_of(section)[0][7:9] == ["unknown", "it died"]


def test_study_shows_the_share_of_the_data_sheet_with_its_source() -> None:
    section = section_of(load_run(REFERENCES / "lambda-2022-nvidia-a100-80gb-pcie"))
    (row,) = (row for row in words_of(section) if "autocast fp16" in row[0] and "batch 1 " in row[0])

    assert float(row[-1].removesuffix(" %")) == pytest.approx(7, abs=1)
    assert section.tables[0].notes == ("Data sheet of NVIDIA A100 80GB PCIe: NVIDIA A100 data sheet.",)
