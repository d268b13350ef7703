import json
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import torch

import sdbench.models
from sdbench.schema.document import parse_yaml

FOLDER = Path(sdbench.models.__file__).parent
PIPELINES = FOLDER / "pipelines"
NAMES = sorted(path.name for path in PIPELINES.iterdir() if path.is_dir())
SIBLINGS = {
    "tiny-sd": "sd-1.4",
    "tiny-sdxl": "sdxl",
    "tiny-sd3": "sd-3.5-medium",
    "tiny-flux": "flux.1-dev",
    "tiny-z-image": "z-image-turbo",
}
# Published counts, where a source states them: of SD 1.x's networks. "Ours" is our own count of the public config; the
# others are a second count of it. A shared tensor counts once; SD3's position table is a buffer.
CLIP_L, T5_XXL, VAE_4, VAE_16 = 123_060_480, 4_762_310_656, 83_653_863, 83_819_683
SD1 = {"unet": 859_520_964, "vae": VAE_4, "text_encoder": CLIP_L}
SDXL = {"unet": 2_567_463_684, "vae": VAE_4, "text_encoder": CLIP_L, "text_encoder_2": 694_659_840}
FLUX = {"vae": VAE_16, "text_encoder": CLIP_L, "text_encoder_2": T5_XXL}
PUBLISHED_COUNTS = {
    "sd-1.4": SD1,
    "sd-1.5": SD1,
    "sd-2.1": {"unet": 865_910_724, "vae": VAE_4, "text_encoder": 340_387_840},  # UNet and encoder: ours
    "sdxl": SDXL,
    "sdxl-turbo": SDXL,
    "sd-3.5-medium": {
        "transformer": 2_243_171_520,
        "vae": VAE_16,
        "text_encoder": 123_650_304,  # ours
        "text_encoder_2": 694_659_840,
        "text_encoder_3": T5_XXL,
    },
    "flux.1-dev": FLUX | {"transformer": 11_901_408_320},
    "flux.1-schnell": FLUX | {"transformer": 11_891_178_560},  # ours
    # Transformer and encoder: ours.
    "z-image-turbo": {"transformer": 6_154_908_736, "vae": VAE_16, "text_encoder": 4_022_468_096},
}
TINY_PARAMETERS_MAX = 3_500_000


def read(*parts: str) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(PIPELINES.joinpath(*parts).read_text())
    return content


def classes_of(name: str) -> dict[str, list[str]]:
    return {part: value for part, value in read(name, "model_index.json").items() if isinstance(value, list)}


def configs_of(name: str) -> dict[str, dict[str, Any]]:
    return {path.parent.name: read(name, path.parent.name, path.name) for path in PIPELINES.glob(f"{name}/*/*.json")}


def build_on_meta(name: str, component: str) -> Any:
    library, class_name = classes_of(name)[component]
    network_class = getattr(import_module(library), class_name)
    config = {key: value for key, value in read(name, component, "config.json").items() if key != "_class_name"}
    with torch.device("meta"):
        if library == "transformers":
            return network_class(network_class.config_class(**config))
        return network_class(**config)


def parameter_counts(name: str) -> dict[str, int]:
    components = [path.parent.name for path in PIPELINES.glob(f"{name}/*/config.json")]
    return {part: sum(tensor.numel() for tensor in build_on_meta(name, part).parameters()) for part in components}


@pytest.mark.parametrize("name", PUBLISHED_COUNTS)
def test_the_networks_have_the_published_parameter_counts(name: str) -> None:
    assert parameter_counts(name) == PUBLISHED_COUNTS[name]


def test_every_folder_is_real_or_tiny_and_in_the_table() -> None:
    table = parse_yaml((PIPELINES / "pipelines.yaml").read_text(), "pipelines.yaml").value
    assert set(NAMES) == set(table) == set(PUBLISHED_COUNTS) | set(SIBLINGS)
    keys = {"title", "source", "size", "steps", "guidance"}
    assert all(keys <= row.keys() <= keys | {"max_sequence_length"} for row in table.values())
    for tiny, real in SIBLINGS.items():
        assert (table[tiny]["source"], table[tiny]["guidance"]) == (None, table[real]["guidance"])


@pytest.mark.parametrize("name", NAMES)
def test_the_index_names_the_class_of_every_config(name: str) -> None:
    classes, configs = classes_of(name), configs_of(name)
    assert set(classes) == set(configs)
    for part, (library, class_name) in classes.items():
        assert hasattr(import_module(library), class_name)
        stated = configs[part].get("tokenizer_class" if part.startswith("tokenizer") else "_class_name")
        assert stated == (None if part.startswith("text_encoder") else class_name)


@pytest.mark.parametrize(("tiny", "real"), SIBLINGS.items())
def test_a_tiny_pipeline_differs_from_the_real_one_in_numbers_only(tiny: str, real: str) -> None:
    assert read(tiny, "model_index.json") == read(real, "model_index.json")
    tiny_configs, real_configs = configs_of(tiny), configs_of(real)
    for part, config in tiny_configs.items():
        assert config.keys() == real_configs[part].keys()
        if part.startswith(("scheduler", "tokenizer")):
            assert config == real_configs[part]


@pytest.mark.parametrize("tiny", SIBLINGS)
def test_a_tiny_pipeline_is_small_but_for_its_vocabularies(tiny: str) -> None:
    configs = configs_of(tiny).values()
    vocabularies = sum(
        config["vocab_size"] * config.get("d_model", config.get("hidden_size"))
        for config in configs
        if "vocab_size" in config
    )
    assert sum(parameter_counts(tiny).values()) - vocabularies < TINY_PARAMETERS_MAX


@pytest.mark.parametrize("name", NAMES)
def test_the_text_encoders_feed_the_denoiser(name: str) -> None:
    configs = configs_of(name)
    denoiser = configs.get("unet") or configs["transformer"]
    texts = [configs[part] for part in sorted(configs) if part.startswith("text_encoder")]
    widths = [int(text.get("d_model") or text["hidden_size"]) for text in texts]
    match read(name, "model_index.json")["_class_name"]:
        case "StableDiffusionPipeline" | "StableDiffusionXLPipeline":
            assert denoiser["cross_attention_dim"] == sum(widths)
        case "StableDiffusion3Pipeline":
            # The two CLIPs' states, side by side, are padded to the width of T5's.
            assert denoiser["joint_attention_dim"] == widths[2] >= widths[0] + widths[1]
            assert denoiser["pooled_projection_dim"] == texts[0]["projection_dim"] + texts[1]["projection_dim"]
        case "FluxPipeline":
            assert (denoiser["pooled_projection_dim"], denoiser["joint_attention_dim"]) == tuple(widths)
            assert sum(denoiser["axes_dims_rope"]) == denoiser["attention_head_dim"]
        case "ZImagePipeline":
            assert [denoiser["cap_feat_dim"]] == widths
            assert sum(denoiser["axes_dims"]) == denoiser["dim"] // denoiser["n_heads"]
