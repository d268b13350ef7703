"""Every option that a pipeline knows changes what runs: the picture, or what a check sees."""

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sdbench.backends import pytorch
from sdbench.models.pipeline_folders import load_shipped
from sdbench.plan.families import native_options, refuse_options
from sdbench.schema.experiment import Experiment
from sdbench.worker.clock import MonotonicClock

# What torch and diffusers say of autocast in FLUX, and of the upcast in SDXL's own pipeline.
pytestmark = [
    pytest.mark.filterwarnings("ignore:Mismatch dtype between input and weight:UserWarning"),
    pytest.mark.filterwarnings("ignore:`upcast_vae` is deprecated:FutureWarning"),
]
TINY = ("tiny-sd", "tiny-sdxl", "tiny-sd3", "tiny-flux", "tiny-z-image")


@pytest.fixture(scope="module")
def cache_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


def open_pipeline(pipeline: str, cache_path: Path, **options: Any) -> pytorch.PytorchBackend:
    config = load_shipped(pipeline)
    small = {"pipeline": pipeline, "steps": 2, "height": 64, "width": 64}
    experiment = Experiment.model_validate(native_options(config) | small | options)
    refuse_options(experiment, config)
    return pytorch.open_backend(experiment, "cpu", cache_path, 1)


@cache
def picture_of_defaults(pipeline: str, cache_path: Path) -> bytes:
    return bytes(open_pipeline(pipeline, cache_path).generate()[0].tobytes())


@pytest.mark.parametrize(
    ("pipeline", "options"),
    [
        *((name, {"guidance_scale": 9.0}) for name in TINY),
        *((name, {"prompt": "a red house"}) for name in TINY),
        *((name, {"max_sequence_length": 32}) for name in ("tiny-sd3", "tiny-flux", "tiny-z-image")),
        *((name, {"negative_prompt": "blurry"}) for name in ("tiny-sd", "tiny-sdxl", "tiny-sd3")),
        ("tiny-z-image", {"negative_prompt": "blurry", "guidance_scale": 2.0}),
        *(("tiny-sdxl", {"scheduler": name}) for name in ("pndm", "ddim", "dpm++", "euler-ancestral", "unipc", "lcm")),
        *(("tiny-sdxl", {"timestep_spacing": name}) for name in ("trailing", "linspace")),
        *((name, {"autocast": "bf16"}) for name in TINY),
    ],
    ids=str,
)
def test_option_changes_the_picture(pipeline: str, options: dict[str, Any], cache_path: Path) -> None:
    observation = open_pipeline(pipeline, cache_path, **options).observe(MonotonicClock())
    assert observation.finite == (True,)
    assert observation.images[0].tobytes() != picture_of_defaults(pipeline, cache_path)


@pytest.mark.parametrize(
    ("options", "name", "observed"),
    [
        ({"attention": "sdpa-math"}, "attention kernels allowed", "MATH"),
        ({"vae_slicing": True, "batch": 2}, "VAE slices", "2"),
        ({"vae_tiling": True, "height": 192}, "VAE tiling", "cut"),
    ],
    ids=str,
)
@pytest.mark.parametrize("pipeline", TINY)
def test_option_is_seen_by_a_check(
    pipeline: str, options: dict[str, Any], name: str, observed: str, cache_path: Path
) -> None:
    checks = open_pipeline(pipeline, cache_path, **options).observe(MonotonicClock()).checks
    assert {check.name: check.observed for check in checks}[name] == observed


@pytest.mark.parametrize("options", [{}, {"precision": "fp16"}, {"autocast": "bf16"}], ids=str)
@pytest.mark.parametrize("pipeline", TINY)
def test_last_picture_of_a_trajectory_is_that_of_the_pipeline(
    pipeline: str, options: dict[str, Any], cache_path: Path
) -> None:
    backend = open_pipeline(pipeline, cache_path, **options)
    own = np.asarray(backend.generate()[0]).astype(int)
    for image in (backend.decode_run(2, every_call=True)[-1], *backend.decode_run(2, every_call=False)):
        # The pipeline scales pixels in its own precision.
        assert np.abs((image * 255).round().astype(int) - own).max() <= (1 if options else 0)
