import base64
import math

import pytest

from sdbench.plan.manifest_file import check_manifest
from sdbench.report.model import FoldedSection, ImageSection
from sdbench.report.phases import project
from sdbench.report.points import make_source
from sdbench.report.resources import energy_per_image
from sdbench.report.sections.reproduce import make_command, manifest_text
from sdbench.report.text import fold_unknown, format_number, make_table
from sdbench.report.view import build_view
from sdbench.schema.base import Known, Unknown
from sdbench.schema.document import parse_yaml
from sdbench.schema.outcome import Notice, Succeeded
from tests.records import (
    make_environment,
    make_failed,
    make_launch,
    make_out_of_memory,
    make_planned,
    make_record,
    make_request,
    make_result,
    make_succeeded,
)
from tests.report.inputs import (
    IMAGE_PATH,
    column,
    find_section,
    find_table,
    make_full_record,
    make_images,
    make_telemetry,
)


@pytest.mark.parametrize(("slowest_s", "log_scale"), [(1.9, False), (2.3, True)])
def test_latency_scale_is_logarithmic_beyond_a_range_of_twenty(slowest_s: float, log_scale: bool) -> None:
    results = (make_result(make_succeeded(0.1)), make_result(make_succeeded(slowest_s), batch=2))
    (chart,) = find_section(build_view((make_record(results=results),)), "latency").charts
    assert chart.kind == "points"
    assert chart.log_scale is log_scale


def test_projection_follows_its_formula() -> None:
    record = make_record(results=(make_result(make_succeeded(0.25, 1)),))
    (measured,) = make_source((record,), None, None).measured
    (launch,) = measured.point.launches
    samples = {series.name: series.samples for series in launch.series}
    step_s = sorted(samples["phase.denoise_step"])[2]
    expected_s = 51 * step_s + sum(samples[f"phase.{name}"][0] for name in ("text_encode", "vae_decode", "rest"))
    projection = project(measured)
    assert projection is not None
    assert projection.estimate.value == pytest.approx(expected_s)
    assert projection.unet_calls == 51


def test_experiment_of_fifty_steps_is_not_projected() -> None:
    record = make_record(results=(make_result(make_succeeded(0.25, steps=50), steps=50),))
    assert find_section(build_view((record,)), "projection").tables == ()


def test_projection_stands_in_a_column_of_its_own_labelled_not_measured() -> None:
    table = find_table(build_view((make_record(),)), "projection")
    titles = [one.title for one in table.columns]
    assert "measured, s" in titles
    assert "projected, not measured, s" in titles


def test_energy_per_image_divides_by_calls_and_batch() -> None:
    outcome = make_succeeded(0.1, 2, "cuda:0", call_count=5)
    record = make_record(device="cuda:0", results=(make_result(outcome, batch=4),))
    (point,) = make_source((record,), None, None).points
    energy = energy_per_image(point)
    assert isinstance(energy, Known)
    assert energy.value == pytest.approx(300.0 * 0.1 / 4)


def test_unknown_energy_says_why() -> None:
    (point,) = make_source((make_record(results=(make_result(),)),), None, None).points
    assert energy_per_image(point) == Unknown(reason="RAPL is not readable here")
    results = find_table(build_view((make_record(),)), "results")
    assert results.notes == ("energy per image: unknown: RAPL is not readable here.",)


def test_unknown_cells_among_known_ones_point_to_a_note() -> None:
    table = fold_unknown(make_table("caption", "a|b", [("x", "unknown: no sensor"), ("y", "3")]))
    assert column(table, "b") == ["unknown [1]", "3"]
    assert table.notes == ("[1] unknown: no sensor.",)


def test_memory_names_the_figure_of_each_device() -> None:
    cpu, cuda = make_record(), make_record(device="cuda:0")
    assert find_section(build_view((cpu,)), "memory").charts[0].caption.startswith("Shown: host RSS peak.")
    assert find_section(build_view((cuda,)), "memory").charts[0].caption.startswith("Shown: torch reserved peak.")


def test_phase_table_compares_the_phase_call_with_the_timed_one() -> None:
    view = build_view((make_record(results=(make_result(make_succeeded(0.2)),)),))
    phases = find_section(view, "phases").tables[1]
    assert float(column(phases, "total / timed")[0]) == pytest.approx(1.0, abs=0.02)


def test_samples_of_failed_experiments_are_shown_too() -> None:
    record = make_record(results=(make_result(make_out_of_memory()),))
    (chart,) = find_section(build_view((record,)), "samples").charts
    assert chart.kind == "samples"
    assert [mark.kind for mark in chart.marks].count("warm-up") == 2
    assert len(chart.marks) == 7


def test_sample_ratios_are_taken_to_the_median_of_the_counted_samples() -> None:
    (chart,) = find_section(build_view((make_record(results=(make_result(),)),)), "samples").charts
    assert chart.kind == "samples"
    steady = sorted(mark.ratio for mark in chart.marks if mark.kind == "steady")
    assert steady[len(steady) // 2] == pytest.approx(1.0)


def test_failure_shows_stage_message_and_its_error_output() -> None:
    section = find_section(build_view((make_record(results=(make_result(make_failed()),)),)), "unmeasured")
    assert isinstance(section, FoldedSection)
    assert column(section.tables[0], "Stage") == ["load"]
    assert column(section.tables[0], "What happened") == ["RuntimeError: the weights are broken"]
    assert "Traceback" in section.details[0].text


def test_success_without_a_positive_sample_is_no_measurement() -> None:
    launch = make_launch()
    broken = tuple(
        s.model_copy(update={"samples": (0.0,) * len(s.samples)}) if s.name == "latency" else s for s in launch.series
    )
    outcome = Succeeded(launches=(make_launch(series=broken),), stop_reason="budget")
    view = build_view((make_record(results=(make_result(outcome),)),))
    assert column(find_table(view, "unmeasured"), "Outcome") == ["no usable sample"]


def test_command_asks_for_the_same_run_again() -> None:
    request = make_request(
        manifest_name="my manifests/a.yaml",
        only=("smoke",),
        device="cpu",
        weights="synthetic",
        settings=("protocol.calls_min=3",),
    )
    assert make_command(make_record(request=request)) == (
        "sdbench run 'my manifests/a.yaml' --device cpu --only smoke --weights synthetic --budget 255s"
        " --set protocol.calls_min=3"
    )


def test_embedded_manifest_reads_as_the_manifest_of_the_record() -> None:
    record = make_record()
    assert check_manifest(parse_yaml(manifest_text(record), "report")) == record.manifest


def test_image_is_embedded_only_if_its_hash_is_the_records() -> None:
    record = make_full_record()
    good = find_section(build_view((record,), None, make_images(record)), "images")
    assert isinstance(good, ImageSection)
    (picture,) = good.pictures
    assert base64.b64decode(picture.webp_base64)[8:12] == b"WEBP"
    swapped = {record.run_id: {IMAGE_PATH: b"\x89PNG\r\n\x1a\nanother"}}
    bad = find_section(build_view((record,), None, swapped), "images")
    assert bad.is_bare
    assert "1 more image left out" in bad.paragraphs[0]


def test_images_of_synthetic_weights_are_called_no_pictures() -> None:
    record = make_full_record()
    section = find_section(build_view((record,), None, make_images(record)), "images")
    assert "not pictures of anything" in section.paragraphs[0]


def test_machine_shows_unknown_with_its_reason_and_every_hash() -> None:
    record = make_record()
    tables = find_section(build_view((record,)), "machine").tables
    texts = {cell.text for table in tables for row in table.rows for cell in row}
    assert "unknown: /sys is not readable here" in texts
    for part in ("hardware", "configuration", "software"):
        assert f"{getattr(record.fingerprint, f'{part}_sha256')[:16]}…" in texts


def test_unknown_of_two_machines_is_not_called_the_same() -> None:
    view = build_view((make_record(), make_record(device="cuda:0")))
    configuration = find_section(view, "machine").tables[1]
    verdicts = dict(zip(column(configuration, "Field"), column(configuration, "Same?"), strict=True))
    assert verdicts["cpu governor"] == "unknown"
    assert verdicts["microcode"] == "same"


def test_telemetry_is_summed_up_per_series() -> None:
    record = make_full_record()
    table = find_table(build_view((record,), make_telemetry(record)), "telemetry")
    assert [cell.text for cell in table.rows[0]] == ["cpu clock", "MHz", "3400", "3500", "3600", "3"]


def test_interrupted_run_is_announced() -> None:
    assert "Not finished" in (build_view((make_record(ended="interrupted"),)).notice or "")
    assert build_view((make_record(),)).notice is None


def test_throughput_interval_turns_the_latency_interval_round() -> None:
    (chart,) = find_section(build_view((make_record(),)), "throughput").charts
    assert chart.kind == "lines"
    for point in chart.points:
        assert point.low is not None
        assert point.high is not None
        assert point.low < point.value < point.high
        assert math.isclose(point.low * point.high, point.value**2, rel_tol=1e-9)


def test_warnings_of_one_kind_share_a_row() -> None:
    def warn(share: float) -> Notice:
        return Notice(code="steal", message=f"{share} % of the CPU went to others", remedy="use a dedicated host")

    launches = tuple(make_launch(index, warnings=(warn(index + 0.5),)) for index in range(3))
    results = tuple(make_result(Succeeded(launches=launches, stop_reason="budget"), batch=batch) for batch in (1, 2))
    table = find_table(build_view((make_record(results=results, warnings=()),)), "summary")
    assert column(table, "What was seen") == ["0.5 % of the CPU went to others (and 2 more)"]
    assert column(table, "Where") == [f"{make_planned().label} (and 1 more)"]
    assert column(table, "times") == ["6"]


def test_very_wide_interval_shows_its_ends_on_a_log_scale() -> None:
    launches = tuple(make_launch(index, latency_s) for index, latency_s in enumerate((0.5, 5.0)))
    record = make_record(results=(make_result(Succeeded(launches=launches, stop_reason="budget")),))
    (chart,) = find_section(build_view((record,)), "latency").charts
    assert chart.kind == "points"
    assert chart.log_scale
    assert "±" not in chart.marks[0].text
    assert "[" in chart.marks[0].text


def test_run_on_a_cpu_is_named_by_its_model() -> None:
    outcome = make_succeeded(environment=make_environment(device_name="cpu"))
    source = make_source((make_record(results=(make_result(outcome),)),), None, None)
    assert source.machine_names == ("Example CPU 8480",)


@pytest.mark.parametrize(
    ("value", "text"), [(5.456e-12, "5.456e-12"), (1e-4, "0.0001000"), (-2e-7, "-2.000e-07"), (0.0, "0"), (None, "—")]
)
def test_tiny_number_is_written_with_an_exponent(value: float | None, text: str) -> None:
    assert format_number(value) == text
