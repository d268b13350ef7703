"""The section of operators: shares that add up, what made the call longer, and untrusted names."""

from pathlib import Path
from typing import Any

from sdbench.report.render import write_view
from sdbench.schema.base import Known
from sdbench.schema.operators import OUTSIDE, OperatorRow, OperatorTable
from sdbench.schema.outcome import Succeeded
from tests.records import make_launch, make_record, make_result, make_succeeded
from tests.report.inputs import column, find_section
from tests.views import build_view


def make_row(phase: str, operator: str, self_s: float, kernel: str | None = None, calls: int = 3) -> OperatorRow:
    return OperatorRow(
        phase=phase, operator=operator, kernel=kernel, calls=calls, self_s=self_s, shapes=None, flop=None, bytes=None
    )


def view_with(**changes: Any) -> Any:
    rows = (
        make_row("denoise_step", "aten::mkldnn_convolution", 0.4),
        make_row("vae_decode", "aten::mkldnn_convolution", 0.1),
        make_row("denoise_step", "aten::mm", 0.2, kernel="<script>gemm" + "_very_long" * 20),
        make_row("denoise_step", OUTSIDE, 0.25, calls=0),
        make_row("vae_decode", OUTSIDE, 0.05, calls=0),
    )
    given = {
        "profiler": "torch.profiler 2.13.0",
        "call_count": 1,
        "call_s": 1.0,
        "rows": rows,
        "ran": {"attention": "flash"},
        "host_wait_count": 7,
        "host_wait_s": 0.125,
    }
    launches = (make_launch(0, 0.5, operators=Known(value=OperatorTable(**(given | changes)))), make_launch(1, 0.5))
    return build_view((make_record(results=(make_result(Succeeded(launches=launches, stop_reason="budget")),)),))


def test_longest_operators_of_all_phases_what_is_outside_and_the_cost_of_the_profiler() -> None:
    view = view_with()
    section = find_section(view, "operators")
    table, ran = section.tables
    (longest,) = column(table, "longest operators")
    assert longest.startswith("mkldnn_convolution 50 %, <script>gemm_very_long")
    assert longest.endswith("… (mm) 20 %")
    assert column(table, "outside operators") == ["30 %"]
    (ratio,) = column(table, "profiled / timed")
    assert 1.9 < float(ratio) < 2.1
    assert column(ran, "attention") == ["flash"]
    lines = section.details[0].text.splitlines()
    assert lines[0] == "denoise step"
    assert lines[1].split() == ["40", "%", "400", "ms", "3", "x", "mkldnn_convolution"]
    assert lines[-1] == "the host waited 7 times for the GPU, 125 ms"


def test_name_of_a_kernel_is_no_markup(tmp_path: Path) -> None:
    page = write_view(view_with(), tmp_path / "report.html").read_text()
    assert "&lt;script&gt;gemm" in page
    assert "<script>gemm" not in page


def test_without_a_table_the_section_says_why() -> None:
    section = find_section(build_view((make_record(results=(make_result(make_succeeded(0.1)),)),)), "operators")
    assert section.paragraphs == ("No call was profiled: only the first launch profiles a call.",)
