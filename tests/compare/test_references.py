from typing import Any

from sdbench.compare.projection import project
from sdbench.compare.references import answer_of, load_references, main_answer, references_for, references_like
from sdbench.schema.metrics import launches_that_count
from sdbench.schema.record import Record
from tests.records import make_experiment, make_record, make_result, make_succeeded, slow_phases

STUDY: dict[str, Any] = {"pipeline": "sd-1.4", "width": 512, "height": 512}


def full_size(steps: int, latency_s: float = 40.0, **options: Any) -> Record:
    return make_record(results=(make_result(make_succeeded(latency_s, steps=steps), steps=steps, **STUDY, **options),))


def test_every_published_latency_ships_with_the_package() -> None:
    references = load_references()
    assert len(references) == 47
    assert {reference.year for reference in references} == {2022}
    assert all(reference.experiment.has({"steps": 50, **STUDY}) for reference in references)


def test_single_precision_stands_next_to_single_precision_of_each_machine() -> None:
    references = references_for(full_size(50))
    assert [reference.latency_s for reference in references] == sorted(reference.latency_s for reference in references)
    assert {reference.experiment.precision for reference in references if reference.is_gpu} - {"fp16"} == {"fp32"}
    by_name = {reference.device_name: reference for reference in references}
    assert by_name["NVIDIA GeForce RTX 3090"].latency_s == 7.96
    # The study has this one with two backends.
    assert by_name["AMD EPYC 7352 24-Core Processor"].latency_s == 529.93
    # It ran in half precision only.
    assert by_name["NVIDIA GeForce RTX 3080"].experiment.precision == "fp16"


def test_bfloat16_stands_next_to_half_precision() -> None:
    references = references_like(make_experiment(precision="bf16", steps=2, **STUDY))
    assert {item.latency_s for item in references if item.device_name == "NVIDIA GeForce RTX 3090"} == {4.83}


def test_onnxruntime_stands_next_to_onnxruntime() -> None:
    references = references_like(make_experiment(backend="onnxruntime", **STUDY))
    assert {item.latency_s for item in references if item.device_name.startswith("AMD")} == {223.19}


def test_batch_without_a_published_result_has_no_reference() -> None:
    assert references_for(full_size(50, batch=3)) == ()


def test_run_of_few_steps_is_projected_and_one_of_fifty_is_not() -> None:
    (few,), (fifty,) = full_size(2).results, full_size(50).results
    projection = project(few.planned, launches_that_count(few.outcome))
    answer = answer_of(few)
    assert answer is not None
    assert projection is not None
    assert answer.is_projected
    assert answer.estimate == projection.estimate
    assert answer.estimate.value > 40.0 * 10
    answer = answer_of(fifty)
    assert answer is not None
    assert not answer.is_projected


def test_projection_is_scaled_to_the_timed_call() -> None:
    (result,) = full_size(2).results
    slow = tuple(slow_phases(launch, 2.0) for launch in launches_that_count(result.outcome))
    plain, scaled = project(result.planned, launches_that_count(result.outcome)), project(result.planned, slow)
    assert plain is not None
    assert scaled is not None
    assert abs(scaled.estimate.value / plain.estimate.value - 1) < 1e-9


def test_main_answer_is_the_fastest_of_the_smallest_batch_and_measured_before_projected() -> None:
    results = [
        make_result(make_succeeded(seconds, steps=steps), batch=batch, steps=steps, precision=precision, **STUDY)
        for seconds, steps, batch, precision in (
            (9.0, 50, 1, "fp32"),
            (5.0, 50, 1, "bf16"),
            (0.01, 2, 1, "fp16"),
            (4.0, 50, 2, "fp16"),
        )
    ]
    answer = main_answer(make_record(results=tuple(results)))
    assert answer is not None
    assert answer.experiment.precision == "bf16"


def test_small_images_tiny_networks_and_simulated_results_answer_nothing() -> None:
    small = (make_result(make_succeeded()), make_result(make_succeeded(), pipeline="sd-1.4"))
    assert main_answer(make_record(results=small)) is None
    assert main_answer(full_size(50).model_copy(update={"origin": "virtual"})) is None
    assert references_for(full_size(50).model_copy(update={"origin": "virtual"})) == ()


def test_half_of_the_guidance_is_another_question() -> None:
    assert main_answer(full_size(50, guidance_scale=1.0)) is None
