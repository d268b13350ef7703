"""The work of a call: counted from shapes alone, and checked against what the stock pipelines really call."""

import json
import shutil
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils._pytree import tree_map

from sdbench.models import work as work_module
from sdbench.models.count_facts import count_facts
from sdbench.models.denoiser_inputs import denoiser_inputs
from sdbench.models.facts import load_facts
from sdbench.models.pipeline import build_pipeline
from sdbench.models.pipeline_folders import (
    find_pipeline,
    load_pipeline,
    load_shipped,
    override,
    read_folder,
    shipped_pipelines,
)
from sdbench.models.schedulers import build_scheduler, native_scheduler
from sdbench.models.user_pipelines import register
from sdbench.models.work import count_networks, count_text_tokens, count_work
from sdbench.plan.families import native_options
from sdbench.schema.experiment import Experiment
from sdbench.schema.work import Work

TINY = [name for name in shipped_pipelines() if name.startswith("tiny-")]
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


def make_experiment(name: str, **options: Any) -> Experiment:
    return Experiment(**{"pipeline": name, **native_options(load_shipped(name)), **options})


def count(folder: Path, name: str, **options: Any) -> Work:
    experiment = make_experiment(name, **options)
    config = find_pipeline(experiment, folder)
    return count_work(experiment, config, build_scheduler(experiment.scheduler, config.scheduler, None), folder)


def refuse(*_: object) -> None:
    raise AssertionError


def shapes(value: Any) -> Any:
    return tree_map(lambda item: tuple(item.shape) if torch.is_tensor(item) else item, value)


@pytest.fixture
def without_t5(tmp_path: Path) -> str:
    """Return the name of an SD3 whose index has null in place of T5."""
    folder = tmp_path / "without-t5"
    shutil.copytree(str(files("sdbench.models").joinpath("pipelines", "tiny-sd3")), folder)
    index = json.loads((folder / "model_index.json").read_text())
    index |= {part: [None, None] for part in ("text_encoder_3", "tokenizer_3")}
    (folder / "model_index.json").write_text(json.dumps(index))
    return register(read_folder(folder, "without-t5"), None, {}, tmp_path).config.name


@pytest.mark.parametrize("max_sequence_length", [None, 96])
def test_zeros_of_an_sd3_without_t5_are_counted(
    tmp_path: Path, without_t5: str, max_sequence_length: int | None
) -> None:
    options = {"guidance_scale": 4.5, "scheduler": "flow-euler", "max_sequence_length": max_sequence_length}
    check_shapes(tmp_path, Experiment(pipeline=without_t5, height=64, width=128, steps=2, **options))
    config = load_pipeline(without_t5, tmp_path)
    assert count_facts(config).parameters.keys() == {"text_encoder", "text_encoder_2", "transformer", "vae"}


@pytest.mark.parametrize("name", TINY)
def test_denoiser_is_called_with_the_shapes_that_are_counted(tmp_path: Path, name: str) -> None:
    check_shapes(tmp_path, make_experiment(name, height=64, width=128, steps=2))


def check_shapes(tmp_path: Path, experiment: Experiment) -> None:
    built = build_pipeline(experiment, "cpu", tmp_path)
    calls: list[tuple[Any, ...]] = []
    denoiser = getattr(built.pipeline, built.config.denoiser_name)
    denoiser.register_forward_pre_hook(lambda _, args, named: calls.append((args, named)), with_kwargs=True)
    built.pipeline(
        ["a horse"],
        height=64,
        width=128,
        num_inference_steps=2,
        guidance_scale=experiment.guidance_scale,
        output_type="latent",
        **({"max_sequence_length": limit} if (limit := experiment.max_sequence_length) else {}),
    )
    args, named = calls[0]
    positions = {"unet": ("sample", "timestep"), "transformer": ("x", "t", "cap_feats")}[built.config.denoiser_name]
    observed = dict(zip(positions, args, strict=False)) | named
    batch = built.config.guided_batch(experiment.guidance_scale)
    tokens = count_text_tokens(built.config, experiment.max_sequence_length)
    expected = denoiser_inputs(built.config, batch, 8, 16, tokens, lambda *shape: torch.zeros(shape))
    for key, value in expected.items():
        assert shapes(observed[key]) == shapes(value), key


def test_unet_of_stable_diffusion_1_takes_the_published_flop(tmp_path: Path) -> None:
    config = load_shipped("sd-1.4")
    flop = {name: work.flop for name, work in count_networks(config, 512, 512, {"text_encoder": 77}, tmp_path).items()}
    assert flop["unet"] == pytest.approx(0.803e12, rel=0.01)
    assert flop["vae"] == pytest.approx(2.515e12, rel=0.01)


@pytest.mark.parametrize("name", TINY)
def test_flop_of_an_image_grow_with_the_denoiser_calls_and_with_nothing_else(tmp_path: Path, name: str) -> None:
    options = {"height": 64, "width": 64}
    few, many = (count(tmp_path, name, steps=steps, **options) for steps in (4, 8))
    four = count(tmp_path, name, steps=4, batch=4, **options)
    assert four == few
    denoiser = load_shipped(name).denoiser_name
    each = few.flop_per_image[denoiser] / few.denoiser_calls
    assert many.flop_per_image[denoiser] == each * many.denoiser_calls
    assert {key: value for key, value in many.flop_per_image.items() if key != denoiser} == {
        key: value for key, value in few.flop_per_image.items() if key != denoiser
    }


def test_guidance_doubles_the_denoisers_work_and_that_of_the_texts_that_are_encoded(tmp_path: Path) -> None:
    plain, guided = (count(tmp_path, "tiny-sdxl", guidance_scale=scale).flop_per_image for scale in (1.0, 5.0))
    assert guided == plain | {"unet": 2 * plain["unet"]}  # SDXL puts zeros for an empty negative prompt
    described = count(tmp_path, "tiny-sdxl", guidance_scale=5.0, negative_prompt="blurry").flop_per_image
    assert described == {name: value * (1 if name == "vae" else 2) for name, value in plain.items()}
    embedded = [count(tmp_path, "tiny-flux", guidance_scale=scale).flop_per_image for scale in (1.0, 3.5)]
    assert embedded[0] == embedded[1]


def test_work_of_a_size_is_counted_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = count(tmp_path, "tiny-flux")
    monkeypatch.setattr(work_module, "build_on_meta", refuse)
    assert count(tmp_path, "tiny-flux") == first
    with pytest.raises(AssertionError):
        count(tmp_path, "tiny-flux", height=128)


def test_damaged_count_is_counted_again(tmp_path: Path) -> None:
    first = count(tmp_path, "tiny-flux")
    (path,) = (tmp_path / "work").iterdir()
    for content in (b"", b"[]", b'{"vae": "many"}', b"\xff"):
        path.write_bytes(content)
        assert count(tmp_path, "tiny-flux") == first


def test_tokens_of_an_image_are_latents_of_a_unet_and_patches_of_a_transformer(tmp_path: Path) -> None:
    assert count(tmp_path, "tiny-sdxl", height=64, width=128).latent_tokens == 8 * 16
    assert {count(tmp_path, name, height=64, width=128).latent_tokens for name in TINY[2:]} == {4 * 8}
    assert load_shipped("flux.1-dev").latent_tokens(1024, 1024) == 4096


@pytest.mark.parametrize("name", TINY)
def test_facts_of_a_pipeline_are_those_that_are_counted_at_its_size(tmp_path: Path, name: str) -> None:
    experiment = make_experiment(name, height=128, width=128)
    config = load_shipped(name)
    tokens = count_text_tokens(config, experiment.max_sequence_length)
    counted = {name: work.flop for name, work in count_networks(config, 128, 128, tokens, tmp_path).items()}
    facts = load_facts(config, tmp_path)
    latent_tokens = config.latent_tokens(128, 128)
    assert {part: facts.flop_of(part, latent_tokens) for part in facts.flop} == pytest.approx(counted, rel=1e-9)


@pytest.mark.parametrize("name", sorted(shipped_pipelines()))
def test_facts_of_shipped_pipelines_need_no_counting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr("sdbench.models.facts._count_in_child", refuse)
    assert load_facts(load_shipped(name), tmp_path).parameter_count > 0
    assert native_scheduler(load_shipped(name))


def test_cache_that_cannot_be_written_lets_every_launch_count(tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("")
    assert count(tmp_path / "cache", "tiny-flux") == count(tmp_path, "tiny-flux")
    cut = override(load_shipped("tiny-flux"), {"transformer.num_layers": 1})
    assert load_facts(cut, tmp_path / "cache") == load_facts(cut, tmp_path)


def test_few_step_schedulers_project_no_other_number_of_steps(tmp_path: Path) -> None:
    few = count(tmp_path, "tiny-sd", scheduler="lcm", steps=4, guidance_scale=1.0)
    assert (few.native_steps, few.denoiser_calls_at_native_steps) == (4, 4)
    assert count(tmp_path, "tiny-sd", scheduler="ddim", steps=4).native_steps == 50


def test_weights_in_fp16_count_what_t5_keeps_in_fp32(tmp_path: Path) -> None:
    facts = load_facts(load_shipped("sd-3.5-medium"), tmp_path)
    assert facts.weights_bytes("fp16") - facts.weights_bytes("bf16") == 2 * 24 * 10_240 * 4_096
    assert load_facts(load_shipped("sdxl"), tmp_path).weights_bytes("fp16") == 2 * 3_468_837_867


def test_sdxl_without_the_flag_has_the_default_of_its_class(tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    shutil.copytree(str(files("sdbench.models").joinpath("pipelines", "tiny-sdxl")), folder)
    index = json.loads((folder / "model_index.json").read_text())
    del index["force_zeros_for_empty_prompt"]
    (folder / "model_index.json").write_text(json.dumps(index))
    assert read_folder(folder, "mine").prompts_encoded(5.0, "") == 1
    assert load_shipped("tiny-sd").prompts_encoded(5.0, "") == 2


def test_traffic_is_what_operators_read_and_write_and_attention_is_one() -> None:
    from torch import nn

    from sdbench.models.traffic import TrafficCounter

    class Attending(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.project = nn.Linear(8, 8, bias=False)

        def forward(self, states: Any) -> Any:
            heads = self.project(states).view(1, 4, 2, 4).transpose(1, 2)
            return nn.functional.scaled_dot_product_attention(heads, heads, heads)

    network = Attending().to("meta")
    states = torch.zeros(1, 4, 8, device="meta")
    with torch.no_grad(), TrafficCounter(network) as counter, counter.attention:
        network(states)

    # A product that reads and writes 32 values, and an attention that reads three times 32 and writes 32.
    assert (counter.operators, counter.values, counter.weights) == (2, 2 * 32 + 4 * 32, 64)


def test_work_of_a_call_counts_what_it_moves(tmp_path: Path) -> None:
    work = count(tmp_path, "tiny-sd", precision="fp32")
    half = count(tmp_path, "tiny-sd", precision="bf16")
    autocast = count(tmp_path, "tiny-sd", autocast="bf16")

    assert work.weight_bytes == {name: 2 * size for name, size in half.weight_bytes.items()}
    assert autocast.weight_bytes == work.weight_bytes
    assert autocast.activation_bytes_per_image == half.activation_bytes_per_image
    assert work.operators == half.operators
    # Weights are read once a call of the denoiser, and not once for each half of a guided batch.
    one_step = count(tmp_path, "tiny-sd", precision="fp32", steps=1)
    assert work.weight_bytes["unet"] == work.denoiser_calls * one_step.weight_bytes["unet"]
