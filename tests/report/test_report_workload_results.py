"""The sections on claims, precision and capacity."""

import hashlib
import io
from typing import Any

from PIL import Image

from sdbench.report.chart_model import LineChart
from sdbench.report.model import PrecisionSection, Section
from sdbench.schema.base import Known, Unknown
from sdbench.schema.outcome import Succeeded
from sdbench.schema.record import BundledFile, Record, Result
from sdbench.schema.workload_results import BatchProbe, BatchSearch, Divergence, PrecisionResult
from tests.records import CLAIM, make_launch, make_manifest, make_record, make_result, make_succeeded
from tests.report.inputs import column, find_section, find_table
from tests.views import build_view, render_report

CANDIDATE = "images/0123456789abcdef-0-trajectory-001-candidate.webp"
ANIMATION = "images/0123456789abcdef-0-trajectory.webp"


def make_divergence(similarity: float, call: int | None = None, **changes: Any) -> Divergence:
    given: dict[str, Any] = {
        "steps": 10,
        "call": call,
        "ssim": Known(value=similarity),
        "psnr_db": Known(value=41.5),
        "nrmse": Known(value=0.0125),
        "largest_difference": Known(value=0.0625),
        "non_finite_count": 0,
        "reference_non_finite_count": 0,
        "identical": False,
        "reference_path": None,
        "candidate_path": CANDIDATE if call else None,
        "difference_path": None,
    }
    return Divergence(**{**given, **changes})


def make_precision_result(*sweep: Divergence) -> Result:
    workload_result = PrecisionResult(
        reference_id="0" * 16,
        reference_label="tiny-sd fp32",
        amplification=20,
        trajectory=(make_divergence(0.98, 1), make_divergence(0.99, 2)),
        sweep=sweep or (make_divergence(0.97),),
        trajectory_animation_path=ANIMATION,
        sweep_animation_path=None,
    )
    outcome = Succeeded(launches=(make_launch(workload_result=workload_result, series=()),), stop_reason="max_launches")
    return make_result(outcome, workload="precision", precision="bf16")


def make_search_result(**options: Any) -> Result:
    probes = (
        BatchProbe(batch=1, fits=True, peak_bytes=Known(value=2**30), wall_s=1.0, message=""),
        BatchProbe(batch=7, fits=False, peak_bytes=Unknown(reason="memory ran out"), wall_s=2.0, message="no room"),
        BatchProbe(batch=6, fits=True, peak_bytes=Known(value=2**31), wall_s=3.0, message=""),
    )
    workload_result = BatchSearch(
        limit_bytes=2**31,
        limit_source="a test",
        loaded_bytes=Known(value=2**29),
        probes=probes,
        largest_batch=6,
        batch_max=256,
    )
    launches = (
        make_launch(0, workload_result=workload_result, series=(), batch=6),
        make_launch(1, 3.0, batch=6),
        make_launch(2, 3.0, batch=6),
    )
    return make_result(Succeeded(launches=launches, stop_reason="budget"), workload="largest-batch", **options)


def make_webp() -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", (8, 8), (1, 2, 3)).save(stream, "WEBP")
    return stream.getvalue()


def precision_record(*sweep: Divergence) -> Record:
    content = make_webp()
    digest = hashlib.sha256(content).hexdigest()
    files = tuple(BundledFile(path=path, sha256=digest, size_bytes=len(content)) for path in (CANDIDATE, ANIMATION))
    return make_record(results=(make_precision_result(*sweep),), files=files)


def test_scorecard_has_a_verdict_with_its_value_and_tone() -> None:
    manifest = make_manifest(claims=(CLAIM,), deviations=("fewer steps",))
    results = (make_result(make_succeeded(0.2)), make_result(make_succeeded(0.1), precision="bf16"))
    section = find_section(build_view((make_record(manifest=manifest, results=results),)), "claims")
    scorecard, deviations = section.tables
    assert column(scorecard, "Verdict") == ["reproduced"]
    assert scorecard.rows[0][1].tone == "good"
    assert column(scorecard, "measured")[0].startswith("0.500 [")
    assert column(deviations, "Deviation") == ["fewer steps"]
    assert scorecard.caption == "1 claim: 1 reproduced"


def test_precision_shows_curves_metrics_and_says_that_synthetic_pictures_are_none() -> None:
    record = precision_record(make_divergence(0.97), make_divergence(0.98, steps=20))
    section = find_section(build_view((record,)), "precision")
    assert "images are noise" in section.paragraphs[0]
    assert [(point.x, round(point.value, 6)) for point in lines_of(section).points] == [(10, 0.03), (20, 0.02)]
    assert column(section.tables[0], "PSNR, dB") == ["41.50", "41.50"]


def test_identical_and_broken_images_are_worded() -> None:
    none = Unknown(reason="not finite")
    broken = make_divergence(
        0.5, steps=30, non_finite_count=12, ssim=none, psnr_db=none, nrmse=none, largest_difference=none
    )
    identical = make_divergence(1.0, steps=20, identical=True)
    table = find_table(build_view((precision_record(identical, broken),)), "precision")
    assert column(table, "PSNR, dB") == ["identical", "—"]
    assert column(table, "not finite") == ["0", "12"]


def test_pictures_stand_step_by_step_and_all_but_the_last_wait_behind_a_fold() -> None:
    record = precision_record()
    view = build_view((record,), images={record.run_id: {CANDIDATE: make_webp()}})
    section = find_section(view, "precision")
    assert isinstance(section, PrecisionSection)
    (series,) = section.series
    assert [step.label for step in series.steps] == [
        "denoiser call 1: PSNR 41.5 dB, 1 - SSIM 0.02000",
        "denoiser call 2: PSNR 41.5 dB, 1 - SSIM 0.01000",
    ]
    assert [picture.caption for picture in series.steps[0].pictures] == ["tiny-sd bf16 batch 1 64x64 4 steps"]
    page = render_report(view)
    assert page.count("data:image/webp") == 2
    assert page.index("denoiser call 2") < page.index("<summary>Earlier steps (1)") < page.index("denoiser call 1")


def test_capacity_shows_the_answer_with_its_throughput_and_every_probe() -> None:
    section = find_section(build_view((make_record(results=(make_search_result(),)),)), "capacity")
    answers, probes = section.tables
    assert column(answers, "largest batch") == ["6"]
    assert float(column(answers, "images/min")[0]) > 100
    assert column(probes, "Result") == ["fits", "does not fit", "fits"]
    assert column(probes, "Message") == ["—", "no room", "—"]


def test_searched_batch_stands_in_the_row_names_and_on_the_throughput_line() -> None:
    full: dict[str, Any] = {"pipeline": "sd-1.4"}
    record = make_record(results=(make_result(make_succeeded(1.0), **full), make_search_result(**full)))
    view = build_view((record,))
    assert "sd-1.4 fp32 largest batch 64x64 4 steps: 6" in column(find_table(view, "results"), "Experiment")
    chart = lines_of(find_section(view, "throughput"))
    assert [point.x for point in chart.points] == [1, 6]
    assert [stop.x for stop in chart.stops] == [7]


def lines_of(section: Section) -> LineChart:
    chart = section.charts[0]
    assert isinstance(chart, LineChart)
    return chart


def test_report_without_studies_says_so() -> None:
    view = build_view((make_record(),))
    assert find_section(view, "precision").paragraphs == ("Nothing was compared.",)
    assert find_section(view, "capacity").paragraphs == ("No search for the largest batch has ended.",)
    assert find_section(view, "claims").paragraphs == ("The manifest makes no claims.",)
