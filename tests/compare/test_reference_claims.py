"""The study's published results must give back what the study concluded from them."""

from functools import cache
from pathlib import Path

import pytest

from sdbench.compare.claims import NO_SAMPLES, Score, claims_of, score_claims
from sdbench.lambda2022.csv_file import parse_lambda_csv
from sdbench.lambda2022.imports import ImportSource, import_rows
from sdbench.plan.manifest_file import load_manifest
from sdbench.schema.manifest import Source
from sdbench.schema.record import Record
from sdbench.store.bundle import find_runs, load_record

ROOT = Path(__file__).parents[2]
REFERENCE = ROOT / "reports" / "reference"
CLAIMS = load_manifest(ROOT / "manifests" / "lambda-2022.yaml").manifest.claims
# The table has no row without autocast, with sliced attention, of images, or of onnxruntime on a GPU.
NOT_IN_THE_TABLE = {
    "autocast-costs-time",
    "autocast-costs-memory",
    "slicing-saves-memory",
    "slicing-costs-speed",
    "precision-visible",
    "precision-gap-shrinks",
    "onnxruntime-gpu",
}


def import_records(content: bytes, out: Path) -> list[Record]:
    rows = parse_lambda_csv(content, "table.csv").rows
    source = ImportSource("table.csv", content, "T", "2026-01-15T10:00:00Z", Source(title="S"), CLAIMS)
    return [load_record(folder) for folder in import_rows(rows, source, out)]


@cache
def scores() -> tuple[Score, ...]:
    records = [load_record(path) for path in find_runs(REFERENCE)]
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
def test_published_results_give_back_the_conclusion(claim_id: str, machine: str, concluded: float) -> None:
    assert value_of(claim_id, machine) == pytest.approx(concluded, rel=0.025)


def test_study_imported_from_its_own_table_reproduces_its_claims(tmp_path: Path) -> None:
    records = import_records((REFERENCE / "lambda-2022.csv").read_bytes(), tmp_path)
    valued = [score for score in score_claims(CLAIMS, records) if score.value is not None]
    assert {claim.id for claim in CLAIMS} - {score.claim.id for score in valued} == NOT_IN_THE_TABLE
    for score in valued:
        low, high = score.claim.expected.low, score.claim.expected.high
        assert score.value is not None
        assert low is None or low <= score.value, (score.claim.id, score.machine, score.value)
        assert high is None or score.value <= high, (score.claim.id, score.machine, score.value)


def test_rows_without_autocast_do_not_feed_the_claims_about_half_precision(tmp_path: Path) -> None:
    header = "device,precision,autocast,xformers,runtime,n_samples,latency,memory\n"
    without = "NVIDIA RTX A6000,half,FALSE,FALSE,pytorch,1,3.34,3.38\n"
    under = "NVIDIA RTX A6000,half,TRUE,FALSE,pytorch,1,4.39,4.52\n"
    claims = {claim.id: claim for claim in CLAIMS}
    (record,) = import_records((header + without).encode(), tmp_path / "without")
    assert {score.value for score in score_claims((claims["memory-fp16"],), [record])} == {None}
    (record,) = import_records((header + without + under).encode(), tmp_path / "both")
    (memory,) = score_claims((claims["memory-fp16"],), [record])
    assert memory.value == 4.52e9
    (time,) = score_claims((claims["autocast-costs-time"],), [record])
    assert time.value == pytest.approx(3.34 / 4.39)


def test_claims_about_gpus_are_not_tested_on_the_cpus_of_the_study() -> None:
    about_cpus = {"onnxruntime-saves-cpu-time", "gpu-beats-cpu"}
    on_cpus = [score for score in scores() if "EPYC" in score.machine and score.value is not None]
    assert {score.claim.id for score in on_cpus} == about_cpus


def test_gpus_are_one_to_two_orders_of_magnitude_faster_than_the_cpus() -> None:
    ratios = [score.value for score in scores() if score.claim.id == "gpu-beats-cpu" and score.value]
    assert len(ratios) == 2 * 6
    assert min(ratios) > 37
    assert max(ratios) < 142


def test_no_published_result_gets_an_interval_or_a_verdict() -> None:
    valued = [score for score in scores() if score.value is not None]
    assert valued
    assert {(score.verdict, score.low, score.high, score.why) for score in valued} == {
        ("not tested", None, None, NO_SAMPLES)
    }


def test_records_carry_the_claims_of_todays_manifest() -> None:
    assert claims_of([load_record(path) for path in find_runs(REFERENCE)]) == CLAIMS
