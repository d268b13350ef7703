"""Weights of a user's folder, for every kind of pipeline: all arrive, in parts and under older names, or none do."""

import json
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from sdbench.errors import UserError, WeightsUnavailable
from sdbench.models.diffusers_layout import find_weights
from sdbench.models.hub import list_files
from sdbench.models.networks import Networks
from sdbench.models.pipeline import fetch_networks
from sdbench.models.pipeline_folders import load_shipped, override
from sdbench.models.pretrained import fetch_tokenizers, load_pretrained
from sdbench.models.synthetic import build_synthetic
from sdbench.models.user_pipelines import UserPipeline, hash_file, register
from sdbench.schema.experiment import Experiment

TINY = ("tiny-sd", "tiny-sdxl", "tiny-sd3", "tiny-flux", "tiny-z-image")


@cache
def drawn(name: str, dtype: torch.dtype) -> dict[str, Any]:
    """Return the networks of a shipped pipeline."""
    config = load_shipped(name)
    return {part: build_synthetic(part, item, 3, "cpu", dtype).network for part, item in config.networks.items()}


def write(folder: Path, name: str, dtype: torch.dtype = torch.float32, **options: Any) -> None:
    """Write the networks and configs of a pipeline as the libraries save them."""
    config = load_shipped(name)
    index: dict[str, Any] = {"_class_name": config.class_name}
    for part, network in drawn(name, dtype).items():
        network.save_pretrained(folder / part, **options)
        index[part] = [config.networks[part].library, config.networks[part].class_name]
    scheduler = folder / "scheduler/scheduler_config.json"
    scheduler.parent.mkdir()
    scheduler.write_text(json.dumps(config.scheduler.config))
    (folder / "model_index.json").write_text(json.dumps(index | {"scheduler": ["diffusers", "X"]}))


def remember(folder: Path, name: str, cache_folder: Path) -> UserPipeline:
    config, paths = load_shipped(name), list_files(folder)
    names = [file for part, item in config.networks.items() for file in find_weights(paths, part, item.library)]
    return register(config, folder, {file: hash_file(folder / file, cache_folder) for file in names}, cache_folder)


def load(folder: Path, name: str, cache_folder: Path, dtype: torch.dtype = torch.float32) -> Networks:
    # The cache knows a file by its size and time, and tests write twice within one tick of the clock.
    own = remember(folder, name, cache_folder)
    experiment = Experiment(pipeline=own.config.name, weights="pretrained")
    return load_pretrained(experiment, own.config, cache_folder, "cpu", dtype)


@pytest.mark.parametrize("options", [{}, {"variant": "fp16"}, {"max_shard_size": "1MB"}], ids=str)
@pytest.mark.parametrize("name", TINY)
def test_every_weight_arrives(tmp_path: Path, name: str, options: dict[str, Any]) -> None:
    write(tmp_path / "mine", name, **options)
    loaded = load(tmp_path / "mine", name, tmp_path)
    for part, network in drawn(name, torch.float32).items():
        own = loaded.by_component[part].state_dict()
        assert own.keys() == network.state_dict().keys()
        assert all(torch.equal(own[key], tensor) for key, tensor in network.state_dict().items())
        assert not loaded.by_component[part].training


@pytest.mark.parametrize(("dtype", "kept"), [(torch.float16, torch.float32), (torch.bfloat16, torch.bfloat16)])
def test_what_a_class_keeps_in_fp32_stays_so(tmp_path: Path, dtype: torch.dtype, kept: torch.dtype) -> None:
    write(tmp_path / "mine", "tiny-flux")
    weights = load(tmp_path / "mine", "tiny-flux", tmp_path, dtype).by_component["text_encoder_2"].state_dict()
    assert {tensor.dtype for name, tensor in weights.items() if ".wo." in name} == {kept}
    assert {tensor.dtype for name, tensor in weights.items() if ".wo." not in name} == {dtype}


def change(folder: Path, file: str, edit: Callable[[dict[str, torch.Tensor]], None]) -> None:
    weights = load_file(folder / file)
    edit(weights)
    save_file(weights, folder / file, metadata={"format": "pt"})


def lose_last(weights: dict[str, torch.Tensor]) -> None:
    del weights[max(weights)]


def add_one(weights: dict[str, torch.Tensor]) -> None:
    weights["surplus.weight"] = torch.zeros(3)


def reshape_last(weights: dict[str, torch.Tensor]) -> None:
    weights[max(weights)] = torch.zeros(2, 2, 2)


def add_to_last(weights: dict[str, torch.Tensor]) -> None:
    weights[max(weights)].add_(1)


@pytest.mark.parametrize(
    ("edit", "problem"), [(lose_last, "1 missing"), (add_one, "1 unexpected"), (reshape_last, "1 of another shape")]
)
@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("tiny-sdxl", "text_encoder_2/model.safetensors"),
        ("tiny-flux", "text_encoder_2/model.safetensors"),
        ("tiny-flux", "transformer/diffusion_pytorch_model.safetensors"),
        ("tiny-sd3", "transformer/diffusion_pytorch_model.safetensors"),
        ("tiny-z-image", "text_encoder/model.safetensors"),
        ("tiny-z-image", "transformer/diffusion_pytorch_model.safetensors"),
    ],
)
def test_weights_of_every_network_are_those_of_the_network_or_refused(
    tmp_path: Path, name: str, file: str, edit: Callable[[dict[str, torch.Tensor]], None], problem: str
) -> None:
    write(tmp_path / "mine", name)
    change(tmp_path / "mine", file, edit)
    with pytest.raises(WeightsUnavailable, match=f"{file} has weights {problem}"):
        load(tmp_path / "mine", name, tmp_path)


def test_a_weight_that_modules_share_may_be_stored_twice_with_one_value(tmp_path: Path) -> None:
    folder, file = tmp_path / "mine", "text_encoder_2/model.safetensors"
    write(folder, "tiny-flux")
    change(folder, file, lambda own: own.update({"encoder.embed_tokens.weight": own["shared.weight"].clone()}))
    assert load(folder, "tiny-flux", tmp_path).source == "file"
    change(folder, file, lambda own: own.update({"encoder.embed_tokens.weight": own["shared.weight"] + 1}))
    with pytest.raises(WeightsUnavailable, match="which the network shares, with different values"):
        load(folder, "tiny-flux", tmp_path)


def test_a_weight_that_modules_share_may_be_stored_under_either_name(tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    write(folder, "tiny-flux")
    change(
        folder,
        "text_encoder_2/model.safetensors",
        lambda own: own.update({"encoder.embed_tokens.weight": own.pop("shared.weight")}),
    )
    assert load(folder, "tiny-flux", tmp_path).source == "file"


def test_the_prefix_of_a_model_with_a_head_is_known(tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    write(folder, "tiny-z-image")

    def prefix(weights: dict[str, torch.Tensor]) -> None:
        for name in list(weights):
            weights[f"model.{name}"] = weights.pop(name)

    change(folder, "text_encoder/model.safetensors", prefix)
    assert load(folder, "tiny-z-image", tmp_path).source == "file"


def test_positions_that_are_stored_are_those_of_the_file(tmp_path: Path) -> None:
    folder, file = tmp_path / "mine", "transformer/diffusion_pytorch_model.safetensors"
    write(folder, "tiny-sd3")
    change(folder, file, lambda own: own.update({"pos_embed.pos_embed": own["pos_embed.pos_embed"] + 1}))
    stored = load_file(folder / file)["pos_embed.pos_embed"]
    transformer = load(folder, "tiny-sd3", tmp_path).by_component["transformer"]
    assert torch.equal(transformer.pos_embed.pos_embed, stored)


def test_values_of_a_type_that_is_not_computed_with_are_refused(tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    write(folder, "tiny-sd")
    change(
        folder,
        "vae/diffusion_pytorch_model.safetensors",
        lambda own: own.update({max(own): own[max(own)].to(torch.float8_e4m3fn)}),
    )
    with pytest.raises(WeightsUnavailable, match="holds values of type F8_E4M3"):
        load(folder, "tiny-sd", tmp_path)


def test_a_folder_that_is_gone_is_named(tmp_path: Path) -> None:
    write(tmp_path / "mine", "tiny-sd")
    own = remember(tmp_path / "mine", "tiny-sd", tmp_path)
    (tmp_path / "mine").rename(tmp_path / "gone")
    experiment = Experiment(pipeline=own.config.name, weights="pretrained")
    with pytest.raises(WeightsUnavailable, match=r"text_encoder/config.json cannot be read; copy it again") as caught:
        load_pretrained(experiment, own.config, tmp_path, "cpu", torch.float32)
    assert str(tmp_path) not in str(caught.value)


def test_weights_that_changed_after_the_plan_are_refused(tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    write(folder, "tiny-sd")
    own = remember(folder, "tiny-sd", tmp_path)
    change(folder, "vae/diffusion_pytorch_model.safetensors", add_to_last)
    experiment = Experiment(pipeline=own.config.name, weights="pretrained")
    with pytest.raises(WeightsUnavailable, match=r"has changed since the run was planned; run it again"):
        load_pretrained(experiment, own.config, tmp_path, "cpu", torch.float32)


def test_a_pipeline_without_weights_has_none_to_load(tmp_path: Path) -> None:
    own = register(load_shipped("tiny-sd"), tmp_path, {}, tmp_path)
    with pytest.raises(UserError, match="has no weights of its own; set weights=synthetic, or hub_id and revision"):
        fetch_tokenizers(Experiment(pipeline=own.config.name, weights="pretrained"), own.config, tmp_path)


@pytest.mark.parametrize(
    ("class_name", "files"),
    [
        ("T5TokenizerFast", {"tokenizer.json": "unigram"}),
        ("Qwen2Tokenizer", {"tokenizer.json": "bpe"}),
        ("Qwen2TokenizerFast", {"vocab.json": "", "merges.txt": ""}),
    ],
)
def test_tokenizers_of_other_encoders_are_read_from_the_folder(
    tmp_path: Path, class_name: str, files: dict[str, str]
) -> None:
    folder = tmp_path / "mine"
    write(folder, "tiny-sd")
    change_index(folder, {"tokenizer": ["transformers", class_name]})
    (folder / "tokenizer").mkdir()
    for name, kind in files.items():
        (folder / "tokenizer" / name).write_text(make_vocabulary(name, kind))
    own = remember(folder, "tiny-sd", tmp_path)
    experiment = Experiment(pipeline=own.config.name, weights="pretrained")
    tokenizers = fetch_tokenizers(experiment, override(own.config, {"text_encoder.vocab_size": 8}), tmp_path)
    assert tokenizers is not None
    assert len(tokenizers["tokenizer"]("abc", max_length=12, padding="max_length").input_ids) == 12


def change_index(folder: Path, changes: dict[str, Any]) -> None:
    path = folder / "model_index.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def make_vocabulary(name: str, kind: str) -> str:
    from tokenizers import Tokenizer, models

    words = {"a": 0, "b": 1, "c": 2, "<|endoftext|>": 3}
    if kind == "unigram":
        pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), *((letter, -1.0) for letter in "▁abc")]
        return str(Tokenizer(models.Unigram(pieces, 2)).to_str())
    if kind == "bpe":
        return str(Tokenizer(models.BPE(words, [])).to_str())
    return json.dumps(words) if name == "vocab.json" else "#version: 0.2\n"


@pytest.mark.parametrize("class_name", ["CLIPTokenizer", "Qwen2Tokenizer"])
def test_a_tokenizer_without_its_vocabulary_is_refused(tmp_path: Path, class_name: str) -> None:
    folder = tmp_path / "mine"
    write(folder, "tiny-sd")
    change_index(folder, {"tokenizer": ["transformers", class_name]})
    (folder / "tokenizer").mkdir()
    (folder / "tokenizer/tokenizer_config.json").write_text(json.dumps({"tokenizer_class": class_name}))
    own = remember(folder, "tiny-sd", tmp_path)
    problem = "the tokenizer has [1-9] tokens, and its text encoder 49,408; copy it again"
    with pytest.raises(WeightsUnavailable, match=problem):
        fetch_tokenizers(Experiment(pipeline=own.config.name, weights="pretrained"), own.config, tmp_path)


def test_a_tokenizer_of_another_class_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "mine", "tiny-sd")
    change_index(tmp_path / "mine", {"tokenizer": ["transformers", "AutoTokenizer"]})
    own = remember(tmp_path / "mine", "tiny-sd", tmp_path)
    with pytest.raises(
        WeightsUnavailable, match="class AutoTokenizer: expected CLIPTokenizer, T5Tokenizer, Qwen2Tokenizer"
    ):
        fetch_tokenizers(Experiment(pipeline=own.config.name, weights="pretrained"), own.config, tmp_path)


def test_weights_are_hashed_before_loading_is_timed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "mine", "tiny-sd")
    own = remember(tmp_path / "mine", "tiny-sd", tmp_path)
    experiment = Experiment(pipeline=own.config.name, weights="pretrained")
    fetch_networks(experiment, tmp_path, lambda _stage: None)
    monkeypatch.setattr("sdbench.models.pretrained.hashlib.file_digest", None)
    assert load_pretrained(experiment, own.config, tmp_path, "cpu", torch.float32).source == "file"
