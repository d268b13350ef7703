"""Checkpoints of one file: which family they are, and that their weights arrive in the networks."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from sdbench.errors import UserError, WeightsUnavailable
from sdbench.models import single_file
from sdbench.models.fill_network import match_names
from sdbench.models.networks import Networks, build_on_meta
from sdbench.models.pipeline import build_pipeline
from sdbench.models.pipeline_folders import load_shipped
from sdbench.models.pretrained import load_pretrained
from sdbench.models.single_file import Layout, read_checkpoint
from sdbench.models.synthetic import build_synthetic
from sdbench.models.user_pipelines import hash_file, register
from sdbench.schema.experiment import Experiment
from sdbench.schema.pipeline import PipelineConfig
from tests.models import ldm

SD1: dict[str, Callable[..., dict[str, torch.Tensor]]] = {"text_encoder": ldm.clip, "unet": ldm.unet, "vae": ldm.vae}
SD2 = SD1 | {"text_encoder": ldm.open_clip}
SDXL = SD1 | {
    "text_encoder": lambda weights: ldm.clip(weights, ldm.SDXL_CLIP),
    "text_encoder_2": lambda weights: ldm.open_clip(weights, ldm.SDXL_OPEN_CLIP),
}
WRITERS = {"sd-1.5": SD1, "sd-2.1": SD2, "sdxl": SDXL}
LAYOUTS = {layout.base: layout for layout in single_file._LAYOUTS}
# A tiny sibling, and what its UNet takes as text.
SIBLINGS = {"sd-1.5": ("tiny-sd", 32), "sd-2.1": ("tiny-sd", 32), "sdxl": ("tiny-sdxl", 64)}


def in_old_names(config: PipelineConfig, networks: dict[str, Any], base: str) -> dict[str, torch.Tensor]:
    """Return the weights of networks in the names of a checkpoint."""
    named: dict[str, torch.Tensor] = {}
    for part, write in WRITERS[base].items():
        weights = networks[part].state_dict()
        named |= write(weights) if part.startswith("text") else write(weights, config.networks[part].config)
    return named


def tiny_networks(config: PipelineConfig) -> dict[str, Any]:
    return {
        part: build_synthetic(part, component, 3, "cpu", torch.float32).network
        for part, component in config.networks.items()
    }


@pytest.fixture(params=SIBLINGS)
def base(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Return a family, of which the tiny sibling is the only member that is known."""
    name: str = request.param
    sibling, size = SIBLINGS[name]
    monkeypatch.setattr(single_file, "_LAYOUTS", (Layout(sibling, size, LAYOUTS[name].prefixes),))
    return name


def load(path: Path, cache: Path, dtype: torch.dtype = torch.float32) -> Networks:
    own = register(read_checkpoint(path), path, {path.name: hash_file(path, cache)}, cache)
    experiment = Experiment(pipeline=own.config.name, weights="pretrained")
    return load_pretrained(experiment, own.config, cache, "cpu", dtype)


def write_tiny(path: Path, base: str, more: dict[str, torch.Tensor] | None = None) -> dict[str, Any]:
    config = load_shipped(SIBLINGS[base][0])
    networks = tiny_networks(config)
    save_file(in_old_names(config, networks, base) | (more or {}), path)
    return networks


def test_every_weight_of_a_checkpoint_arrives_in_its_network(base: str, tmp_path: Path) -> None:
    expected = write_tiny(tmp_path / "mine.safetensors", base)
    loaded = load(tmp_path / "mine.safetensors", tmp_path)
    for part, network in expected.items():
        own = loaded.by_component[part].state_dict()
        assert own.keys() == network.state_dict().keys()
        assert all(torch.equal(own[name], tensor) for name, tensor in network.state_dict().items())


def test_the_digest_is_the_sha256_of_the_file(tmp_path: Path, base: str) -> None:
    path = tmp_path / "mine.safetensors"
    write_tiny(path, base)
    assert load(path, tmp_path).digest == f"sha256:{hash_file(path, tmp_path / 'other')}"


@pytest.mark.parametrize("base", ["sd-1.5"], indirect=True)
def test_copies_for_training_and_computed_values_are_left(tmp_path: Path, base: str) -> None:
    more = {"model_ema.diffusion_modelout2bias": torch.ones(3), "alphas_cumprod": torch.ones(1000)}
    write_tiny(tmp_path / "mine.safetensors", base, more)
    assert load(tmp_path / "mine.safetensors", tmp_path).source == "file"


@pytest.mark.parametrize("base", ["sd-1.5"], indirect=True)
@pytest.mark.parametrize(
    ("more", "problem"),
    [
        ("surplus.weight", r"1 unexpected \(surplus.weight\)"),
        ("model.diffusion_model.surplus.weight", "3 values that belong to nothing in the network"),
        ("first_stage_model.surplus.weight", "3 values that belong to nothing in the network"),
        ("cond_stage_model.transformer.surplus.weight", r"1 unexpected \(surplus.weight\)"),
    ],
)
def test_weights_that_belong_to_nothing_are_refused(tmp_path: Path, base: str, more: str, problem: str) -> None:
    write_tiny(tmp_path / "mine.safetensors", base, {more: torch.ones(3)})
    with pytest.raises(WeightsUnavailable, match=problem):
        load(tmp_path / "mine.safetensors", tmp_path)


@pytest.mark.parametrize("base", ["sd-1.5"], indirect=True)
def test_a_checkpoint_of_another_day_than_the_plan_is_refused(tmp_path: Path, base: str) -> None:
    path = tmp_path / "mine.safetensors"
    write_tiny(path, base)
    own = register(read_checkpoint(path), path, {path.name: "0" * 64}, tmp_path)
    experiment = Experiment(pipeline=own.config.name, weights="pretrained")
    with pytest.raises(
        WeightsUnavailable, match=r"mine.safetensors has changed since the run was planned; run it again"
    ):
        load_pretrained(experiment, own.config, tmp_path, "cpu", torch.float32)


@pytest.mark.parametrize("base", ["sd-1.5"], indirect=True)
def test_a_checkpoint_draws_the_image_of_its_weights(tmp_path: Path, base: str) -> None:
    path = tmp_path / "mine.safetensors"
    config = load_shipped("tiny-sd")
    drawn = build_pipeline(Experiment(pipeline="tiny-sd", weights_seed=3), "cpu", tmp_path)
    save_file(in_old_names(config, {part: getattr(drawn.pipeline, part) for part in config.networks}, base), path)
    own = register(read_checkpoint(path), path, {path.name: hash_file(path, tmp_path)}, tmp_path)
    built = build_pipeline(Experiment(pipeline=own.config.name, weights="pretrained"), "cpu", tmp_path)
    images = [
        pipeline(
            "a horse", num_inference_steps=1, height=64, width=64, output_type="np", generator=torch.manual_seed(1)
        )
        for pipeline in (drawn.pipeline, built.pipeline)
    ]
    assert (images[0].images == images[1].images).all()


@pytest.mark.parametrize("base", WRITERS)
def test_a_checkpoint_of_real_shapes_is_known_and_fits(
    tmp_path: Path, base: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = load_shipped(base)
    networks = {part: build_on_meta(component) for part, component in config.networks.items()}
    tensors = in_old_names(config, networks, base)
    path = tmp_path / "real.safetensors"
    ldm.write_header(path, tensors)
    assert read_checkpoint(path) == config.model_copy(update={"name": "real"})
    monkeypatch.setattr(single_file, "read_tensors", lambda _, items: ((name, tensors[name]) for name, _ in items))
    for part, component in config.networks.items():
        network = build_on_meta(component, torch.float16)
        converted = single_file.read_component(path, part, config, network)
        assert {tensor.dtype for tensor in converted.values()} == {torch.float16}
        match_names(network, {name: tuple(tensor.shape) for name, tensor in converted.items()})


@pytest.mark.parametrize(
    ("tensors", "problem"),
    [
        (
            {ldm.UNET + "input_blocks.0.0.weight": (320, 9, 3, 3)},
            "is not a text-to-image model (its UNet has 9 input channels); choose",
        ),
        (
            {ldm.UNET + "input_blocks.0.0.weight": (320, 8, 3, 3)},
            "is not a text-to-image model (its UNet has 8 input channels); choose",
        ),
        ({ldm.UNET + "input_blocks.0.0.weight": (320, 4, 3, 3)}, "has a UNet with text of size"),
        ({"lora_unet_down_blocks_0.lora_up.weight": (4, 4)}, "is a LoRA"),
        ({"model.diffusion_model.double_blocks.0.img_attn.norm.key_norm.scale": (128,)}, "is FLUX"),
        ({"double_blocks.0.img_attn.norm.key_norm.scale": (128,)}, "is FLUX"),
        ({"model.diffusion_model.joint_blocks.0.x_block.attn.qkv.weight": (4, 4)}, "is Stable Diffusion 3"),
        ({"control_model.time_embed.0.weight": (4, 4)}, "is a ControlNet"),
        ({"first_stage_model.decoder.conv_in.weight": (4, 4, 3, 3)}, "is a VAE"),
        ({"decoder.conv_in.weight": (4, 4, 3, 3)}, "is a VAE"),
        ({"text_model.embeddings.token_embedding.weight": (4, 4)}, "is a text encoder"),
        ({"down_blocks.0.resnets.0.conv1.weight": (4, 4, 3, 3)}, "is one network of a folder in diffusers' layout"),
        ({"conditioner.embedders.0.model.text_projection": (4, 4)}, "is the refiner of SDXL"),
        ({"emb_params": (4, 768)}, "has no UNet that sdbench knows"),
        (
            {
                ldm.UNET + "input_blocks.0.0.weight": (320, 4, 3, 3),
                ldm.UNET + "input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight": (320, 768),
                "first_stage_model.decoder.conv_in.weight": (4, 4, 3, 3),
            },
            "has no text_encoder",
        ),
    ],
)
def test_a_file_of_another_model_is_named(tmp_path: Path, tensors: dict[str, tuple[int, ...]], problem: str) -> None:
    path = tmp_path / "x.safetensors"
    ldm.write_header(path, {name: torch.empty(shape, device="meta") for name, shape in tensors.items()})
    with pytest.raises(UserError) as caught:
        read_checkpoint(path)
    assert str(caught.value).startswith(f"x.safetensors {problem}")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", "it is empty"),
        (b"PK", "it is not a safetensors file"),
        ((2**44).to_bytes(8, "little") + b"{}", "its header would take 17,592,186,044,416 bytes"),
        ((100).to_bytes(8, "little") + b"{}", "its header would take 100 bytes"),
        ((9).to_bytes(8, "little") + b"not JSON!", "its header cannot be read"),
        ((2).to_bytes(8, "little") + b"[]", "its header cannot be read"),
        ((9).to_bytes(8, "little") + b'{"a": []}', "its header cannot be read"),
    ],
)
def test_a_file_that_is_not_whole_is_named(tmp_path: Path, content: bytes, problem: str) -> None:
    path = tmp_path / "x.safetensors"
    path.write_bytes(content)
    with pytest.raises(UserError) as caught:
        read_checkpoint(path)
    assert problem in str(caught.value)
    assert str(caught.value).endswith("; download it again")


@pytest.mark.parametrize(
    ("change", "problem"), [(-5, "it is truncated: 5 of "), (5, "it has 5 bytes more than its header says")]
)
def test_a_file_of_another_length_is_named(tmp_path: Path, change: int, problem: str) -> None:
    path = tmp_path / "x.safetensors"
    save_file({"a": torch.ones(100)}, path)
    content = path.read_bytes()
    path.write_bytes(content[:change] if change < 0 else content + bytes(change))
    with pytest.raises(UserError, match=problem):
        read_checkpoint(path)
