"""The study's published figures must give back what the study concluded from them."""

from functools import cache
from pathlib import Path

import pytest

from sdbench.compare.claims import NO_SAMPLES, Score, claims_of, score_claims
from sdbench.plan.manifest_file import load_manifest
from sdbench.store.bundle import find_runs, load_record

ROOT = Path(__file__).parents[2]


@cache
def scores() -> tuple[Score, ...]:
    records = [load_record(path) for path in find_runs(ROOT / "reports" / "reference")]
    return score_claims(claims_of(records), records)


def value_of(claim_id: str, machine: str) -> float:
    (score,) = (score for score in scores() if score.claim.id == claim_id and machine in score.machine)
    assert score.value is not None
    return score.value


@pytest.mark.parametrize(
    ("claim_id", "machine", "concluded"),
    [
        ("single-image-seconds", "A100", 3.74),
        ("single-image-seconds", "RTX 3080", 5.59),
        ("five-gb-is-enough", "A5500", 4.58e9),
        ("half-saves-time", "A100", 1 - 0.41),
        ("half-saves-time-turing", "RTX 8000", 1 - 0.52),
        ("half-saves-memory", "RTX 3090", 4.54 / 7.72),
        ("memory-fp32", "A6000", 7.75e9),
        ("latency-gap-small", "RTX 3080", 1 - 0.33),
        ("throughput-gap-large", "RTX 3080", 2.5),
        ("batch-raises-throughput", "A100", 1.64),
        ("largest-batch-a100", "A100", 28),
        ("largest-batch-3080", "RTX 3080", 1),
        ("onnxruntime-saves-cpu-time", "i7-6850K", 1 - 0.38),
        ("onnxruntime-saves-cpu-time", "EPYC", 1 - 0.58),
    ],
)
def test_published_figures_give_back_the_conclusion(claim_id: str, machine: str, concluded: float) -> None:
    assert value_of(claim_id, machine) == pytest.approx(concluded, rel=0.025)


def test_gpus_are_one_to_two_orders_of_magnitude_faster_than_the_cpus() -> None:
    ratios = [score.value for score in scores() if score.claim.id == "gpu-beats-cpu" and score.value]
    assert len(ratios) == 2 * 6
    assert min(ratios) > 37
    assert max(ratios) < 142


def test_no_published_figure_gets_an_interval_or_a_verdict() -> None:
    valued = [score for score in scores() if score.value is not None]
    assert valued
    assert {(score.verdict, score.low, score.high, score.why) for score in valued} == {
        ("not tested", None, None, NO_SAMPLES)
    }


def test_records_carry_the_claims_of_todays_manifest() -> None:
    records = [load_record(path) for path in find_runs(ROOT / "reports" / "reference")]
    assert claims_of(records) == load_manifest(ROOT / "manifests" / "lambda-2022.yaml").manifest.claims
