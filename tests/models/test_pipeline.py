import logging
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch

from sdbench.models.libraries import import_libraries, messages_silenced
from sdbench.models.pipeline import BuiltPipeline, build_pipeline
from sdbench.schema.experiment import Experiment, Precision

NO_CACHE = Path("/nonexistent")


@cache
def built(precision: Precision) -> BuiltPipeline:
    return build_pipeline(Experiment(pipeline="tiny-sd", precision=precision), "cpu", NO_CACHE)


def images_of(pipeline: BuiltPipeline, side_px: int, batch: int, seed: int = 42) -> np.ndarray:
    # Drawn in fp32 as sdbench does: torch 2.10 draws other noise from the same seed in fp16 and bf16.
    noise = torch.randn((batch, 4, side_px // 8, side_px // 8), generator=torch.Generator("cpu").manual_seed(seed))
    output = pipeline.pipeline(
        "a photo of an astronaut riding a horse on mars",
        height=side_px,
        width=side_px,
        num_inference_steps=1,
        num_images_per_prompt=batch,
        latents=noise.to(pipeline.pipeline.unet.dtype),
        output_type="np",
    )
    images: np.ndarray = output.images
    return images


@pytest.mark.parametrize("precision", ["fp32", "fp16", "bf16"])
@pytest.mark.parametrize(("side_px", "batch"), [(64, 4), (128, 1)])
def test_tiny_draws_finite_images_that_are_not_flat(precision: Precision, side_px: int, batch: int) -> None:
    images = images_of(built(precision), side_px, batch)
    assert images.shape == (batch, side_px, side_px, 3)
    assert np.isfinite(images).all()
    assert images.std() > 0.1


@pytest.mark.parametrize(
    ("precision", "dtype"), [("fp32", torch.float32), ("fp16", torch.float16), ("bf16", torch.bfloat16)]
)
def test_every_weight_has_the_precision_of_the_experiment(precision: Precision, dtype: torch.dtype) -> None:
    pipeline = built(precision).pipeline
    for network in (pipeline.unet, pipeline.vae, pipeline.text_encoder):
        assert {tensor.dtype for tensor in network.parameters()} == {dtype}
        assert not network.training


def test_the_precisions_differ_in_their_last_digits_and_agree_in_the_first() -> None:
    exact, rounded = images_of(built("fp32"), 64, 1), images_of(built("bf16"), 64, 1)
    assert not np.array_equal(exact, rounded)
    assert np.abs(exact - rounded).mean() < 0.1


def test_the_prompt_changes_the_image() -> None:
    pipeline = built("fp32").pipeline
    options = {"height": 64, "width": 64, "num_inference_steps": 2, "output_type": "np"}
    first, second = (
        pipeline(prompt, generator=torch.Generator("cpu").manual_seed(1), **options).images
        for prompt in ("a horse", "a photo of mars")
    )
    assert not np.array_equal(first, second)


def test_the_seed_decides_the_image() -> None:
    first, again, other = (images_of(built("fp32"), 64, 1, seed=seed) for seed in (42, 42, 43))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_the_pipeline_is_the_stock_one_with_the_extras_off() -> None:
    pipeline = built("fp32").pipeline
    assert type(pipeline).__name__ == "StableDiffusionPipeline"
    assert pipeline.safety_checker is None
    assert pipeline.progress_bar(total=1).disable


def test_the_parameter_count_is_that_of_all_networks() -> None:
    assert built("fp32").parameter_count == 1_106_212 + 1_028_935 + 1_600_672


# torch 2.13's tensors do not take NumPy 2's copy keyword; the array is copied, as it should be.
@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
@pytest.mark.parametrize("scheduler", ["ddim", "euler", "dpm++"])
def test_every_scheduler_draws_a_finite_image(scheduler: str) -> None:
    experiment = Experiment.model_validate({"pipeline": "tiny-sd", "scheduler": scheduler})
    images = images_of(build_pipeline(experiment, "cpu", NO_CACHE), 64, 1)
    assert np.isfinite(images).all()
    assert images.std() > 0.1


def test_building_writes_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    build_pipeline(Experiment(pipeline="tiny-sd", precision="fp16"), "cpu", NO_CACHE)
    assert capfd.readouterr() == ("", "")


def test_warnings_of_the_libraries_are_shown_again_after_the_import() -> None:
    import_libraries()
    logger = logging.getLogger("transformers")
    level = logger.level
    with messages_silenced():
        assert logger.level == logging.ERROR
    assert logger.level == level
    assert level <= logging.WARNING
