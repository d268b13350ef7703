"""Pipelines that a command line names by a path or a repository."""

import json
import os
import shutil
from collections.abc import Callable, Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from sdbench.errors import EnvironmentProblem, SdbenchError, UserError, WeightsUnavailable
from sdbench.models.pipeline_folders import load_shipped, shipped_pipelines
from sdbench.models.user_pipelines import register
from sdbench.plan.make_plan import Plan, PlanRequest, expand_request, make_plan
from sdbench.plan.own_pipelines import refuse_own_pipeline
from sdbench.schema.record import PlannedExperiment
from sdbench.verification.consistency import check_identities
from tests.models.hub import HUB_ID, REVISION, Hub, serving
from tests.records import make_record

SHIPPED = Path(str(files("sdbench.models").joinpath("pipelines")))
CANARY = "canary-of-a-path"
MANIFEST = """\
schema: sdbench/manifest/v1
title: T
model: {pipeline: sd-1.4, weights: pretrained, hub_id: CompVis/stable-diffusion-v1-4, revision: REVISION}
defaults: {height: 64, width: 64}
experiments: [{id: a, title: A, matrix: {batch: [1, 2]}}]
""".replace("REVISION", REVISION)
WEIGHTS = {
    "text_encoder": "text_encoder/model.safetensors",
    "unet": "unet/diffusion_pytorch_model.safetensors",
    "vae": "vae/diffusion_pytorch_model.safetensors",
}


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SDBENCH_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    path = tmp_path / "m.yaml"
    path.write_text(MANIFEST)
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return the configs of a small pipeline, in a folder of a user."""
    folder = tmp_path / CANARY / "mine"
    shutil.copytree(SHIPPED / "tiny-sd", folder)
    return folder


def add_weights(folder: Path, names: dict[str, str] | None = None) -> None:
    for name in (names or WEIGHTS).values():
        save_file({"a": torch.ones(3)}, folder / name)
    (folder / "tokenizer/tokenizer.json").touch()


def expand(manifest: Path, *settings: str, weights: str | None = None) -> tuple[PlannedExperiment, ...]:
    return make_plan(PlanRequest(manifest, settings=settings, weights=weights, device="cpu")).planned


def options_of(manifest: Path, *settings: str, weights: str | None = None) -> set[tuple[Any, ...]]:
    planned = expand(manifest, *settings, weights=weights)
    return {
        (item.experiment.pipeline.partition("@")[0], item.experiment.weights, item.experiment.hub_id)
        for item in planned
    }


def refusal(manifest: Path, *settings: str, kind: type[SdbenchError] = UserError) -> str:
    with pytest.raises(kind) as caught:
        expand(manifest, *settings)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def change(path: Path, **keys: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **keys}))


def test_a_folder_of_configs_is_measured_with_synthetic_weights(manifest: Path, folder: Path) -> None:
    planned = expand(manifest, f"pipeline={folder}")
    assert {(item.experiment.pipeline.partition("@")[0], item.experiment.weights) for item in planned} == {
        ("mine", "synthetic")
    }
    assert [item.experiment.batch for item in planned] == [1, 2]


def test_a_folder_with_weights_is_measured_with_them_and_not_those_of_the_manifest(
    manifest: Path, folder: Path
) -> None:
    add_weights(folder)
    assert options_of(manifest, f"pipeline={folder}") == {("mine", "pretrained", None)}


@pytest.mark.parametrize("how", ["option", "setting"])
def test_the_weights_can_be_left_out(manifest: Path, folder: Path, how: str) -> None:
    bare = expand(manifest, f"pipeline={folder}")[0].experiment.pipeline
    add_weights(folder)
    settings = [f"pipeline={folder}"] + ["weights=synthetic"] * (how == "setting")
    planned = expand(manifest, *settings, weights="synthetic" if how == "option" else None)
    assert {(item.experiment.pipeline, item.experiment.weights) for item in planned} == {(bare, "synthetic")}


def test_the_plan_has_a_name_and_no_path(manifest: Path, folder: Path) -> None:
    add_weights(folder)
    plan = make_plan(PlanRequest(manifest, settings=(f"pipeline={folder}", "steps=3"), device="cpu"))
    (name,) = plan.pipelines
    assert plan.request.settings == (
        "steps=3", f"pipeline={name}", "weights=pretrained", "hub_id=null", "revision=null",
    )  # fmt: skip
    assert CANARY not in "".join(_texts(plan))
    assert plan.pipelines[name].config.networks == load_shipped("tiny-sd").networks


def _texts(plan: Plan) -> Iterator[str]:
    yield plan.request.model_dump_json()
    yield from (item.model_dump_json() for item in plan.planned)
    yield from (own.model_dump_json() for own in plan.pipelines.values())


def test_the_name_depends_on_configs_and_weights_and_not_on_the_place(
    manifest: Path, folder: Path, tmp_path: Path
) -> None:
    names = {expand(manifest, f"pipeline={folder}")[0].experiment.pipeline}
    add_weights(folder)
    names.add(expand(manifest, f"pipeline={folder}")[0].experiment.pipeline)
    elsewhere = shutil.move(folder, tmp_path / "other" / "mine")
    names.add(expand(manifest, f"pipeline={elsewhere}")[0].experiment.pipeline)
    assert len(names) == 2
    save_file({"a": torch.zeros(3)}, Path(elsewhere) / WEIGHTS["vae"])
    names.add(expand(manifest, f"pipeline={elsewhere}")[0].experiment.pipeline)
    assert len(names) == 3
    (Path(elsewhere) / "tokenizer/tokenizer.json").write_text("{}")
    names.add(expand(manifest, f"pipeline={elsewhere}")[0].experiment.pipeline)
    assert len(names) == 4


def test_weights_that_did_not_change_are_hashed_once(
    manifest: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_weights(folder)
    first = expand(manifest, f"pipeline={folder}")
    monkeypatch.setattr("sdbench.models.user_pipelines.hashlib.file_digest", lambda *_: pytest.fail("read again"))
    assert expand(manifest, f"pipeline={folder}") == first


def test_settings_of_a_record_expand_without_the_folder(manifest: Path, folder: Path, cache: Path) -> None:
    plan = make_plan(PlanRequest(manifest, settings=(f"pipeline={folder}",), device="cpu"))
    shutil.rmtree(cache)
    with pytest.raises(UserError, match="is not known on this machine; set pipeline to its folder again"):
        expand_request(PlanRequest(manifest, settings=plan.request.settings))
    from sdbench.plan.expand import expand as expand_manifest
    from sdbench.plan.expand import parse_settings

    again = expand_manifest(plan.loaded, parse_settings(plan.request.settings, plan.pipelines))
    assert again == plan.planned


@pytest.mark.parametrize("changed", ["config", "weights", "name"])
def test_a_record_whose_pipeline_is_not_the_one_of_its_name_is_not_consistent(
    manifest: Path, folder: Path, changed: str
) -> None:
    plan = make_plan(PlanRequest(manifest, settings=(f"pipeline={folder}",), device="cpu"))
    ((name, own),) = plan.pipelines.items()
    record = make_record()
    assert not list(check_identities(record.model_copy(update={"pipelines": {name: own}})))
    flags = own.config.model_copy(update={"flags": {"other": True}})
    wrong = {
        "config": {name: own.model_copy(update={"config": flags})},
        "weights": {name: own.model_copy(update={"weights_sha256": "0" * 64})},
        "name": {f"other@{own.digest}": own},
    }[changed]
    (problem,) = check_identities(record.model_copy(update={"pipelines": wrong}))
    assert "has configs or weights of another name" in problem


def add_weights_without_vocabulary(folder: Path) -> None:
    add_weights(folder)
    (folder / "tokenizer/tokenizer.json").unlink()


def cut_weights(folder: Path) -> None:
    add_weights(folder)
    os.truncate(folder / WEIGHTS["vae"], 70)


BROKEN: dict[str, tuple[Callable[[Path], Any], str]] = {
    "no index": (lambda folder: (folder / "model_index.json").unlink(), "mine has no model_index.json"),
    "class that is not known": (
        lambda folder: change(folder / "model_index.json", _class_name="NoSuchPipeline"),
        "the class 'NoSuchPipeline' is not a text-to-image pipeline that sdbench can measure",
    ),
    "class that is a list": (
        lambda folder: change(folder / "model_index.json", _class_name=[]),
        "the class [] is not a text-to-image pipeline that sdbench can measure",
    ),
    "size beyond all": (
        lambda folder: change(folder / "unet/config.json", sample_size=10**30),
        "the configs of unet and vae do not describe a pipeline (ValidationError)",
    ),
    "channels that are text": (
        lambda folder: change(folder / "vae/config.json", latent_channels="x"),
        "the configs of unet and vae do not describe a pipeline (ValueError)",
    ),
    "other task": (
        lambda folder: change(folder / "model_index.json", _class_name="StableDiffusionImg2ImgPipeline"),
        "the class 'StableDiffusionImg2ImgPipeline' is not a text-to-image pipeline",
    ),
    "config of another class": (
        lambda folder: change(folder / "unet/config.json", _class_name="UNet2DModel"),
        "unet/config.json is of UNet2DModel, and model_index.json says UNet2DConditionModel",
    ),
    "unknown network": (
        lambda folder: change(folder / "model_index.json", unet=["diffusers", "MotionAdapter"]),
        "the unet has the class diffusers.MotionAdapter, which sdbench does not know",
    ),
    "text encoder that is null": (
        lambda folder: change(folder / "model_index.json", text_encoder=[None, None]),
        "mine: model_index.json must name a scheduler, a text_encoder",
    ),
    "tokenizer that is null": (
        lambda folder: change(folder / "model_index.json", tokenizer=[None, None]),
        "mine: model_index.json names no tokenizer; StableDiffusionPipeline needs them",
    ),
    "text encoder of another class": (
        lambda folder: change(folder / "text_encoder/config.json", architectures=["BertModel"]),
        "text_encoder/config.json is of BertModel, and model_index.json says CLIPTextModel; correct one",
    ),
    "text encoder of another model": (
        lambda folder: change(folder / "text_encoder/config.json", model_type="bert"),
        "text_encoder/config.json is of bert, and model_index.json says CLIPTextModel; correct one",
    ),
    "text encoder without its positions": (
        lambda folder: change(folder / "text_encoder/config.json", max_position_embeddings=None),
        "mine: text_encoder/config.json has no max_position_embeddings; take the folder from a release of the model",
    ),
    "text encoder that cannot be built": (
        lambda folder: change(folder / "text_encoder/config.json", num_attention_heads=5),
        "text_encoder/config.json: CLIPTextModel cannot be built from its config (",
    ),
    "denoiser that does not run": (
        lambda folder: change(folder / "unet/config.json", class_embed_type="timestep"),
        "cannot build a working network from unet/config.json (ValueError: ",
    ),
    "damaged config": (
        lambda folder: (folder / "vae/config.json").write_text("{"),
        "vae/config.json cannot be read (JSONDecodeError); copy it again",
    ),
    "pickles only": (
        lambda folder: (folder / "unet/diffusion_pytorch_model.bin").write_bytes(b"pickle"),
        "only pickled weights (unet/diffusion_pytorch_model.bin), which can run code when loaded",
    ),
    "weights of two networks": (
        lambda folder: add_weights(folder, {"unet": WEIGHTS["unet"]}),
        "mine has no text_encoder/model.safetensors, vae/diffusion_pytorch_model.safetensors; copy what is missing",
    ),
    "no vocabulary": (
        add_weights_without_vocabulary,
        "mine has no tokenizer/tokenizer.json; copy what is missing, or set weights=synthetic",
    ),
    "cut weights": (
        cut_weights,
        "vae/diffusion_pytorch_model.safetensors cannot be loaded: it is truncated",
    ),
}


@pytest.mark.parametrize(("breaks", "problem"), BROKEN.values(), ids=BROKEN)
def test_a_folder_that_cannot_be_measured_is_refused(
    manifest: Path, folder: Path, breaks: Callable[[Path], Any], problem: str
) -> None:
    breaks(folder)
    assert problem in refusal(manifest, f"pipeline={folder}")


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("none/mine", "there is no folder or file "),
        ("model.ckpt", "model.ckpt is not a file of safetensors; name a folder"),
        ("pipe.safetensors", "pipe.safetensors is not a file of safetensors; name a folder"),
        ("empty.safetensors", "empty.safetensors cannot be loaded: it is empty"),
    ],
)
def test_a_path_without_a_pipeline_is_refused(manifest: Path, tmp_path: Path, name: str, problem: str) -> None:
    (tmp_path / "model.ckpt").write_bytes(b"pickle")
    (tmp_path / "empty.safetensors").touch()
    os.mkfifo(tmp_path / "pipe.safetensors")
    assert problem in refusal(manifest, f"pipeline={tmp_path / name}")


def test_a_folder_that_may_not_be_read_is_refused(
    manifest: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: Path) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "iterdir", refuse)
    assert "cannot be read: Permission denied; check the path" in refusal(manifest, f"pipeline={folder}")


def test_weights_from_two_places_are_refused(manifest: Path, folder: Path) -> None:
    add_weights(folder)
    message = refusal(manifest, f"pipeline={folder}", f"hub_id={HUB_ID}")
    assert message == f"hub_id={HUB_ID} and pipeline=mine both bring weights; remove one"


def test_pretrained_weights_of_a_folder_without_any_are_refused(manifest: Path, folder: Path) -> None:
    message = refusal(manifest, f"pipeline={folder}", "weights=pretrained")
    assert message == "mine has no weights; set weights=synthetic, or hub_id and revision"


def test_an_unknown_name_is_answered_with_the_nearest(manifest: Path) -> None:
    assert "pipeline is \"sd-1.6\": unknown pipeline; nearest: 'sd-1.5'" in refusal(manifest, "pipeline=sd-1.6")


@pytest.mark.parametrize("value", ["/a/mine", "./mine", "mine@0123456789ab"])
def test_containers_and_fleets_refuse_what_only_this_machine_has(value: str) -> None:
    name = Path(value).name
    with pytest.raises(UserError, match=f"pipeline={name} is of this machine, and a container does not have its files"):
        refuse_own_pipeline(["steps=3", f"pipeline={value}"], "a container")
    refuse_own_pipeline(["pipeline=sd-1.4"], "a container")


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    configs = {path.relative_to(SHIPPED / "tiny-sd").as_posix(): path for path in (SHIPPED / "tiny-sd").rglob("*.json")}
    with serving(Hub(files={name: path.read_bytes() for name, path in configs.items()})) as running:
        monkeypatch.setenv("HF_ENDPOINT", running.endpoint)
        for variable in ("HF_TOKEN", "ACCESS_TOKEN"):
            monkeypatch.delenv(variable, raising=False)
        yield running


PINNED = (f"hub_id={HUB_ID}", f"revision={REVISION}")


@pytest.mark.parametrize("more", [(), ("pipeline=from-hub",)])
def test_the_configs_of_a_repository_decide_which_pipeline_it_is(
    manifest: Path, hub: Hub, more: tuple[str, ...]
) -> None:
    assert options_of(manifest, *PINNED, *more) == {("tiny", "pretrained", HUB_ID)}
    assert not [item for item in hub.requests if item.path.endswith(".safetensors")]


def test_a_repository_with_the_networks_of_the_manifests_pipeline_is_that_one(manifest: Path, hub: Hub) -> None:
    manifest.write_text(MANIFEST.replace("sd-1.4", "tiny-sd"))
    assert options_of(manifest, *PINNED) == {("tiny-sd", "pretrained", HUB_ID)}


def test_the_repository_of_a_shipped_pipeline_is_that_one(
    manifest: Path, hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = shipped_pipelines()
    released = table | {"tiny-sd": table["tiny-sd"].model_copy(update={"source": HUB_ID})}
    monkeypatch.setattr("sdbench.plan.own_pipelines.shipped_pipelines", lambda: released)
    assert options_of(manifest, *PINNED) == {("tiny-sd", "pretrained", HUB_ID)}


def test_a_repository_with_networks_of_its_own_gets_its_name(manifest: Path, hub: Hub) -> None:
    config = json.loads(hub.files["unet/config.json"]) | {"layers_per_block": 1}
    hub.files["unet/config.json"] = json.dumps(config).encode()
    assert options_of(manifest, *PINNED) == {("tiny", "pretrained", HUB_ID)}


def test_notes_and_the_size_of_training_do_not_make_another_pipeline(manifest: Path, hub: Hub) -> None:
    manifest.write_text(MANIFEST.replace("sd-1.4", "tiny-sd"))
    config = json.loads(hub.files["vae/config.json"]) | {"sample_size": 256, "_name_or_path": "/home/author"}
    hub.files["vae/config.json"] = json.dumps(config).encode()
    assert options_of(manifest, *PINNED) == {("tiny-sd", "pretrained", HUB_ID)}


def test_a_pipeline_that_is_set_next_to_the_repository_is_kept(manifest: Path, hub: Hub) -> None:
    assert options_of(manifest, *PINNED, "pipeline=sd-1.5") == {("sd-1.5", "pretrained", HUB_ID)}
    assert hub.requests == []


def test_the_hub_is_not_asked_where_only_the_pin_counts(manifest: Path, hub: Hub) -> None:
    planned = expand_request(PlanRequest(manifest, settings=(*PINNED, "pipeline=from-hub")))
    assert {item.experiment.hub_id for item in planned} == {HUB_ID}
    assert hub.requests == []


def test_a_branch_is_refused_before_anything_is_asked(manifest: Path, hub: Hub) -> None:
    message = refusal(manifest, f"hub_id={HUB_ID}", "revision=main")
    assert (
        message == "revision is 'main': expected a commit hash, all 40 hex digits in lower case; branches and tags move"
    )
    assert hub.requests == []


@pytest.mark.parametrize("settings", [("pipeline=from-hub",), (f"hub_id={HUB_ID}",)])
def test_a_repository_without_a_revision_is_refused(manifest: Path, settings: tuple[str, ...]) -> None:
    manifest.write_text(MANIFEST.replace(f", hub_id: CompVis/stable-diffusion-v1-4, revision: {REVISION}", ""))
    assert refusal(manifest, *settings) == "pipeline=from-hub needs hub_id and revision (a commit hash); set both"


def test_a_repository_that_is_gone_is_refused(manifest: Path, hub: Hub) -> None:
    message = refusal(manifest, "hub_id=org/gone", f"revision={REVISION}", kind=WeightsUnavailable)
    assert "answered 404 when asked for org/gone; check model.hub_id" in message


def test_cache_that_cannot_be_written_is_named_with_its_variable(tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("")
    with pytest.raises(EnvironmentProblem, match="set SDBENCH_CACHE to a folder that can be written"):
        register(load_shipped("tiny-sd"), None, {}, tmp_path / "cache")


@pytest.mark.parametrize(
    ("pipeline", "message"),
    [
        ("stabilityai/sdxl-turbo", "there is no folder or file .*, or measure a repository with hub_id=stabilityai/"),
        ("/", "/ has no model_index.json"),
        ("a" * 300, "expected a name that sdbench pipelines lists"),
        ("./" + "a" * 5000, r"pipeline=a{80} cannot be read: File name too long"),
    ],
    ids=["repository", "root", "long name", "long path"],
)
def test_pipeline_that_is_no_path_gets_one_line(tmp_path: Path, pipeline: str, message: str) -> None:
    manifest = tmp_path / "m.yaml"
    manifest.write_text("schema: sdbench/manifest/v1\ntitle: T\nexperiments: [{id: a, title: A}]\n")
    with pytest.raises(UserError, match=message) as caught:
        make_plan(PlanRequest(manifest, settings=(f"pipeline={pipeline}",), device="cpu"))
    assert len(str(caught.value)) < 600
