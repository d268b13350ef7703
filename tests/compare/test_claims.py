from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from sdbench.compare.claims import NO_SAMPLES, Score, claims_of, is_called, score_claims, score_own_claims
from sdbench.compare.wording import format_expected, format_value
from sdbench.plan.manifest_file import load_manifest
from sdbench.schema.base import Known, Unknown
from sdbench.schema.manifest import Claim
from sdbench.schema.outcome import ReferenceResult, Succeeded
from sdbench.schema.record import Record
from sdbench.schema.workload_results import BatchProbe, BatchSearch, Divergence, PrecisionResult
from tests.fingerprints import make_fingerprint
from tests.records import (
    CLAIM,
    make_launch,
    make_manifest,
    make_out_of_memory,
    make_record,
    make_result,
    make_succeeded,
)

MANIFESTS = Path(__file__).parents[2] / "manifests"


def make_claim(**changes: Any) -> Claim:
    return Claim.model_validate({**CLAIM, **changes})


def one(claim: Claim, *records: Record) -> Score:
    (score,) = score_claims((claim,), records)
    return score


def pair_record(half_s: float, full_s: float, launch_count: int = 4, **changes: Any) -> Record:
    device = changes.get("device", "cpu")
    results = (
        make_result(make_succeeded(full_s, launch_count, device), precision="fp32"),
        make_result(make_succeeded(half_s, launch_count, device), precision="bf16"),
    )
    return make_record(results=results, **changes)


def published_record(*rows: tuple[dict[str, Any], float], device: str = "cuda:0") -> Record:
    results = tuple(make_result(make_published(latency_s), **options) for options, latency_s in rows)
    return make_record(results=results, origin="imported", device=device, fingerprint=make_fingerprint(device))


def make_published(latency_s: float) -> ReferenceResult:
    return ReferenceResult(
        latency_s=latency_s,
        memory_bytes=Known(value=4_520_000_000),
        memory_meaning="reserved after a call",
        method="mean of 3",
        caveats=(),
    )


def test_interval_inside_what_is_expected_is_reproduced() -> None:
    score = one(make_claim(), pair_record(0.1, 0.2))
    assert score.verdict == "reproduced"
    assert score.value == pytest.approx(0.5, abs=0.01)
    assert score.low is not None
    assert 0.4 < score.low < 0.5
    assert format_value(score).endswith("% less")


def test_interval_outside_is_not_reproduced() -> None:
    assert one(make_claim(), pair_record(0.19, 0.2)).verdict == "not reproduced"
    assert one(make_claim(expected={"low": 0.8, "high": 0.9}), pair_record(0.1, 0.2)).verdict == "not reproduced"


def test_interval_over_the_edge_is_inconclusive() -> None:
    score = one(make_claim(expected={"high": 0.5}), pair_record(0.1, 0.2))
    assert (score.verdict, score.why) == ("inconclusive", "the interval lies partly inside the expected range")


def test_one_launch_is_inconclusive() -> None:
    score = one(make_claim(), pair_record(0.1, 0.2, launch_count=1))
    assert (score.verdict, score.why) == ("inconclusive", "one launch has no interval")


def test_claim_about_another_kind_of_device_is_not_tested() -> None:
    score = one(make_claim(applies_to="cuda"), pair_record(0.1, 0.2))
    assert (score.verdict, score.why) == ("not tested", "the claim is about CUDA GPUs")


def test_claim_about_machines_is_tested_on_these_only() -> None:
    claim = make_claim(machines=("A100", "H200"))
    assert one(claim, pair_record(0.1, 0.2, device="cuda:0")).verdict == "reproduced"
    score = one(claim, pair_record(0.1, 0.2))
    assert (score.verdict, score.why) == ("not tested", "the claim is about A100, H200")


def test_experiment_that_did_not_run_is_not_tested_with_the_reason() -> None:
    results = (make_result(make_succeeded(0.2)), make_result(make_out_of_memory(), precision="bf16"))
    score = one(make_claim(), make_record(results=results))
    assert score.verdict == "not tested"
    assert score.why.endswith("out of memory")
    missing = one(make_claim(), make_record(results=results[:1]))
    assert missing.why == "no experiment of these runs has the options of its numerator"


def test_of_several_that_fit_the_plainest_is_meant() -> None:
    results = (
        make_result(make_succeeded(0.2), precision="fp32"),
        make_result(make_succeeded(0.1), precision="bf16"),
        make_result(make_succeeded(9.0), precision="bf16", seed=7),
        make_result(make_succeeded(9.0), precision="fp32", seed=7),
    )
    score = one(make_claim(), make_record(results=results))
    assert score.value == pytest.approx(0.5, abs=0.01)


def test_several_equally_plain_ones_are_not_tested() -> None:
    claim = make_claim(numerator={"options": {"precision": "bf16"}}, denominator=None)
    results = tuple(make_result(make_succeeded(0.1), precision="bf16", seed=seed) for seed in (7, 8))
    score = one(claim, make_record(results=results))
    assert score.verdict == "not tested"
    assert "2 experiments match" in score.why


def test_pair_that_differs_in_more_than_is_named_is_no_pair() -> None:
    results = (make_result(make_succeeded(0.2), batch=2), make_result(make_succeeded(0.1), precision="bf16"))
    assert "differ in options" in one(make_claim(), make_record(results=results)).why


def test_reference_results_give_a_value_and_never_a_verdict() -> None:
    score = one(make_claim(), published_record(({"precision": "fp32"}, 6.39), ({"precision": "bf16"}, 3.74)))
    assert (score.verdict, score.why) == ("not tested", NO_SAMPLES)
    assert score.value == pytest.approx(3.74 / 6.39)
    assert (score.low, score.high) == (None, None)


def test_experiments_on_two_machines_match_by_name_and_kind() -> None:
    claim = make_claim(
        numerator={"runs_on": "cpu", "options": {"precision": "fp32"}},
        denominator={"machine": "h200", "options": {"precision": "fp32"}},
        expected={"low": 5},
    )
    cpu, cuda = pair_record(0.1, 0.2), pair_record(0.01, 0.02, device="cuda:0")
    score = one(claim, cuda, cpu)
    assert score.verdict == "reproduced"
    assert score.machine == "Example CPU 8480 against NVIDIA H200"
    assert one(claim, cpu).why == "needs runs on cpu and h200"


def search_result(largest: int, latency_s: float, confirmations: int = 3) -> Any:
    probes = (BatchProbe(batch=largest, fits=True, peak_bytes=Unknown(reason="x"), wall_s=1.0, message=""),)
    workload_result = BatchSearch(
        limit_bytes=10**9,
        limit_source="x",
        loaded_bytes=Unknown(reason="x"),
        probes=probes,
        largest_batch=largest,
        batch_max=256,
    )
    launches = (
        make_launch(0, workload_result=workload_result, series=(), batch=largest),
        *(make_launch(index, latency_s, batch=largest) for index in range(1, confirmations + 1)),
    )
    return make_result(Succeeded(launches=launches, stop_reason="budget"), workload="largest-batch")


def test_largest_batch_is_an_exact_count_with_a_throughput_of_its_own() -> None:
    record = make_record(results=(search_result(28, 14.0), make_result(make_succeeded(1.0))))
    count = make_claim(
        metric="largest_batch", numerator={"options": {}}, denominator=None, expected={"low": 28, "high": 28}
    )
    assert one(count, record).verdict == "reproduced"
    assert format_value(one(count, record)) == "28"
    rise = make_claim(
        metric="throughput_images_per_min",
        numerator={"pick": "largest batch", "options": {"precision": "fp32"}},
        denominator={"options": {"batch": 1}},
        expected={"low": 1.9, "high": 2.1},
    )
    assert one(rise, record).value == pytest.approx(2.0, abs=0.01)
    assert one(rise, record).verdict == "reproduced"


def precision_result(dissimilarities: Sequence[float], launch_count: int = 2) -> Any:
    sweep = tuple(
        Divergence(
            steps=steps,
            call=None,
            ssim=Known(value=1 - value),
            psnr_db=Known(value=40.0),
            nrmse=Known(value=0.01),
            largest_difference=Known(value=0.1),
            non_finite_count=0,
            reference_non_finite_count=0,
            identical=not value,
            reference_path=None,
            candidate_path=None,
            difference_path=None,
        )
        for steps, value in zip((10, 100), dissimilarities, strict=True)
    )
    workload_result = PrecisionResult(
        reference_id="0" * 16,
        reference_label="fp32",
        amplification=20,
        trajectory=(),
        sweep=sweep,
        trajectory_animation_path=None,
        sweep_animation_path=None,
    )
    launches = tuple(make_launch(index, workload_result=workload_result, series=()) for index in range(launch_count))
    return make_result(Succeeded(launches=launches, stop_reason="max_launches"), workload="precision", precision="fp16")


SHRINKS = {
    "metric": "dissimilarity",
    "numerator": {"at_steps": 100, "options": {"precision": "fp16"}},
    "denominator": {"at_steps": 10, "options": {"precision": "fp16"}},
    "expected": {"high": 0.9},
}


def test_dissimilarity_at_two_lengths_is_compared_within_one_experiment() -> None:
    score = one(make_claim(**SHRINKS), make_record(results=(precision_result((0.04, 0.01)),)))
    assert score.verdict == "reproduced"
    assert score.value == pytest.approx(0.25)


def test_identical_images_have_no_ratio() -> None:
    score = one(make_claim(**SHRINKS), make_record(results=(precision_result((0.0, 0.01)),)))
    assert (score.verdict, score.why) == ("not tested", "a value is 0, which has no logarithm")


def test_identical_images_refute_that_a_difference_is_visible() -> None:
    claim = make_claim(**SHRINKS | {"denominator": None, "expected": {"low": 0.01}})
    score = one(claim, make_record(results=(precision_result((0.0, 0.0)),)))
    assert (score.verdict, score.value) == ("not reproduced", 0.0)


def test_length_that_was_not_run_is_named() -> None:
    claim = make_claim(**SHRINKS | {"numerator": {"at_steps": 50, "options": {"precision": "fp16"}}})
    assert one(claim, make_record(results=(precision_result((0.04, 0.01)),))).why == "no run of 50 steps"


def test_claims_come_from_the_records_each_once() -> None:
    manifest = make_manifest(claims=(make_claim(),))
    records = (make_record(manifest=manifest), make_record(manifest=manifest, run_id="other"))
    assert claims_of(records) == (make_claim(),)


@pytest.mark.parametrize(
    ("expected", "words"),
    [({"low": 0.4, "high": 0.6}, "0.400 to 0.600"), ({"high": 0.9}, "at most 0.900"), ({"low": 2}, "at least 2.00")],
)
def test_expected_intervals_are_worded(expected: dict[str, float], words: str) -> None:
    assert format_expected(make_claim(expected=expected)) == words


def test_reduced_manifest_has_the_claims_about_ratios_and_images() -> None:
    full, reduced = (load_manifest(MANIFESTS / name).manifest for name in ("lambda-2022.yaml", "lambda-2022-cpu.yaml"))
    claims = {claim.id: claim for claim in full.claims}
    for claim in reduced.claims:
        same = claims[claim.id]
        assert (claim.metric, claim.applies_to, claim.machines) == (same.metric, same.applies_to, same.machines)
        assert claim.denominator or claim.metric == "dissimilarity"
    assert {group.id for group in full.experiments} == {group.id for group in reduced.experiments} - {"full-size"}


LARGEST: dict[str, Any] = {"metric": "largest_batch", "numerator": {"options": {}}, "denominator": None}


def test_largest_batch_that_was_never_measured_is_not_judged() -> None:
    claim = make_claim(**LARGEST, expected={"low": 28, "high": 28})
    score = one(claim, make_record(results=(search_result(28, 1.0, confirmations=0),)))
    assert (score.verdict, score.why) == (
        "not tested",
        "the largest batch was not confirmed by a full measurement",
    )


@pytest.mark.parametrize(
    ("expected", "verdict"),
    [
        ({"low": 300, "high": 300}, "inconclusive"),
        ({"low": 28, "high": 28}, "not reproduced"),
        ({"low": 200}, "reproduced"),
    ],
)
def test_search_that_ended_at_its_upper_end_gives_a_lower_bound(expected: dict[str, int], verdict: str) -> None:
    score = one(make_claim(**LARGEST, expected=expected), make_record(results=(search_result(256, 1.0),)))
    assert (score.verdict, score.high) == (verdict, None)


def test_batch_is_not_compared_with_itself() -> None:
    claim = make_claim(
        metric="throughput_images_per_min",
        numerator={"pick": "largest batch", "options": {"precision": "bf16"}},
        denominator={"options": {"precision": "bf16", "batch": 1}},
    )
    assert one(claim, pair_record(0.1, 0.2)).why == "numerator and denominator are the same experiment"


def test_largest_batch_is_picked_among_those_that_differ_in_nothing_else() -> None:
    results = (
        make_result(make_succeeded(1.0, 4), precision="fp32"),
        make_result(make_succeeded(2.0, 4, batch=4), precision="fp32", batch=4),
        make_result(make_succeeded(1.0, 4, batch=8), precision="fp32", batch=8, attention="eager"),
    )
    claim = make_claim(
        metric="throughput_images_per_min",
        numerator={"pick": "largest batch", "options": {"precision": "fp32"}},
        denominator={"options": {"precision": "fp32", "batch": 1}},
    )
    assert one(claim, make_record(results=results)).value == pytest.approx(2.0, rel=0.05)


@pytest.mark.parametrize(
    ("device", "machine", "is_it"),
    [
        ("NVIDIA A100-SXM4-80GB", "A100 80GB", True),
        ("NVIDIA GeForce RTX 3080", "RTX 3080", True),
        ("NVIDIA GeForce RTX 3080 Ti", "RTX 3080", False),
        ("NVIDIA GeForce RTX 3080 Ti", "RTX 3080 Ti", True),
        ("NVIDIA A100-PCIE-40GB", "A100 80GB", False),
        ("NVIDIA RTX A6000", "RTX A600", False),
    ],
)
def test_machine_is_known_by_the_words_of_its_name(device: str, machine: str, is_it: bool) -> None:
    assert is_called(device, machine) is is_it


def test_record_is_judged_by_its_own_version_of_a_claim() -> None:
    reduced = make_claim(expected={"low": 0.8, "high": 0.9})
    first = pair_record(0.1, 0.2, manifest=make_manifest(claims=(make_claim(),)))
    second = pair_record(0.1, 0.2, manifest=make_manifest(claims=(reduced,)), run_id="other")
    verdicts = [score.verdict for score in score_own_claims((first, second))]
    assert verdicts == ["reproduced", "not reproduced"]


def test_memory_that_was_read_differently_in_both_is_not_divided() -> None:
    claim = make_claim(
        metric="memory_bytes", numerator={"options": {"backend": "onnxruntime"}}, denominator={"options": {"batch": 1}}
    )
    ort = make_result(with_memory(torch_reserved_peak_bytes=None, device_process_bytes=10**9), backend="onnxruntime")
    torch = with_memory(torch_reserved_peak_bytes=2 * 10**9, device_process_bytes=None)
    score = one(claim, make_record(results=(make_result(torch), ort), device="cuda:0"))
    assert (score.verdict, score.value) == ("not tested", None)
    assert "memory was measured differently" in score.why
    torch = with_memory(torch_reserved_peak_bytes=2 * 10**9, device_process_bytes=4 * 10**9)
    score = one(claim, make_record(results=(make_result(torch), ort), device="cuda:0"))
    assert score.value == pytest.approx(0.25)


def with_memory(**memory: int | None) -> Succeeded:
    readings = {
        name: Unknown(reason="not read") if value is None else Known(value=value) for name, value in memory.items()
    }
    launches = tuple(
        launch.model_copy(update={"memory": launch.memory.model_copy(update=readings)})
        for launch in make_succeeded(0.2, 3, "cuda:0").launches
    )
    return Succeeded(launches=launches, stop_reason="max_launches", warnings=())
