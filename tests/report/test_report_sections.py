import base64
import math
from statistics import median

import pytest

from sdbench.compare.projection import project
from sdbench.compare.repeat import make_command
from sdbench.plan.manifest_file import check_manifest
from sdbench.report.format import fold_unknown, format_number, make_table, texts
from sdbench.report.model import SummarySection
from sdbench.report.sections.reproduce import manifest_text
from sdbench.schema.base import Known, Unknown
from sdbench.schema.document import parse_yaml
from sdbench.schema.metrics import result_energy_j
from sdbench.schema.outcome import RecordWarning, Succeeded
from sdbench.schema.warning_codes import WarningCode
from tests.records import (
    make_environment,
    make_failed,
    make_launch,
    make_out_of_memory,
    make_record,
    make_request,
    make_result,
    make_series,
    make_succeeded,
    sustain,
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
from tests.views import build_view, make_source


@pytest.mark.parametrize(("slowest_s", "log_scale"), [(1.9, False), (2.3, True)])
def test_latency_scale_is_logarithmic_beyond_a_range_of_twenty(slowest_s: float, log_scale: bool) -> None:
    results = (make_result(make_succeeded(0.1)), make_result(make_succeeded(slowest_s), batch=2))
    (chart,) = find_section(build_view((make_record(results=results),)), "summary").charts
    assert chart.kind == "points"
    assert chart.log_scale is log_scale


def test_projection_follows_its_formula() -> None:
    record = make_record(results=(make_result(make_succeeded(0.25, 1)),))
    (measured,) = make_source((record,), None, None).measured
    (launch,) = measured.launches
    samples = {series.name: series.samples for series in launch.series}
    step_s = sorted(samples["phase.denoise_step"])[2]
    observed_s = 51 * step_s + sum(samples[f"phase.{name}"][0] for name in ("text_encoder", "vae_decode", "rest"))
    # Scaled to the timed calls: the observed one may be slower.
    expected_s = observed_s * median(samples["latency"][2:]) / samples["phase.total"][0]
    projection = project(measured.planned, measured.counted)
    assert projection is not None
    assert projection.estimate.value == pytest.approx(expected_s)
    assert projection.denoiser_calls == 51


@pytest.mark.parametrize(
    ("pace", "warmup_count", "caveat"),
    [
        (1.02, 2, None),
        (1.6, 2, "scaled from the phases of a call, which took 1.6"),
        (1.02, 1, "scaled from the phases of the first call, which took 1.02 times a timed one"),
    ],
)
def test_projection_is_that_of_the_timed_calls_and_says_what_the_phases_are_of(
    pace: float, warmup_count: int, caveat: str | None
) -> None:
    series = {each.name: each for each in make_series(0, 0.25, warmup_count=warmup_count)}
    timed_s = median(series["latency"].steady)
    whole_s = series["phase.total"].samples[0]
    for name, each in series.items():
        if name != "latency":
            scaled = tuple(pace * timed_s / whole_s * sample for sample in each.samples)
            series[name] = each.model_copy(update={"samples": scaled})
    outcome = make_succeeded(0.25, 1, series=tuple(series.values()))
    (measured,) = make_source((make_record(results=(make_result(outcome),)),), None, None).measured
    projection = project(measured.planned, measured.counted)
    assert projection is not None
    assert projection.observed_ratio == pytest.approx(pace)
    # 51 denoiser calls of 0.036 s, the rest 0.07 s, whatever the pace of the observed call.
    assert projection.estimate.value == pytest.approx(1.9, rel=0.01)
    assert caveat in (projection.caveat or "") if caveat else projection.caveat is None


def test_experiment_of_fifty_steps_is_not_projected() -> None:
    record = make_record(results=(make_result(make_succeeded(0.25, steps=50), steps=50),))
    assert find_section(build_view((record,)), "projection").tables == ()


def test_projection_stands_in_a_column_of_its_own_labelled_not_measured() -> None:
    table = find_table(build_view((make_record(),)), "projection")
    titles = [one.title for one in table.columns]
    assert "measured, s" in titles
    assert "projected, not measured, s" in titles


def test_energy_per_image_divides_by_calls_and_batch() -> None:
    energy = result_energy_j(make_succeeded(0.1, 2, "cuda:0", call_count=5, batch=4))
    assert isinstance(energy, Known)
    assert energy.value == pytest.approx(300.0 * 0.1 / 4)


def test_unknown_energy_says_why() -> None:
    assert result_energy_j(make_result().outcome) == Unknown(reason="RAPL is not readable here")
    results = find_table(build_view((make_record(),)), "results")
    assert results.notes == ("energy per image: unknown: RAPL is not readable here.",)


def test_unknown_cells_among_known_ones_point_to_a_note() -> None:
    table = fold_unknown(make_table("caption", texts("a", "b"), [("x", "unknown: no sensor"), ("y", "3")]))
    assert column(table, "b") == ["unknown [1]", "3"]
    assert table.notes == ("[1] unknown: no sensor.",)


def test_memory_names_the_figure_of_each_device() -> None:
    cpu, cuda = make_record(), make_record(device="cuda:0")
    assert find_section(build_view((cpu,)), "memory").charts[0].caption.startswith("Shown: host RSS peak.")
    assert find_section(build_view((cuda,)), "memory").charts[0].caption.startswith("Shown: torch reserved peak.")


def test_memory_of_mapped_weights_is_explained() -> None:
    drawn = make_record()
    environment = make_environment(weights_source="mapped", weights_mapped_bytes=2**30)
    outcome = Succeeded(launches=(make_launch(environment=environment),), stop_reason="max_launches")
    mapped = make_record(results=(make_result(outcome),))
    words = [find_section(build_view((record,)), "memory").paragraphs for record in (drawn, mapped)]
    assert [len(paragraphs) for paragraphs in words] == [1, 2]
    assert words[1][1].startswith("Weights of up to 1.00 GiB were mapped")


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


def test_command_with_a_pipeline_of_a_user_asks_for_its_path() -> None:
    named = ("steps=2", "pipeline=mine@0123456789ab", "weights=pretrained", "hub_id=null", "revision=null")
    assert make_command(make_record(request=make_request(settings=named))).endswith("--set pipeline=PATH --set steps=2")
    drawn = ("pipeline=mine@0123456789ab", "weights=synthetic")
    command = make_command(make_record(request=make_request(settings=drawn)))
    assert command.endswith("--set pipeline=PATH --set weights=synthetic")


def test_embedded_manifest_reads_as_the_manifest_of_the_record() -> None:
    record = make_record()
    assert check_manifest(parse_yaml(manifest_text(record), "report")) == record.manifest


def test_image_is_embedded_only_if_its_hash_is_the_records() -> None:
    record = make_full_record()
    good = find_section(build_view((record,), None, make_images(record)), "images")
    (picture,) = good.pictures
    assert base64.b64decode(picture.webp_base64)[8:12] == b"WEBP"
    swapped = {record.run_id: {IMAGE_PATH: b"\x89PNG\r\n\x1a\nanother"}}
    bad = find_section(build_view((record,), None, swapped), "images")
    assert bad.is_bare
    assert "1 more image left out" in bad.paragraphs[0]


def test_images_of_synthetic_weights_are_called_noise() -> None:
    record = make_full_record()
    section = find_section(build_view((record,), None, make_images(record)), "images")
    assert "images are noise" in section.paragraphs[0]


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
    assert "Incomplete" in (build_view((make_record(ended="interrupted"),)).warning or "")
    assert build_view((make_record(),)).warning is None


def test_throughput_interval_turns_the_latency_interval_round() -> None:
    results = tuple(make_result(make_succeeded(2.0 * batch), pipeline="sd-1.4", batch=batch) for batch in (1, 2))
    (chart,) = find_section(build_view((make_record(results=results),)), "throughput").charts
    assert chart.kind == "lines"
    for point in chart.points:
        assert point.low is not None
        assert point.high is not None
        assert point.low < point.value < point.high
        assert math.isclose(point.low * point.high, point.value**2, rel_tol=1e-9)


def test_warnings_of_one_kind_share_a_row() -> None:
    def warn(share: float) -> RecordWarning:
        return RecordWarning(
            code=WarningCode.GPU_POWER_LIMIT,
            message=f"the GPU ran at {share} of the limit",
            hint="compare with care",
        )

    launches = tuple(make_launch(index, warnings=(warn(index + 0.5),)) for index in range(3))
    results = tuple(make_result(Succeeded(launches=launches, stop_reason="budget"), batch=batch) for batch in (1, 2))
    summary = find_section(build_view((make_record(results=results, warnings=()),)), "summary")
    assert isinstance(summary, SummarySection)
    (warning,) = [warning for warning in summary.warnings if "the GPU" in warning.what]
    assert warning.what == "the GPU ran at 0.5 to 2.5 of the limit"
    assert (warning.where, warning.hint) == ("both experiments", "compare with care")


@pytest.mark.parametrize(
    ("latencies_s", "words"),
    [((0.5, 0.51), "(2 launches: too few)"), ((0.5, 5.0, 1.0), "(3 launches: too far apart)")],
)
def test_interval_that_says_nothing_is_drawn_as_open_ends(latencies_s: tuple[float, ...], words: str) -> None:
    launches = tuple(make_launch(index, latency_s) for index, latency_s in enumerate(latencies_s))
    record = make_record(results=(make_result(Succeeded(launches=launches, stop_reason="budget")),))
    (chart,) = find_section(build_view((record,)), "summary").charts
    assert chart.kind == "points"
    (mark,) = chart.marks
    assert (mark.low, mark.high, mark.is_open) == (None, None, True)
    assert not chart.log_scale
    assert mark.text.endswith(words)


def test_wide_interval_that_is_shown_has_its_two_ends() -> None:
    launches = tuple(make_launch(index, latency_s) for index, latency_s in enumerate((0.5, 0.6, 0.7)))
    record = make_record(results=(make_result(Succeeded(launches=launches, stop_reason="budget")),))
    (chart,) = find_section(build_view((record,)), "summary").charts
    assert chart.kind == "points"
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


def test_cold_start_separates_the_first_launch_and_says_where_weights_came_from() -> None:
    drawn, mapped = (make_launch(index, load_s=load_s) for index, load_s in enumerate((9.0, 0.5)))
    kept = mapped.model_copy(update={"environment": mapped.environment.model_copy(update={"weights_source": "mapped"})})
    outcome = Succeeded(launches=(drawn, kept, kept), stop_reason="max_launches")
    table = find_table(build_view((make_record(results=(make_result(outcome),)),)), "phases")
    assert column(table, "launches") == ["first", "2 later"]
    assert column(table, "load") == ["9.000", "0.5000"]
    assert column(table, "weights") == ["drawn by the launch", "kept in the cache folder"]


def test_sustained_load_has_a_table_only_where_it_was_made() -> None:
    result = make_result(make_succeeded(0.25, 3))
    tables = find_section(build_view((make_record(results=(sustain(result, 1.04),)),)), "phases").tables
    (table,) = [table for table in tables if table.caption.startswith("After the load")]
    assert column(table, "sustained / short") == ["1.040"]
    assert column(table, "load") == ["60"]
    without = find_section(build_view((make_record(results=(result,)),)), "phases").tables
    assert not [table for table in without if table.caption.startswith("After the load")]
