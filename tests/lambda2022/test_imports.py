from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sdbench.errors import UserError
from sdbench.lambda2022.csv_file import LambdaRow, parse_lambda_csv
from sdbench.lambda2022.imports import AUTOCAST_CAVEAT, EMPTY_CACHE_CAVEAT, ImportSource, import_rows, make_draft
from sdbench.schema.base import Known, Unknown
from sdbench.schema.manifest import Source
from sdbench.schema.outcome import OutOfMemory, ReferenceResult
from sdbench.schema.record import Record
from sdbench.store.bundle import load_record, verify_files
from tests.lambda2022.lambda_rows import DIALECTS, Dialect, make_row, rows_of, write_lambda_csv


def make_source(content: bytes = b"rows", **changes: Any) -> ImportSource:
    given: dict[str, Any] = {
        "name": "old.csv",
        "content": content,
        "title": "Old",
        "created_utc": "2026-01-15T10:00:00Z",
    }
    given["cites"] = Source(title="Somebody's results")
    return ImportSource(**{**given, **changes})


def import_one(*rows: LambdaRow, **changes: Any) -> Record:
    return make_draft(rows, make_source(**changes))


def test_imported_folder_is_a_valid_record_with_its_source(tmp_path: Path) -> None:
    rows = [make_row(), make_row("Xeon-7"), make_row("xeon 7"), make_row(batch=2)]
    folders = import_rows(rows, make_source(), tmp_path)
    assert [folder.name for folder in folders] == ["old-nvidia-rtx-a6000", "old-xeon-7", "old-xeon-7-2"]
    for folder in folders:
        record = load_record(folder)
        verify_files(folder, record)
        assert [file.path for file in record.files] == ["source.csv"]
        assert record.origin == "imported"
    assert len(load_record(folders[0]).results) == 2


def test_results_of_other_steps_go_to_a_folder_of_their_own(tmp_path: Path) -> None:
    (folder,) = import_rows([make_row(steps=30)], make_source(), tmp_path)
    assert folder.name == "old-nvidia-rtx-a6000-30-steps"


def test_import_may_be_repeated_but_replaces_nothing_else(tmp_path: Path) -> None:
    (folder,) = import_rows([make_row()], make_source(), tmp_path)
    import_rows([make_row()], make_source(title="Again"), tmp_path)
    assert load_record(folder).manifest.title == "Again"
    with pytest.raises(UserError, match="contains another record"):
        import_rows([make_row()], make_source(b"others"), tmp_path)


def test_same_content_gives_the_same_record_but_for_the_time(tmp_path: Path) -> None:
    later = make_source(created_utc="2027-01-01T00:00:00Z")
    first, second = (make_draft([make_row()], source).to_json_dict() for source in (make_source(), later))
    assert {key for key in first if first[key] != second[key]} == {"created_utc", "ended_utc"}


def test_what_the_source_does_not_record_is_unknown() -> None:
    gpu, cpu = import_one(make_row()), import_one(make_row("Xeon-7"))
    assert (gpu.device, cpu.device) == ("cuda:0", "cpu")
    assert gpu.fingerprint.software.sdbench_version == Unknown(reason="not recorded by the source")
    assert gpu.fingerprint.hardware.cpu_model == Unknown(reason="not recorded by the source")
    assert cpu.fingerprint.hardware.cpu_model == Known(value="Xeon-7")
    assert gpu.wall_s == Unknown(reason="not recorded by the source")
    assert (gpu.device_name, cpu.device_name) == ("NVIDIA RTX A6000", "Xeon-7")


def test_reference_result_has_its_method_and_its_caveats() -> None:
    half = make_row(precision="fp16", autocast="fp16", autocast_recorded=False)
    (single, unsure, onnx) = import_one(make_row(), half, make_row(backend="onnxruntime")).results
    assert isinstance(single.outcome, ReferenceResult)
    assert isinstance(unsure.outcome, ReferenceResult)
    assert isinstance(onnx.outcome, ReferenceResult)
    assert single.outcome.memory_bytes == Known(value=7_750_000_000)
    assert any("TF32" in caveat for caveat in single.outcome.caveats)
    assert AUTOCAST_CAVEAT in unsure.outcome.caveats
    assert AUTOCAST_CAVEAT not in single.outcome.caveats
    assert EMPTY_CACHE_CAVEAT in single.outcome.caveats
    assert onnx.outcome.caveats == ()
    assert onnx.outcome.memory_bytes == Unknown(reason="torch does not see the memory of onnxruntime")


def test_memory_of_a_cpu_was_not_measured() -> None:
    (result,) = import_one(make_row("Xeon-7")).results
    assert isinstance(result.outcome, ReferenceResult)
    assert result.outcome.memory_bytes == Unknown(reason="not measured on a CPU")


@pytest.mark.parametrize(("device", "where"), [("Xeon-7", "host"), ("NVIDIA RTX A6000", "device")])
def test_failure_mark_becomes_out_of_memory(device: str, where: str) -> None:
    (result,) = import_one(make_row(device, None)).results
    assert isinstance(result.outcome, OutOfMemory)
    assert (result.outcome.where, result.outcome.stage, result.outcome.partial) == (where, "unknown", ())


def test_manifest_of_the_record_has_every_row() -> None:
    record = import_one(make_row(), make_row(batch=2, precision="fp16", autocast="fp16"))
    (group,) = record.manifest.experiments
    assert [entry.values for entry in group.include] == [
        {"precision": "fp32", "batch": 1, "steps": 50, "tf32": "convolutions", "attention": "eager"},
        {
            "precision": "fp16",
            "batch": 2,
            "steps": 50,
            "autocast": "fp16",
            "tf32": "convolutions",
            "attention": "eager",
        },
    ]
    assert record.manifest.source is not None
    assert record.manifest.source.title == "Somebody's results"


@settings(deadline=None, max_examples=50)
@given(st.data(), st.sampled_from(DIALECTS))
def test_import_keeps_every_row_of_a_file(data: st.DataObject, dialect: Dialect) -> None:
    rows = data.draw(rows_of(dialect))
    parsed = parse_lambda_csv(write_lambda_csv(rows, dialect).encode(), "old.csv", rows[0].experiment.steps).rows
    for device in dict.fromkeys(row.device for row in rows):
        results = import_one(*(row for row in parsed if row.device == device)).results
        kept = [(result.planned.experiment, getattr(result.outcome, "latency_s", None)) for result in results]
        assert kept == [(row.experiment, row.latency_s) for row in rows if row.device == device]
