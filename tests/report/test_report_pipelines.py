"""Results of several pipelines on one page: which stand together, how much work they are, and what is missing."""

from typing import Any

import pytest

from sdbench.compare.projection import ENCODERS, phases_of_launch
from sdbench.report.labels import name_experiments, split_labels
from sdbench.report.model import SummarySection
from sdbench.report.questions import by_image, main_experiments, name_image
from sdbench.report.site_numbers import find_fastest
from sdbench.schema.base import Known
from sdbench.schema.outcome import Series, Skipped, Succeeded
from sdbench.schema.record import Record, Result
from tests.fingerprints import make_fingerprint, make_hardware
from tests.records import make_environment, make_launch, make_record, make_result, make_series, make_skipped, make_work
from tests.report.inputs import column, find_section, find_table
from tests.views import build_view, make_source

CUT = {"transformer.num_layers": 2}
TFLOP = 10**12
FLUX: dict[str, Any] = {"pipeline": "flux.1-schnell", "height": 512, "width": 512}


def measured(flop: int, *, latency_s: float = 2.0, series: tuple[Series, ...] = (), **options: Any) -> Result:
    work = make_work(
        pixels=512 * 512,
        latent_tokens=1024,
        text_tokens={"text_encoder": 77, "text_encoder_2": 256},
        flop_per_image={
            "text_encoder": flop // 20,
            "text_encoder_2": flop // 20,
            "transformer": flop // 10 * 8,
            "vae": flop // 10,
        },
    )
    environment = make_environment(work=work, drawn_tokens={"tokenizer_2": 256})
    launches = tuple(
        make_launch(index, latency_s, environment=environment, series=series or make_series(index, latency_s))
        for index in range(3)
    )
    return make_result(Succeeded(launches=launches, stop_reason="converged"), **options)


def record_of(*results: Result) -> Record:
    return make_record(results=results)


def test_changed_pipeline_is_never_grouped_with_the_whole_one() -> None:
    whole, cut = measured(TFLOP, **FLUX), measured(TFLOP, batch=2, config=CUT, **FLUX)
    source = make_source((record_of(whole, cut),), None, None)
    assert [name_image(group[0].experiment) for group in main_experiments(source.measured)] == [
        "flux.1-schnell, 512x512",
        "flux.1-schnell num_layers=2, 512x512",
    ]
    assert "num_layers" not in str(find_section(build_view((record_of(whole, cut),)), "memory").charts)


def test_changed_sd_1_4_does_not_answer_the_question_of_the_study() -> None:
    changed = measured(TFLOP, pipeline="sd-1.4", height=512, width=512, steps=50, config={"unet.layers_per_block": 1})
    (summary,) = (find_section(build_view((record_of(changed),)), "summary"),)
    assert isinstance(summary, SummarySection)
    assert not summary.headline.startswith("One 512x512 image")


def test_groups_are_in_the_order_of_their_work_and_not_of_their_names() -> None:
    results = [
        measured(flop, pipeline=name, batch=batch, height=512, width=512)
        for flop, name in ((3 * TFLOP, "a-small"), (9 * TFLOP, "b-large"), (6 * TFLOP, "c-middle"))
        for batch in (1, 2)
    ]
    groups = by_image(make_source((record_of(*results),), None, None).measured)
    assert [name.partition(",")[0] for name in groups] == ["b-large", "c-middle", "a-small"]


def test_machines_stand_side_by_side_for_each_whole_pipeline_that_several_ran() -> None:
    hardware = [make_hardware(cpu_model=Known(value=name)) for name in ("one 01", "two 02")]
    records = [
        make_record(
            results=(
                measured(TFLOP, pipeline="sdxl"),
                measured(2 * TFLOP, **FLUX),
                measured(3 * TFLOP, pipeline="sd-1.5", config=CUT),
            ),
            fingerprint=make_fingerprint(hardware=item),
            run_id=f"run-{index}",
        )
        for index, item in enumerate(hardware)
    ]
    charts = find_section(build_view(tuple(records)), "devices").charts
    assert [chart.title.split(", ")[1] for chart in charts] == ["flux.1-schnell", "sdxl"]


def test_index_of_a_site_has_the_most_work_first_and_whole_pipelines_before_cut_ones() -> None:
    results = [
        measured(9 * TFLOP, config=CUT, **FLUX),
        measured(1 * TFLOP, pipeline="a-small", height=512, width=512),
        measured(3 * TFLOP, pipeline="b-large", height=512, width=512),
    ]
    kinds = [item.kind.pipeline for item in find_fastest({"page": [record_of(*results)]})]
    assert kinds == ["b-large", "a-small", "flux.1-schnell num_layers=2"]


def test_numbers_of_tokens_are_named_where_a_run_varies_them() -> None:
    results = [measured(TFLOP, max_sequence_length=count, **FLUX) for count in (128, 256)]
    labels = list(name_experiments([record_of(*results)]).values())
    assert split_labels(labels)[1] == {labels[0]: "128 tokens", labels[1]: "256 tokens"}


def test_pipelines_of_one_experiment_each_share_a_chart() -> None:
    results = [
        measured(flop * TFLOP, pipeline=name)
        for flop, name in ((1, "tiny-sd"), (2, "tiny-flux"), (3, "sdxl"), (4, "sd-1.5"))
    ]
    charts = find_section(build_view((record_of(*results),)), "summary").charts
    assert [[mark.label for mark in chart.marks] for chart in charts if chart.kind == "points"] == [
        ["sd-1.5", "sdxl"],
        ["tiny-flux", "tiny-sd"],
    ]


def test_work_of_an_image_is_counted_and_its_rate_is_of_the_whole_call() -> None:
    table = find_table(build_view((record_of(measured(10 * TFLOP, latency_s=4.0, **FLUX)),)), "work")
    assert column(table, "text tokens") == ["77 + 256"]
    assert column(table, "TFLOP") == ["10.00"]
    shares = [column(table, title)[0] for title in ("text encoders", "denoiser", "decoder")]
    assert shares == ["10 %", "80 %", "10 %"]
    assert float(column(table, "TFLOP/s of the call")[0]) == pytest.approx(2.5, rel=0.01)


def test_few_steps_of_a_whole_pipeline_are_projected_to_its_own_in_the_lead() -> None:
    for options, is_projected in ((FLUX, True), (FLUX | {"config": CUT}, False)):
        summary = find_section(build_view((record_of(measured(TFLOP, **options)),)), "summary")
        assert isinstance(summary, SummarySection)
        # 4 steps of 50: the denoiser's share grows from 72 % of 2 s.
        assert (summary.lead[0].startswith("At the pipeline's own 50 steps about 15.3 s a call")) is is_projected


def test_text_encoders_have_phases_of_their_own() -> None:
    second = Series(name="phase.text_encoder_2", unit="s", samples=(0.5,))
    series = (*make_series(0, 2.0), second)
    view = build_view((record_of(measured(TFLOP, series=series, **FLUX), measured(TFLOP)),))
    phases = find_section(view, "phases")
    table = next(table for table in phases.tables if table.caption.startswith("Phases"))
    assert column(table, "text encoder 2") == ["0.5000", "\N{EM DASH}"]
    (chart,) = phases.charts
    assert chart.kind == "shares"
    assert chart.parts == ("text encoder", "text encoder 2", "denoising steps", "VAE decode", "rest")
    times = phases_of_launch(make_launch(series=series))
    assert times is not None
    assert tuple(times.encoders_s) == tuple(ENCODERS.values())[:2]


def test_drawn_token_ids_are_said_where_the_run_is_repeated() -> None:
    recipe = str(find_section(build_view((record_of(measured(TFLOP, **FLUX)),)), "reproduce"))
    assert "drawn, because the vocabulary is on the hub only: tokenizer 2 256" in recipe


def test_what_is_missing_is_on_the_first_screen_with_reason_and_hint() -> None:
    large = Skipped(reason="needs about 72 GiB of host memory, this machine has 24 GiB", hint="use a machine with more")
    elsewhere = make_result(make_skipped(), device="cuda", batch=4)
    results = (measured(TFLOP), *(make_result(large, pipeline=name) for name in ("sdxl", "sd-1.5")), elsewhere)
    summary = find_section(build_view((record_of(*results),)), "summary")
    assert isinstance(summary, SummarySection)
    (card,) = (card for card in summary.cards if card.question == "What is missing?")
    assert card.answer == "2 of 3 experiments"
    assert card.lines == (f"2 skipped: {large.reason}; {large.hint}",)
    table = find_table(build_view((record_of(*results),)), "unmeasured")
    assert [one.title for one in table.columns] == ["Experiment", "Outcome", "What happened", "What to do"]
