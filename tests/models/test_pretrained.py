"""Loading pretrained weights: completely, from the pinned files, or not at all."""

import hashlib
import json
import shutil
import socket
import time
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
import torch
from diffusers.utils import logging as diffusers_logging
from pydantic import ValidationError
from safetensors.torch import load_file, save_file
from transformers.utils import logging as transformers_logging

from sdbench.errors import WeightsUnavailable
from sdbench.models import pretrained
from sdbench.models.libraries import class_of
from sdbench.models.networks import Networks
from sdbench.models.pipeline import build_pipeline
from sdbench.models.pipeline_folders import load_shipped
from sdbench.models.pretrained import fetch_tokenizers, load_pretrained
from sdbench.schema.experiment import Experiment
from tests.models.hub import HUB_ID, REVISION, Hub, serving

NAME = f"{HUB_ID} at {REVISION}"
TINY = load_shipped("tiny-sd")
TINY_PARAMETERS = 3_735_819
PARTS = {
    "text_encoder": "text_encoder/model.safetensors",
    "unet": "unet/diffusion_pytorch_model.safetensors",
    "vae": "vae/diffusion_pytorch_model.safetensors",
}
EXPERIMENT = Experiment(pipeline="tiny-sd", weights="pretrained", hub_id=HUB_ID, revision=REVISION)
SYNTHETIC = Experiment(pipeline="tiny-sd", weights_seed=7)


@cache
def repository() -> dict[str, bytes]:
    """Return the files of a tiny pipeline as diffusers saves it."""
    with TemporaryDirectory() as folder:
        build_pipeline(SYNTHETIC, "cpu", Path(folder)).pipeline.save_pretrained(folder)
        return {
            str(path.relative_to(folder)): path.read_bytes()
            for path in Path(folder).rglob("*")
            if path.is_file() and path.parent.name != "weights"
        }


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    with serving(Hub(files=dict(repository()))) as running:
        monkeypatch.setenv("HF_ENDPOINT", running.endpoint)
        monkeypatch.delenv("HF_TOKEN", raising=False)
        monkeypatch.delenv("ACCESS_TOKEN", raising=False)
        monkeypatch.setattr(time, "sleep", lambda duration_s: None)
        yield running


@pytest.fixture
def snapshot(tmp_path: Path) -> Path:
    """Return a cache that holds the repository already, in the layout of huggingface_hub without links."""
    folder = tmp_path / "models--org--tiny" / "snapshots" / REVISION
    for name, content in repository().items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


def load(cache_folder: Path) -> Networks:
    return load_pretrained(EXPERIMENT, TINY, cache_folder, "cpu", torch.float32)


def refusal(cache_folder: Path) -> str:
    with pytest.raises(WeightsUnavailable) as caught:
        load(cache_folder)
    message = str(caught.value)
    assert message.startswith(NAME)
    assert "\n" not in message
    return message


def rewrite_weights(snapshot: Path, part: str, weights: dict[str, torch.Tensor]) -> None:
    save_file(weights, snapshot / PARTS[part], metadata={"format": "pt"})


def draw(experiment: Experiment, cache_folder: Path) -> np.ndarray:
    pipeline = build_pipeline(experiment, "cpu", cache_folder).pipeline
    generator = torch.Generator("cpu").manual_seed(3)
    options = {"height": 64, "width": 64, "num_inference_steps": 2, "output_type": "np"}
    images: np.ndarray = pipeline("a photo of a horse", generator=generator, **options).images
    return images


def test_downloaded_weights_draw_the_image_of_those_that_were_saved(hub: Hub, tmp_path: Path) -> None:
    assert np.array_equal(draw(EXPERIMENT, tmp_path), draw(SYNTHETIC, tmp_path))
    assert len(hub.ranges_of(PARTS["unet"])) == 1


def test_a_full_cache_is_loaded_without_any_connection(
    snapshot: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*arguments: object) -> None:
        pytest.fail(f"a connection was opened: {arguments[1:]}")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    assert build_pipeline(EXPERIMENT, "cpu", tmp_path).parameter_count == TINY_PARAMETERS


@pytest.mark.parametrize(
    "text",
    [
        "DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes. Error code 12",
        "unable to mmap 8 bytes from file <x.safetensors>: Cannot allocate memory (12)",
    ],
)
def test_tokenizer_for_which_the_host_has_no_memory_is_not_damaged(
    snapshot: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    def fail(*_: object, **__: object) -> None:
        error = OSError("Unable to load weights from checkpoint file")
        error.__context__ = RuntimeError(text)
        raise error

    monkeypatch.setattr(class_of("transformers", "CLIPTokenizer"), "from_pretrained", fail)
    with pytest.raises(MemoryError) as caught:
        fetch_tokenizers(EXPERIMENT, TINY, tmp_path)
    assert text in str(caught.value)


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes. Error code 12"),
        MemoryError(),
        OSError(12, "Cannot allocate memory"),
        torch.OutOfMemoryError("CUDA out of memory"),
    ],
)
def test_weights_for_which_there_is_no_memory_are_not_damaged(
    snapshot: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(pretrained, "read_tensors", fail)
    with pytest.raises(type(error)) as caught:
        load(tmp_path)
    assert caught.value is error


def test_loading_writes_nothing_though_the_libraries_had_bars(
    snapshot: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    diffusers_logging.enable_progress_bar()
    transformers_logging.enable_progress_bar()
    build_pipeline(EXPERIMENT, "cpu", tmp_path)
    assert capfd.readouterr() == ("", "")


def test_the_digest_is_that_of_the_three_weight_files(snapshot: Path, tmp_path: Path) -> None:
    hashes = {path: hashlib.sha256(repository()[path]).hexdigest() for path in PARTS.values()}
    canonical = json.dumps(hashes, sort_keys=True, separators=(",", ":"))
    assert load(tmp_path).digest == f"sha256:{hashlib.sha256(canonical.encode()).hexdigest()}"


@pytest.mark.parametrize("precision", ["fp16", "bf16"])
def test_pretrained_weights_have_the_precision_of_the_experiment(
    snapshot: Path, tmp_path: Path, precision: str
) -> None:
    experiment = Experiment.model_validate({**EXPERIMENT.model_dump(), "precision": precision})
    built = build_pipeline(experiment, "cpu", tmp_path)
    expected = {"fp16": torch.float16, "bf16": torch.bfloat16}[precision]
    for network in (built.pipeline.unet, built.pipeline.vae, built.pipeline.text_encoder):
        assert {tensor.dtype for tensor in network.parameters()} == {expected}
        assert not network.training
    assert built.parameter_count == TINY_PARAMETERS
    assert torch.get_default_dtype() == torch.float32


def test_a_revision_that_moves_is_refused() -> None:
    with pytest.raises(ValidationError, match="revision"):
        Experiment(pipeline="tiny-sd", weights="pretrained", hub_id=HUB_ID, revision="main")


@pytest.mark.parametrize("component", PARTS)
def test_a_missing_weight_is_named(snapshot: Path, tmp_path: Path, component: str) -> None:
    weights = load_file(snapshot / PARTS[component])
    lost = max(weights)
    del weights[lost]
    rewrite_weights(snapshot, component, weights)
    message = refusal(tmp_path)
    assert PARTS[component] in message
    assert f"1 missing ({lost.removeprefix('text_model.')})" in message


@pytest.mark.parametrize("component", PARTS)
def test_an_unexpected_weight_is_named(snapshot: Path, tmp_path: Path, component: str) -> None:
    weights = load_file(snapshot / PARTS[component])
    rewrite_weights(snapshot, component, {**weights, "surplus.weight": torch.zeros(3)})
    assert "1 unexpected (surplus.weight)" in refusal(tmp_path)


@pytest.mark.parametrize("component", PARTS)
def test_a_weight_of_another_shape_is_named(snapshot: Path, tmp_path: Path, component: str) -> None:
    weights = load_file(snapshot / PARTS[component])
    name = max(weights)
    rewrite_weights(snapshot, component, {**weights, name: torch.zeros(weights[name].shape[0] + 1)})
    assert f"1 of another shape ({name.removeprefix('text_model.')})" in refusal(tmp_path)


def test_many_missing_weights_are_counted_and_the_first_named(snapshot: Path, tmp_path: Path) -> None:
    weights = load_file(snapshot / PARTS["unet"])
    rewrite_weights(snapshot, "unet", {name: weights[name] for name in sorted(weights)[20:]})
    message = refusal(tmp_path)
    assert "20 missing (" in message
    assert "and 15 more" in message


def test_renamed_weights_of_the_text_encoder_are_not_reinitialised_silently(snapshot: Path, tmp_path: Path) -> None:
    weights = load_file(snapshot / PARTS["text_encoder"])
    rewrite_weights(snapshot, "text_encoder", {f"encoder_model.{name}": weights[name] for name in weights})
    message = refusal(tmp_path)
    assert f"{len(weights)} missing" in message
    assert f"{len(weights)} unexpected" in message


@pytest.mark.parametrize("component", PARTS)
def test_a_damaged_file_is_refused(snapshot: Path, tmp_path: Path, component: str) -> None:
    path = snapshot / PARTS[component]
    path.write_bytes(path.read_bytes()[:5000])
    assert f"{PARTS[component]} cannot be loaded" in refusal(tmp_path)


def test_a_file_that_changed_in_the_cache_is_refused(hub: Hub, tmp_path: Path) -> None:
    load(tmp_path)
    path = tmp_path / "models--org--tiny" / "snapshots" / REVISION / PARTS["vae"]
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.resolve().write_bytes(content)
    assert "is damaged in the cache" in refusal(tmp_path)


def test_pickled_weights_next_to_them_are_never_opened(snapshot: Path, tmp_path: Path) -> None:
    for name in PARTS.values():
        path = snapshot / name
        shutil.copy(path, path.with_name("pytorch_model.bin"))
        path.with_name("diffusion_pytorch_model.bin").write_bytes(b"cos\nsystem\n(S'false'\ntR.")
    assert load(tmp_path).by_component["unet"] is not None


def test_only_a_pickle_is_not_a_complete_cache(snapshot: Path, hub: Hub, tmp_path: Path) -> None:
    path = snapshot / PARTS["vae"]
    torch.save(load_file(path), path.with_suffix(".bin"))
    path.unlink()
    load(tmp_path)
    assert len(hub.ranges_of(PARTS["vae"])) == 1


@pytest.mark.parametrize(
    ("part", "key", "value"),
    [
        ("unet", "cross_attention_dim", 1024),
        ("vae", "scaling_factor", 0.13025),
        ("text_encoder", "num_hidden_layers", 23),
        ("scheduler", "prediction_type", "v_prediction"),
    ],
)
def test_another_architecture_is_refused(snapshot: Path, tmp_path: Path, part: str, key: str, value: object) -> None:
    path = snapshot / config_file(part)
    path.write_text(json.dumps({**json.loads(path.read_text()), key: value}))
    message = refusal(tmp_path)
    assert f"{config_file(part)} describes another pipeline ({key} {value!r} instead of" in message
    assert "set pipeline=from-hub" in message


def config_file(part: str) -> str:
    return "scheduler/scheduler_config.json" if part == "scheduler" else f"{part}/config.json"


@pytest.mark.parametrize(
    ("part", "key", "value"),
    [
        ("vae", "sample_size", 256),
        ("unet", "sample_size", 96),
        ("unet", "_name_or_path", "/home/author/model"),
        ("text_encoder", "torch_dtype", "float16"),
        ("text_encoder", "_name_or_path", "openai/clip-vit-large-patch14"),
        ("text_encoder", "eos_token_id", 49407),
        ("unet", "use_linear_projection", False),
        ("vae", "force_upcast", True),
    ],
)
def test_what_changes_neither_shapes_nor_computing_is_accepted(
    snapshot: Path, tmp_path: Path, part: str, key: str, value: object
) -> None:
    path = snapshot / config_file(part)
    path.write_text(json.dumps({**json.loads(path.read_text()), key: value}))
    assert load(tmp_path).source == "downloaded"


@pytest.mark.parametrize(("part", "key", "value"), [("unet", "upcast_attention", True), ("vae", "force_upcast", False)])
def test_a_key_that_the_pipeline_leaves_at_its_default_counts(
    snapshot: Path, tmp_path: Path, part: str, key: str, value: object
) -> None:
    path = snapshot / config_file(part)
    path.write_text(json.dumps({**json.loads(path.read_text()), key: value}))
    assert f"{key} {value} instead of {not value}" in refusal(tmp_path)


def test_a_key_that_is_absent_has_its_default(snapshot: Path, tmp_path: Path) -> None:
    path = snapshot / "vae/config.json"
    config = json.loads(path.read_text())
    path.write_text(json.dumps({key: value for key, value in config.items() if key != "scaling_factor"}))
    assert load(tmp_path).source == "downloaded"


@pytest.mark.parametrize("content", ["[1]", "no JSON", '"text"', ""])
def test_a_config_that_is_no_object_is_refused(snapshot: Path, tmp_path: Path, content: str) -> None:
    (snapshot / "unet/config.json").write_text(content)
    assert "unet/config.json is not a JSON object" in refusal(tmp_path)


def test_code_that_a_repository_brings_is_not_run(hub: Hub, tmp_path: Path) -> None:
    marker = tmp_path / "was_run"
    code = f"open({str(marker)!r}, 'w').close()".encode()
    for part in ("unet", "vae", "text_encoder"):
        config = json.loads(hub.files[config_file(part)])
        config["auto_map"] = {"AutoModel": "evil.Evil", "AutoConfig": "evil.Evil"}
        hub.files[config_file(part)] = json.dumps(config).encode()
        hub.files[f"{part}/evil.py"] = code
    hub.files["pipeline.py"] = code
    load(tmp_path)
    assert not marker.exists()
    assert not [request for request in hub.requests if request.path.endswith(".py")]


def test_a_repository_in_the_layout_of_2022_loads_the_same_weights(snapshot: Path, tmp_path: Path) -> None:
    expected = {name: network.state_dict() for name, network in load(tmp_path).by_component.items()}
    rewrite_weights(snapshot, "text_encoder", in_the_names_of_2022("text_encoder", snapshot))
    rewrite_weights(snapshot, "vae", in_the_names_of_2022("vae", snapshot))
    (snapshot / "tokenizer/tokenizer.json").unlink()
    write_older_tokenizer(snapshot / "tokenizer")
    networks = load(tmp_path).by_component
    for component, weights in expected.items():
        loaded = networks[component].state_dict()
        assert all(torch.equal(loaded[name], weights[name]) for name in weights)
    tokenizers = fetch_tokenizers(EXPERIMENT, TINY, tmp_path) or {}
    ids = tokenizers["tokenizer"]("a photo of an astronaut", padding="max_length", truncation=True).input_ids
    assert ids[:7] == [49406, 320, 1125, 539, 550, 18376, 49407]
    assert len(ids) == 77


def in_the_names_of_2022(component: str, snapshot: Path) -> dict[str, torch.Tensor]:
    """Return weights as Stable Diffusion v1.4 was published: a prefix and positions, and 1x1 attention names."""
    weights = load_file(snapshot / PARTS[component])
    if component == "text_encoder":
        named = {f"text_model.{name.removeprefix('text_model.')}": tensor for name, tensor in weights.items()}
        return {**named, "text_model.embeddings.position_ids": torch.arange(77)[None]}
    older = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
    renamed = {}
    for name, tensor in weights.items():
        for new, old in older.items():
            name = name.replace(f".{new}.", f".{old}.")  # noqa: PLW2901 - one replacement after the other
        renamed[name] = tensor
    assert sum("proj_attn" in name for name in renamed) == 4
    return renamed


def write_older_tokenizer(folder: Path) -> None:
    from sdbench.models.tokenizer import find_vocabulary_file, parse_vocabulary, read_vocabulary_text

    vocabulary, merges = parse_vocabulary(read_vocabulary_text(find_vocabulary_file()))
    (folder / "vocab.json").write_text(json.dumps(vocabulary))
    (folder / "merges.txt").write_text(
        "#version: 0.2\n" + "\n".join(f"{left} {right}" for left, right in merges) + "\n"
    )
    (folder / "tokenizer_config.json").write_text(json.dumps({"do_lower_case": True, "model_max_length": 77}))
