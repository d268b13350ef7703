"""Options that a pipeline does not know are refused in one line; those that it knows are not."""

from pathlib import Path
from typing import Any

import pytest

from sdbench.errors import ManifestError, UserError
from sdbench.models.pipeline_folders import load_shipped, override
from sdbench.models.user_pipelines import register
from sdbench.plan.expand import expand, parse_settings
from sdbench.plan.families import attending_blocks, native_options, refuse_options
from sdbench.plan.manifest_file import load_manifest_text
from sdbench.schema.experiment import Experiment

TO_UNETS = "exists for UNets only, and tiny-flux has a transformer; choose sdpa"
NOISE = "expected pndm, ddim, euler, euler-ancestral, dpm++, unipc, lcm"


def make(pipeline: str, **options: Any) -> Experiment:
    return Experiment.model_validate({"pipeline": pipeline} | native_options(load_shipped(pipeline)) | options)


@pytest.mark.parametrize(
    ("pipeline", "options", "problem"),
    [
        ("tiny-flux", {"height": 72}, "height 72 does not fit tiny-flux: expected a multiple of 16, such as 64 or 80"),
        ("sd-3.5-medium", {"width": 8}, "width 8 does not fit sd-3.5-medium: expected a multiple of 16, such as 16"),
        ("z-image-turbo", {"width": 1000}, "expected a multiple of 16, such as 992 or 1008"),
        ("sd-3.5-medium", {"height": 8192}, "height 8192 does not fit sd-3.5-medium: expected at most 6144"),
        ("sd-1.5", {"scheduler": "flow-euler"}, f"scheduler: flow-euler does not fit sd-1.5: {NOISE}"),
        ("flux.1-dev", {"scheduler": "euler"}, "scheduler: euler does not fit flux.1-dev: expected flow-euler"),
        ("sdxl", {"scheduler": "lcm", "timestep_spacing": "trailing"}, "does not apply to scheduler: lcm; remove it"),
        ("tiny-sd3", {"timestep_spacing": "leading"}, "does not apply to scheduler: flow-euler; remove it"),
        ("sd-1.5", {"scheduler": "lcm", "steps": 51}, "steps 51 does not fit scheduler: lcm: expected at most 50"),
        ("sd-1.5", {"scheduler": "lcm", "workload": "precision"}, "sweep_max 100 does not fit scheduler: lcm"),
        ("tiny-flux", {"attention": "eager"}, f"attention: eager {TO_UNETS}"),
        ("tiny-flux", {"attention": "sliced"}, f"attention: sliced {TO_UNETS}"),
        ("tiny-flux", {"attention": "xformers"}, f"attention: xformers {TO_UNETS}"),
        ("tiny-z-image", {"channels_last": True}, "'channels_last' applies to UNets only, and tiny-z-image has a"),
        ("sdxl", {"max_sequence_length": 64}, "does not apply to sdxl, whose prompts always have 77 tokens; remove it"),
        ("flux.1-dev", {"max_sequence_length": 513}, "does not fit flux.1-dev: expected at most 512"),
        (
            "tiny-sd3",
            {"max_sequence_length": 600},
            "does not fit tiny-sd3: expected at most 512",
        ),
        ("z-image-turbo", {"max_sequence_length": 1505}, "does not fit z-image-turbo: expected at most 1504"),
        ("flux.1-schnell", {"guidance_scale": 3.5}, "has no effect on flux.1-schnell, which was distilled without it"),
        ("flux.1-dev", {"negative_prompt": "blurry"}, "has no effect on flux.1-dev, which takes no second prompt"),
        ("sdxl-turbo", {"negative_prompt": "blurry"}, "has no effect on sdxl-turbo at guidance_scale 0; remove it, or"),
        ("sd-1.5", {"negative_prompt": "blurry", "guidance_scale": 1.0}, "at guidance_scale 1; remove it, or raise"),
    ],
    ids=str,
)
def test_option_that_a_pipeline_does_not_know_is_refused(pipeline: str, options: dict[str, Any], problem: str) -> None:
    with pytest.raises(UserError) as refused:
        refuse_options(make(pipeline, **options), load_shipped(pipeline))
    assert problem in str(refused.value)
    assert "\n" not in str(refused.value)


def test_configs_that_do_not_fit_each_other_are_refused() -> None:
    config = override(load_shipped("tiny-flux"), {"vae.latent_channels": 0})
    with pytest.raises(UserError, match=r"the configs of tiny-flux do not fit each other .*; correct them"):
        refuse_options(make("tiny-flux"), config)


@pytest.mark.parametrize(
    ("pipeline", "options"),
    [
        ("sdxl", {"negative_prompt": "blurry"}),
        ("z-image-turbo", {"negative_prompt": "blurry", "guidance_scale": 1.0}),
        ("flux.1-dev", {"guidance_scale": 1.0, "max_sequence_length": 512, "attention": "sdpa-flash"}),
        ("sd-3.5-medium", {"vae_slicing": True, "vae_tiling": True, "autocast": "bf16", "height": 1008}),
        ("sd-2.1", {"scheduler": "lcm", "steps": 50, "height": 776}),
        ("sdxl-turbo", {"scheduler": "unipc", "timestep_spacing": "trailing", "attention": "sliced"}),
    ],
    ids=str,
)
def test_option_that_a_pipeline_knows_is_not_refused(pipeline: str, options: dict[str, Any]) -> None:
    refuse_options(make(pipeline, **options), load_shipped(pipeline))


def test_heads_are_those_of_the_networks() -> None:
    blocks = {name: attending_blocks(load_shipped(name)) for name in ("sd-1.4", "sdxl", "flux.1-dev", "z-image-turbo")}
    heads = {name: [(block.heads, block.head_channels, block.halvings) for block in blocks[name]] for name in blocks}
    assert heads == {
        "sd-1.4": [(8, 40, 0), (8, 80, 1), (8, 160, 2), (8, 160, 3)],
        "sdxl": [(10, 64, 1), (20, 64, 2), (20, 64, 2)],
        "flux.1-dev": [(24, 128, 0)],
        "z-image-turbo": [(30, 128, 0)],
    }


def test_scheduler_that_is_not_known_is_asked_for_and_can_be_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SDBENCH_CACHE", str(tmp_path))
    config = load_shipped("tiny-sd")
    deis = config.scheduler.model_copy(update={"class_name": "DEISMultistepScheduler"})
    name = register(config.model_copy(update={"scheduler": deis}), None, {}, tmp_path).config.name
    loaded = load_manifest_text("schema: sdbench/manifest/v1\ntitle: T\nexperiments: [{id: a, title: A}]\n", "m.yaml")
    with pytest.raises(ManifestError, match=r"comes with DEISMultistepScheduler, .*; set scheduler to one of pndm"):
        expand(loaded, parse_settings([f"pipeline={name}"]))
    (planned,) = expand(loaded, parse_settings([f"pipeline={name}", "scheduler=euler"]))
    assert planned.experiment.scheduler == "euler"


def test_change_that_changes_nothing_is_no_other_experiment() -> None:
    text = "schema: sdbench/manifest/v1\ntitle: T\nexperiments: [{id: a, title: A}]\n"
    loaded = load_manifest_text(text, "m.yaml")
    depth = load_shipped("tiny-flux").denoiser["num_layers"]
    settings = ["pipeline=tiny-flux", f"config.transformer.num_layers={depth}"]
    (unchanged,), (plain,) = (expand(loaded, parse_settings(items)) for items in (settings, settings[:1]))
    assert unchanged.experiment_id == plain.experiment_id


@pytest.mark.parametrize(
    ("config", "problem"),
    [
        ({"transformer.num_layers": -1}, "config 'transformer.num_layers' is -1: expected a number from 0"),
        ({"transformer.in_channels": 32}, "takes 32 channels, and its vae makes latents of 16"),
        ({"vae.latent_channels": 8}, "takes 64 channels, and its vae makes latents of 8"),
    ],
)
def test_changes_that_make_no_pipeline_are_refused(config: dict[str, int], problem: str) -> None:
    experiment = make("tiny-flux", config=config)
    with pytest.raises(UserError, match=problem):
        refuse_options(experiment, override(load_shipped("tiny-flux"), experiment.config))
