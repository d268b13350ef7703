"""``sdbench pipelines``: what is known of each pipeline, without loading torch."""

import json
import shutil
import sys
from importlib.resources import files
from pathlib import Path

import pytest

from sdbench.cli.main import main
from sdbench.models.pipeline_folders import shipped_pipelines


@pytest.fixture(autouse=True)
def _without_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("torch", "diffusers", "transformers"):
        monkeypatch.setitem(sys.modules, name, None)


def test_every_shipped_pipeline_has_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["pipelines"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[1 : lines.index("")]] == list(shipped_pipelines())
    (sdxl,) = (line for line in lines if line.startswith("sdxl "))
    assert sdxl.split()[-8:] == ["50", "5", "12.9", "GiB", "6.46", "GiB", "687", "16,384"]


def test_one_pipeline_is_shown_by_component(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["pipelines", "flux.1-dev"]) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "made for 1024x1024, 50 steps, guidance 3.5, prompts padded to 512 tokens" in out
    assert "flow-euler; guidance is an input of the denoiser" in out
    assert "4,096 tokens of 16 x 16 pixels, 2 x 2 latents packed into each" in out
    assert "transformer FluxTransformer2DModel 11,901,408,320 4,096 74.4 num_layers 19, num_single_layers 38" in out


def test_json_has_the_same_in_base_units(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["pipelines", "sdxl", "--json"]) == 0
    known = json.loads(capsys.readouterr().out)
    assert known["source"] == "stabilityai/stable-diffusion-xl-base-1.0"
    assert known["weights_bytes"] == {"fp32": 4 * 3_468_837_867, "fp16": 2 * 3_468_837_867, "bf16": 2 * 3_468_837_867}
    assert known["parameters"] == sum(part["parameters"] for part in known["components"].values())
    # One text is encoded: this pipeline puts zeros for an empty negative prompt.
    counts = {"text_encoder": 1, "text_encoder_2": 1, "unet": 2 * 50, "vae": 1}
    assert known["flop_per_image"] == pytest.approx(
        sum(count * known["components"][name]["flop_per_call"] for name, count in counts.items())
    )


def test_folder_of_a_pipeline_is_shown_without_its_path(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copytree(str(files("sdbench.models").joinpath("pipelines", "tiny-sd")), tmp_path / "mine")
    assert main(["pipelines", str(tmp_path / "mine")]) == 0
    out = capsys.readouterr().out
    assert out.startswith("mine: mine, StableDiffusionPipeline\n")
    assert "3,735,819 parameters" in out
    assert str(tmp_path) not in out


def test_path_where_nothing_is_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["pipelines", "./sdxxl"]) == 2
    assert "there is no folder or file sdxxl; check the path" in capsys.readouterr().err


def test_unknown_pipeline_is_refused_with_those_known(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["pipelines", "sdxxl"]) == 2
    assert "unknown pipeline 'sdxxl'; choose one of: sd-1.4," in capsys.readouterr().err
