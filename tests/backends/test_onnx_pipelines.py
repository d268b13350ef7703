"""Pipelines of every family with their networks in onnxruntime, against the same in torch."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from sdbench.backends import onnxruntime, pytorch
from sdbench.backends.onnx_cache import ExportFacts, prepare_exports
from sdbench.backends.onnx_export import ExportRequest, export_parts
from sdbench.backends.onnx_parts import find_unexportable, trace_part
from sdbench.backends.onnx_session import CPU_PROVIDER, OPSETS
from sdbench.backends.onnxruntime import OnnxruntimeBackend
from sdbench.models.pipeline import build_pipeline
from sdbench.models.pipeline_folders import load_pipeline, load_shipped
from sdbench.models.user_pipelines import register
from sdbench.plan.families import native_options
from sdbench.schema.experiment import Experiment
from sdbench.schema.pipeline import PipelineConfig
from sdbench.schema.workload_results import ExportedPart
from sdbench.worker.clock import MonotonicClock
from tests.backends.pictures import check_same

# torch's exporter warns of its own deprecated calls.
pytestmark = pytest.mark.filterwarnings("ignore")

# Two blocks make two pixels of a latent, and half the time of an export.
SMALL_VAE = {
    "block_out_channels": [32, 32],
    "down_block_types": ["DownEncoderBlock2D"] * 2,
    "up_block_types": ["UpDecoderBlock2D"] * 2,
}


# Cut to what exports in seconds; tiny-sd with what the UNet of SD 2.1 has and its own has not.
CUT: dict[str, tuple[str, dict[str, Any]]] = {
    "tiny-sd": (
        "unet",
        {"attention_head_dim": [2, 4], "layers_per_block": 1, "upcast_attention": True, "use_linear_projection": True},
    ),
    "tiny-sdxl": (
        "unet",
        {
            "block_out_channels": [32, 64],
            "down_block_types": ["DownBlock2D", "CrossAttnDownBlock2D"],
            "up_block_types": ["CrossAttnUpBlock2D", "UpBlock2D"],
            "attention_head_dim": [2, 4],
            "transformer_layers_per_block": [1, 1],
            "layers_per_block": 1,
        },
    ),
    "tiny-sd3": ("transformer", {"num_layers": 2, "dual_attention_layers": [0]}),
    "tiny-flux": ("transformer", {"num_layers": 1, "num_single_layers": 1}),
}


@dataclass(frozen=True)
class Exported:
    """A pipeline of a user, and the cache with its exports."""

    name: str
    cache: Path

    def experiment(self, backend: str, **options: Any) -> Experiment:
        """Return an experiment with the pipeline's native options, but of a small picture."""
        native = native_options(load_pipeline(self.name, self.cache)) | {"steps": 2, "height": 32, "width": 32}
        return Experiment(**{"pipeline": self.name, "backend": backend, **native, **options})

    def open(self, **options: Any) -> OnnxruntimeBackend:
        """Return the pipeline in onnxruntime."""
        return onnxruntime.open_backend(self.experiment("onnxruntime", **options), "cpu", self.cache, 1)


def register_cut(name: str, cache: Path) -> str:
    """Remember a shipped pipeline with changed configs, and return the name that it got."""
    config, networks = load_shipped(name), dict(load_shipped(name).networks)
    for component, changes in (CUT[name], ("vae", SMALL_VAE)):
        networks[component] = networks[component].model_copy(update={"config": networks[component].config | changes})
    return register(config.model_copy(update={"networks": networks}), None, {}, cache).config.name


@pytest.fixture(scope="module", params=CUT)
def exported(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Exported:
    """Export in this process, which saves the imports of another: that one is tested with `tiny-sd`."""
    import torch

    cache = tmp_path_factory.mktemp("cache")
    pipeline = Exported(register_cut(request.param, cache), cache)
    experiment, opset = pipeline.experiment("onnxruntime"), OPSETS[CPU_PROVIDER]
    # As in a new process: the exporter reads torch's older switch, which raises once convolutions are IEEE.
    backends: Any = torch.backends
    backends.cudnn.conv.fp32_precision = "tf32"

    def export(folders: Mapping[ExportedPart, Path]) -> dict[ExportedPart, ExportFacts]:
        fields = {"experiment": experiment, "cache_folder": cache, "opset": opset, "folders": dict(folders)}
        return export_parts(ExportRequest(parent_pid=1, **fields))

    prepare_exports(experiment, cache, opset, lambda _stage: None, export)
    return pipeline


@pytest.mark.parametrize(
    "options", [{}, {"batch": 2}, {"height": 48, "width": 24}, {"height": 24, "width": 64, "batch": 3}], ids=str
)
def test_pictures_agree_with_those_of_torch(exported: Exported, options: dict[str, Any]) -> None:
    theirs = pytorch.open_backend(exported.experiment("pytorch", **options), "cpu", exported.cache, 1)
    check_same(exported.open(**options), theirs)


def test_observed_call_passes_its_checks_and_has_a_phase_for_each_encoder(exported: Exported) -> None:
    backend = exported.open(batch=2)
    observation = backend.observe(MonotonicClock())
    assert {"denoiser calls", "weights dtype"} <= {check.name for check in observation.checks}
    assert all(check.passed for check in observation.checks)
    assert observation.phases_s.keys() == {*backend.config.text_encoders, "vae_decode", "rest", "total"}
    assert len(observation.denoise_steps_s) == backend.work.denoiser_calls
    assert observation.finite == (True, True)


def test_second_launch_uses_the_export_of_each_network(exported: Exported, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnxruntime, "export_in_child", pytest.fail)
    onnxruntime.fetch(exported.experiment("onnxruntime", batch=2), "cpu", exported.cache, pytest.fail)
    backend = exported.open(batch=2)
    parts = {*backend.config.text_encoders, backend.config.denoiser_name, "vae_decoder"}
    assert {export.part: export.cached for export in backend.exports()} == dict.fromkeys(parts, True)


def test_input_that_the_graph_does_not_have_is_an_error(exported: Exported) -> None:
    import torch

    encoder, ids = exported.open().pipeline.text_encoder, torch.zeros(1, 77, dtype=torch.int64)
    with pytest.raises(
        TypeError, match=r"text_encoder takes \['input_ids'\], and was given \['attention_mask', 'input"
    ):
        encoder(ids, attention_mask=ids)


@pytest.mark.parametrize(
    ("name", "precision", "expected"),
    [("tiny-sdxl", "fp16", "float32"), ("tiny-sdxl", "bf16", "bfloat16"), ("tiny-sd3", "fp16", "float16")],
)
def test_decoder_is_exported_in_fp32_where_the_pipeline_decodes_in_it(
    tmp_path: Path, name: str, precision: str, expected: str
) -> None:
    import torch

    options = native_options(load_shipped(name)) | {"precision": precision}
    built = build_pipeline(Experiment(pipeline=name, **options), "cpu", tmp_path)
    traceable = trace_part("vae", built.pipeline, built.config)
    assert {tensor.dtype for tensor in traceable.module.parameters()} == {getattr(torch, expected)}
    assert traceable.inputs["latents"][0].dtype == getattr(torch, expected)


def test_pooled_text_that_the_unet_joins_to_fp32_is_fp32_in_the_graph(tmp_path: Path) -> None:
    import torch

    options = native_options(load_shipped("tiny-sdxl")) | {"precision": "fp16"}
    built = build_pipeline(Experiment(pipeline="tiny-sdxl", **options), "cpu", tmp_path)
    inputs = trace_part("unet", built.pipeline, built.config).inputs
    dtypes = {name: tensor.dtype for name, (tensor, _) in inputs.items()}
    assert {name for name, dtype in dtypes.items() if dtype == torch.float32} == {"timestep", "text_embeds"}


@pytest.mark.parametrize("name", ["tiny-sd", "tiny-sdxl", "tiny-sd3", "tiny-flux"])
def test_only_the_transformer_that_takes_lists_cannot_be_exported(name: str) -> None:
    def explain(config: PipelineConfig) -> str:
        return str(find_unexportable(config))

    assert explain(load_shipped(name)) == "None"
    assert explain(load_shipped("tiny-z-image")) == (
        "the transformer of tiny-z-image takes lists of tensors, which no graph of ONNX does"
    )
