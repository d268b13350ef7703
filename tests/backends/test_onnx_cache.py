"""The cache of exports with an exporter that writes small files: what is kept, what is made again, and warnings."""

import threading
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest

from sdbench.backends import onnx_cache
from sdbench.backends.onnx_cache import GRAPH_NAME, MANIFEST_NAME, ExportFacts, PreparedExports, prepare_exports
from sdbench.errors import EnvironmentProblem
from sdbench.models.pipeline_folders import load_shipped
from sdbench.schema.experiment import Experiment
from sdbench.schema.workload_results import ExportedPart

TINY = Experiment(pipeline="tiny-sd", backend="onnxruntime")
PARTS = ("text_encoder", "unet", "vae_decoder")
FACTS = ExportFacts(export_s=1.5, weights_digest="synthetic:0", parameter_count=3, weights_dtypes=("fp32",))


class RecordingExporter:
    """Writes a graph and its data, and records which parts it was to write."""

    def __init__(self) -> None:
        self.requests: list[list[str]] = []

    def __call__(self, folders: Mapping[ExportedPart, Path]) -> dict[ExportedPart, ExportFacts]:
        self.requests.append(list(folders))
        for part, folder in folders.items():
            (folder / GRAPH_NAME).write_text(f"graph of {part}")
            (folder / f"{GRAPH_NAME}.data").write_text("weights")
        return dict.fromkeys(folders, FACTS)


def prepare(
    tmp_path: Path, exporter: Any, experiment: Experiment = TINY, stages: list[str] | None = None, opset: int = 20
) -> PreparedExports:
    return prepare_exports(experiment, tmp_path, opset, (stages if stages is not None else []).append, exporter)


def entries(tmp_path: Path) -> set[str]:
    return {path.name for path in (tmp_path / "onnx").iterdir()}


def test_networks_are_exported_once_and_used_again(tmp_path: Path) -> None:
    exporter, stages = RecordingExporter(), list[str]()
    first = prepare(tmp_path, exporter, stages=stages)
    second = prepare(tmp_path, exporter, stages=stages)
    assert exporter.requests == [list(PARTS)]
    assert stages == ["export"]
    assert {export.cached for export in first.parts.values()} == {False}
    assert {export.cached for export in second.parts.values()} == {True}
    assert first.warnings == second.warnings == ()
    assert all((export.folder / GRAPH_NAME).is_file() for export in second.parts.values())


def test_export_is_described_by_the_hash_and_size_of_graph_and_data_together(tmp_path: Path) -> None:
    unet = prepare(tmp_path, RecordingExporter()).parts["unet"].describe()
    decoder = prepare(tmp_path, RecordingExporter()).parts["vae_decoder"].describe()
    assert (unet.part, unet.export_s, unet.size_bytes) == ("unet", 1.5, len("graph of unet") + len("weights"))
    assert unet.sha256 != decoder.sha256


@pytest.mark.parametrize(
    "option",
    [
        {"precision": "fp16"},
        {"weights_seed": 1},
        {"weights": "pretrained", "hub_id": "a/b", "revision": "0" * 40},
        {"config": {"unet.layers_per_block": 1}},
        {"config": {"vae.scaling_factor": 1.0}},
    ],
    ids=str,
)
def test_what_determines_the_file_gets_an_export_of_its_own(tmp_path: Path, option: dict[str, Any]) -> None:
    exporter = RecordingExporter()
    prepare(tmp_path, exporter)
    other = Experiment.model_validate(dict(TINY) | option)
    assert prepare(tmp_path, exporter, other).warnings == ()
    assert len(exporter.requests) == 2


def test_identity_has_the_class_and_the_config_of_each_network(tmp_path: Path) -> None:
    sdxl = prepare(tmp_path, RecordingExporter(), Experiment(pipeline="tiny-sdxl", backend="onnxruntime"))
    assert list(sdxl.parts) == ["text_encoder", "text_encoder_2", "unet", "vae_decoder"]
    identity = sdxl.parts["text_encoder_2"].manifest.identity
    networks = load_shipped("tiny-sdxl").networks
    assert identity.pipeline_class == "StableDiffusionXLPipeline"
    assert identity.networks == {name: item.to_json_dict() for name, item in networks.items()}
    assert identity.networks["text_encoder_2"]["class_name"] == "CLIPTextModelWithProjection"


def test_what_does_not_determine_the_file_does_not_export_again(tmp_path: Path) -> None:
    exporter = RecordingExporter()
    prepare(tmp_path, exporter)
    prepare(tmp_path, exporter, Experiment.model_validate(dict(TINY) | {"batch": 2, "steps": 3, "height": 64}))
    assert len(exporter.requests) == 1


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def halve(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def change(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1] + b"?")


@pytest.mark.parametrize(
    ("damage", "name", "reason"),
    [
        (truncate, GRAPH_NAME, "graph.onnx has 12 bytes instead of 13"),
        (truncate, f"{GRAPH_NAME}.data", "graph.onnx.data has 6 bytes instead of 7"),
        (change, f"{GRAPH_NAME}.data", "the SHA-256 of graph.onnx.data differs"),
        (Path.unlink, f"{GRAPH_NAME}.data", "graph.onnx.data is missing"),
        (halve, MANIFEST_NAME, "export.json is missing or damaged"),
        (Path.unlink, MANIFEST_NAME, "export.json is missing or damaged"),
    ],
)
def test_damaged_export_is_made_again_with_a_warning(tmp_path: Path, damage: Any, name: str, reason: str) -> None:
    exporter = RecordingExporter()
    intact = prepare(tmp_path, exporter)
    damage(intact.parts["unet"].folder / name)
    again = prepare(tmp_path, exporter)
    (warning,) = again.warnings
    assert warning.code == "export-rebuilt"
    assert warning.message == f"the unet was exported to ONNX again: {reason}"
    assert exporter.requests[1:] == [["unet"]]
    assert (again.parts["unet"].cached, again.parts["vae_decoder"].cached) == (False, True)
    assert prepare(tmp_path, exporter).warnings == ()


def test_export_of_another_version_is_made_again_and_the_old_one_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    exporter = RecordingExporter()
    old = prepare(tmp_path, exporter)
    monkeypatch.setattr(onnx_cache, "version", lambda name: "9.9" if name == "onnx" else version(name))
    new = prepare(tmp_path, exporter)
    assert len(new.warnings) == len(PARTS)
    assert f"of another version (onnx {version('onnx')} instead of 9.9)" in new.warnings[0].message
    monkeypatch.undo()
    assert prepare(tmp_path, exporter).parts["unet"].folder == old.parts["unet"].folder
    assert len(exporter.requests) == 2


def test_new_version_of_the_exporter_is_another_version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    prepare(tmp_path, RecordingExporter())
    monkeypatch.setattr(onnx_cache, "EXPORTER_VERSION", onnx_cache.EXPORTER_VERSION + 1)
    assert "sdbench's exporter" in prepare(tmp_path, RecordingExporter()).warnings[0].message


def test_export_under_the_key_of_another_is_not_used(tmp_path: Path) -> None:
    exporter = RecordingExporter()
    parts = prepare(tmp_path, exporter).parts
    manifest = (parts["vae_decoder"].folder / MANIFEST_NAME).read_text()
    (parts["unet"].folder / MANIFEST_NAME).write_text(manifest)
    (warning,) = prepare(tmp_path, exporter).warnings
    assert "the unet was exported to ONNX again: it is of another version" in warning.message


def test_export_that_fails_leaves_the_cache_as_it_was(tmp_path: Path) -> None:
    def fail(folders: Mapping[ExportedPart, Path]) -> Any:
        (folders["unet"] / GRAPH_NAME).write_text("half a gr")
        raise RuntimeError("no such operator")

    with pytest.raises(RuntimeError, match="no such operator"):
        prepare(tmp_path, fail)
    assert entries(tmp_path) == {".lock"}
    assert prepare(tmp_path, RecordingExporter()).warnings == ()


def test_leftovers_of_a_killed_process_are_removed(tmp_path: Path) -> None:
    leftover = tmp_path / "onnx" / ".new-abc"
    leftover.mkdir(parents=True)
    (leftover / GRAPH_NAME).write_text("half a gr")
    prepare(tmp_path, RecordingExporter())
    assert not leftover.exists()


def test_second_of_two_exports_at_once_waits_and_uses_it(tmp_path: Path) -> None:
    results: list[PreparedExports] = []
    second = threading.Thread(target=lambda: results.append(prepare(tmp_path, RecordingExporter())))

    class StartsTheSecond(RecordingExporter):
        def __call__(self, *arguments: Any) -> dict[ExportedPart, ExportFacts]:
            second.start()
            return super().__call__(*arguments)

    prepare(tmp_path, StartsTheSecond())
    second.join()
    assert {export.cached for export in results[0].parts.values()} == {True}
    assert len(entries(tmp_path)) == len(PARTS) + 1


def test_complete_cache_is_read_without_writing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    prepare(tmp_path, RecordingExporter())
    monkeypatch.delattr(onnx_cache, "hold_file")
    prepare(tmp_path, RecordingExporter())


def test_cache_that_cannot_be_written_is_a_problem_of_the_machine(tmp_path: Path) -> None:
    (tmp_path / "onnx").write_text("a file where the folder should be")
    with pytest.raises(EnvironmentProblem, match=r"cannot write .*onnx: File exists; check the folder"):
        prepare(tmp_path, RecordingExporter())


def test_exports_of_two_opsets_lie_side_by_side(tmp_path: Path) -> None:
    exporter = RecordingExporter()
    warnings = [prepare(tmp_path, exporter, opset=opset).warnings for opset in (20, 23, 20)]
    assert exporter.requests == [list(PARTS), list(PARTS)]
    assert warnings == [(), (), ()]
