import shutil
from pathlib import Path

import pytest

import sdbench.models
from sdbench.cli.main import main

FOLDER = Path(sdbench.models.__file__).parent / "pipelines" / "tiny-sd"
WEIGHTS = (
    "text_encoder/model.safetensors",
    "unet/diffusion_pytorch_model.safetensors",
    "vae/diffusion_pytorch_model.safetensors",
)
SMOKE = Path(__file__).resolve().parents[2] / "manifests" / "smoke.yaml"
COMMIT = "a" * 40
PINNED = ["--weights", "pretrained", "--set", "hub_id=example/model", "--set", f"revision={COMMIT}"]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SDBENCH_CACHE", str(tmp_path))
    # Nothing here may ask a network.
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    return tmp_path


def test_synthetic_weights_need_no_fetching(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fetch", str(SMOKE)]) == 0
    assert "nothing to fetch" in capsys.readouterr().out


def test_check_says_what_is_missing_and_fetches_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fetch", "--check", str(SMOKE), *PINNED]) == 1
    assert capsys.readouterr().out == f"missing example/model at {COMMIT}\n"


def test_cached_weights_are_not_missing(cache: Path) -> None:
    folder = cache / "models--example--model" / "snapshots" / COMMIT
    shutil.copytree(FOLDER, folder)
    for name in (*WEIGHTS, "tokenizer/vocab.json", "tokenizer/merges.txt"):
        (folder / name).write_text("{}")
    assert main(["fetch", "--check", str(SMOKE), *PINNED]) == 0


def test_branch_is_no_pin(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fetch", str(SMOKE), "--weights", "pretrained", "--set", "hub_id=a/b", "--set", "revision=main"]) == 2
    assert "revision=main" in capsys.readouterr().err
