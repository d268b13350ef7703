"""The committed records of the 2022 study's results: valid, and made from the CSV next to them."""

from pathlib import Path

import pytest

from sdbench.lambda2022.csv_file import parse_lambda_csv
from sdbench.lambda2022.imports import ImportSource, import_rows
from sdbench.schema.base import Known, Unknown
from sdbench.schema.outcome import OutOfMemory, ReferenceResult
from sdbench.schema.record import Record
from sdbench.store.bundle import load_record, verify_files
from tests.lambda2022.lambda_rows import write_lambda_csv

REFERENCE = Path(__file__).resolve().parents[2] / "reports" / "reference"
CSV = REFERENCE / "lambda-2022.csv"
FOLDERS = sorted(path.parent for path in REFERENCE.glob("*/record.json"))
ROW_COUNT, OUT_OF_MEMORY_COUNT = 58, 11


def outcomes_of(device: str) -> dict[tuple[str, str, int], ReferenceResult | OutOfMemory]:
    (record,) = [load_record(folder) for folder in FOLDERS if device in folder.name]
    outcomes: dict[tuple[str, str, int], ReferenceResult | OutOfMemory] = {}
    for result in record.results:
        e = result.planned.experiment
        assert isinstance(result.outcome, ReferenceResult | OutOfMemory)
        outcomes[e.precision, e.backend, e.batch] = result.outcome
    return outcomes


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_reference_record_is_valid(folder: Path) -> None:
    record = load_record(folder)
    verify_files(folder, record)
    assert record.origin == "imported"
    assert record.manifest.source is not None
    assert (record.manifest.source.authors, record.manifest.source.year) == ("Lambda", 2022)


def test_reference_records_come_from_the_csv_next_to_them(tmp_path: Path) -> None:
    content = CSV.read_bytes()
    rows = parse_lambda_csv(content, CSV.name).rows
    kept: dict[str, Record] = {folder.name: load_record(folder) for folder in FOLDERS}
    first = next(iter(kept.values()))
    assert first.manifest.source is not None
    source = ImportSource(
        name=CSV.name,
        content=content,
        title=first.manifest.title,
        created_utc=first.created_utc,
        cites=first.manifest.source,
        claims=first.manifest.claims,
    )
    made = {folder.name: load_record(folder) for folder in import_rows(rows, source, tmp_path)}
    assert made.keys() == kept.keys()
    # The time of one import may pass a full second between two records; the seal holds the time.
    untimed = {"created_utc": "", "ended_utc": "", "seal": ""}
    for name, record in made.items():
        assert record.to_json_dict() | untimed == kept[name].to_json_dict() | untimed


def test_csv_is_in_normal_form_and_complete() -> None:
    table = parse_lambda_csv(CSV.read_bytes(), CSV.name)
    assert table.problems == ()
    assert write_lambda_csv(table.rows, "header") == CSV.read_text(encoding="utf-8")
    assert len(table.rows) == ROW_COUNT
    assert sum(row.latency_s is None for row in table.rows) == OUT_OF_MEMORY_COUNT


def test_results_are_those_that_the_study_published() -> None:
    a100, rtx3080, epyc = outcomes_of("a100"), outcomes_of("3080"), outcomes_of("epyc")
    largest = a100["fp16", "pytorch", 28]
    assert isinstance(largest, ReferenceResult)
    assert (largest.latency_s, largest.memory_bytes) == (63.88, Known(value=78_780_000_000))
    assert isinstance(rtx3080["fp16", "pytorch", 2], OutOfMemory)
    assert isinstance(rtx3080["fp16", "pytorch", 1], ReferenceResult)
    onnx = epyc["fp32", "onnxruntime", 1]
    assert isinstance(onnx, ReferenceResult)
    assert (onnx.latency_s, onnx.memory_bytes) == (223.19, Unknown(reason="not measured on a CPU"))
