import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sdbench.errors import UserError
from sdbench.schema.base import Known, Unknown
from sdbench.schema.manifest import Source
from sdbench.schema.outcome import OutOfMemory, Published
from sdbench.schema.record import Record
from sdbench.store.bundle import load_record, verify_files
from sdbench.store.exports import export_rows
from sdbench.store.imports import AUTOCAST_CAVEAT, ImportSource, import_rows, make_unsealed
from sdbench.store.lambda_csv import Dialect, LambdaRow, parse_lambda_csv, write_lambda_csv
from tests.records import (
    make_failed,
    make_out_of_memory,
    make_record,
    make_result,
    make_skipped,
    make_succeeded,
)
from tests.store.lambda_rows import make_row, rows_of

DIALECTS: tuple[Dialect, ...] = ("plain", "header", "full")
FULL_SIZE: dict[str, Any] = {"architecture": "sd-v1-4", "height": 512, "width": 512, "steps": 50}


def make_source(content: bytes = b"rows", **changes: Any) -> ImportSource:
    given: dict[str, Any] = {
        "name": "old.csv",
        "content": content,
        "title": "Old",
        "created_utc": "2026-01-15T10:00:00Z",
    }
    given["study"] = Source(title="Somebody's figures")
    return ImportSource(**{**given, **changes})


def import_one(*rows: LambdaRow, **changes: Any) -> Record:
    unsealed = make_unsealed(rows, make_source(**changes))
    return Record.model_validate_json(json.dumps(unsealed | {"files": [], "seal": "0" * 64}))


def named(*records: Record) -> list[tuple[Record, str]]:
    return [(record, record.device_name) for record in records]


def test_imported_folder_is_a_sound_record_with_its_source(tmp_path: Path) -> None:
    rows = [make_row(), make_row("Xeon-7"), make_row("xeon 7"), make_row(batch=2)]
    folders = import_rows(rows, make_source(), tmp_path)
    assert [folder.name for folder in folders] == ["old-nvidia-rtx-a6000", "old-xeon-7", "old-xeon-7-2"]
    for folder in folders:
        record = load_record(folder)
        verify_files(folder, record)
        assert [file.path for file in record.files] == ["source.csv"]
        assert record.origin == "imported"
    assert len(load_record(folders[0]).results) == 2


def test_figures_of_other_steps_go_to_a_folder_of_their_own(tmp_path: Path) -> None:
    (folder,) = import_rows([make_row(steps=30)], make_source(), tmp_path)
    assert folder.name == "old-nvidia-rtx-a6000-30-steps"


def test_import_may_be_repeated_but_replaces_nothing_else(tmp_path: Path) -> None:
    (folder,) = import_rows([make_row()], make_source(), tmp_path)
    import_rows([make_row()], make_source(title="Again"), tmp_path)
    assert load_record(folder).manifest.title == "Again"
    with pytest.raises(UserError, match="holds another record"):
        import_rows([make_row()], make_source(b"others"), tmp_path)


def test_same_content_gives_the_same_record_but_for_the_time(tmp_path: Path) -> None:
    later = make_source(created_utc="2027-01-01T00:00:00Z")
    first, second = make_unsealed([make_row()], make_source()), make_unsealed([make_row()], later)
    assert {key for key in first if first[key] != second[key]} == {"created_utc", "ended_utc"}


def test_what_the_source_does_not_say_is_unknown() -> None:
    gpu, cpu = import_one(make_row()), import_one(make_row("Xeon-7"))
    assert (gpu.device, cpu.device) == ("cuda:0", "cpu")
    assert gpu.fingerprint.software.sdbench_version == Unknown(reason="not recorded by the source")
    assert gpu.fingerprint.hardware.cpu_model == Unknown(reason="not recorded by the source")
    assert cpu.fingerprint.hardware.cpu_model == Known(value="Xeon-7")
    assert gpu.wall_s == Unknown(reason="not recorded by the source")
    assert (gpu.device_name, cpu.device_name) == ("NVIDIA RTX A6000", "Xeon-7")


def test_published_figure_says_how_it_was_made_and_what_is_open() -> None:
    half = make_row(precision="fp16", autocast_recorded=False)
    (single, unsure, onnx) = import_one(make_row(), half, make_row(backend="onnxruntime")).results
    assert isinstance(single.outcome, Published)
    assert isinstance(unsure.outcome, Published)
    assert isinstance(onnx.outcome, Published)
    assert single.outcome.memory_bytes == Known(value=7_750_000_000)
    assert any("TF32" in caveat for caveat in single.outcome.caveats)
    assert AUTOCAST_CAVEAT in unsure.outcome.caveats
    assert AUTOCAST_CAVEAT not in single.outcome.caveats
    assert unsure.planned.label.endswith("(autocast not recorded)")
    assert onnx.outcome.caveats == ()
    assert onnx.outcome.memory_bytes == Unknown(reason="torch does not see the memory of onnxruntime")


def test_memory_of_a_cpu_was_not_measured() -> None:
    (result,) = import_one(make_row("Xeon-7")).results
    assert isinstance(result.outcome, Published)
    assert result.outcome.memory_bytes == Unknown(reason="not measured on a CPU")


@pytest.mark.parametrize(("device", "where"), [("Xeon-7", "host"), ("NVIDIA RTX A6000", "device")])
def test_failure_mark_becomes_out_of_memory(device: str, where: str) -> None:
    (result,) = import_one(make_row(device, None)).results
    assert isinstance(result.outcome, OutOfMemory)
    assert (result.outcome.where, result.outcome.stage, result.outcome.partial) == (where, "unknown", ())


def test_manifest_of_the_record_holds_every_row() -> None:
    record = import_one(make_row(), make_row(batch=2, precision="fp16", autocast="fp16"))
    (group,) = record.manifest.experiments
    assert group.include == (
        {"precision": "fp32", "batch": 1, "steps": 50},
        {"precision": "fp16", "batch": 2, "steps": 50, "autocast": "fp16"},
    )
    assert record.manifest.source is not None
    assert record.manifest.source.title == "Somebody's figures"


@settings(deadline=None, max_examples=50)
@given(st.data(), st.sampled_from(DIALECTS))
def test_import_then_export_gives_the_same_bytes(data: st.DataObject, dialect: Dialect) -> None:
    text = write_lambda_csv(data.draw(rows_of(dialect)), dialect)
    steps = data.draw(st.sampled_from((50, 30)))
    rows = parse_lambda_csv(text.encode(), "old.csv", steps).rows
    devices = dict.fromkeys(row.device for row in rows)
    records = [import_one(*(row for row in rows if row.device == device)) for device in devices]
    assert write_lambda_csv(export_rows(named(*records), dialect).rows, dialect) == text


def test_measured_record_is_rounded_as_the_tool_did() -> None:
    results = (
        make_result(make_succeeded(1.2345, 3, "cuda:0"), **FULL_SIZE),
        make_result(make_out_of_memory(), batch=2, **FULL_SIZE),
    )
    record = make_record(device="cuda:0", results=results)
    rows = export_rows(named(record), "plain").rows
    assert write_lambda_csv(rows, "plain") == (
        "NVIDIA H200,single,pytorch,1,1.24,0.94\nNVIDIA H200,single,pytorch,2,-1.0,-1.0\n"
    )


def test_what_the_format_cannot_express_is_left_out_and_counted() -> None:
    results = (
        make_result(make_succeeded(1.5), **FULL_SIZE),
        make_result(make_succeeded(1.5), precision="bf16", **FULL_SIZE),
        make_result(make_succeeded(1.5), tf32=True, **FULL_SIZE),
        make_result(make_succeeded(1.5), workload="largest-batch", **FULL_SIZE),
        make_result(make_succeeded(1.5), **(FULL_SIZE | {"width": 256})),
        make_result(make_succeeded(1.5)),
        make_result(make_failed(), batch=2, **FULL_SIZE),
        make_result(make_skipped(), batch=4, **FULL_SIZE),
        make_result(make_succeeded(0.001), batch=8, **FULL_SIZE),
    )
    export = export_rows(named(make_record(results=results)), "full")
    assert (len(export.rows), export.left_out_count) == (1, 8)


def test_dialect_without_a_column_for_autocast_leaves_autocast_out() -> None:
    record = import_one(
        make_row(), make_row(precision="fp16", autocast="fp16"), make_row(batch=2, attention="xformers")
    )
    assert [export_rows(named(record), dialect).left_out_count for dialect in DIALECTS] == [2, 2, 0]


def test_mixed_steps_are_refused_unless_one_is_chosen() -> None:
    record = import_one(make_row(), make_row(steps=30))
    with pytest.raises(UserError, match="mixed steps: 30, 50"):
        export_rows(named(record), "full")
    export = export_rows(named(record), "full", 30)
    assert ([row.experiment.steps for row in export.rows], export.left_out_count) == ([30], 1)


def test_one_experiment_of_two_runs_is_refused() -> None:
    with pytest.raises(UserError, match="is there twice"):
        export_rows(named(import_one(make_row()), import_one(make_row())), "full")


def test_nothing_to_export_is_refused() -> None:
    with pytest.raises(UserError, match="none of 1 results can be exported"):
        export_rows(named(make_record(results=(make_result(),))), "full")
