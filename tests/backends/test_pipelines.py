"""Every pipeline class on its tiny pipeline: what is requested runs, and is the same work in every batch."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from sdbench.backends import pytorch
from sdbench.backends.base import WrongExecution
from sdbench.backends.call_inputs import draw_noise
from sdbench.models.families import FAMILIES
from sdbench.models.pipeline_folders import load_shipped, shipped_pipelines
from sdbench.plan.families import native_options
from sdbench.schema.experiment import Experiment
from sdbench.worker.clock import MonotonicClock

TINY = [name for name in shipped_pipelines() if name.startswith("tiny-")]
# torch 2.13's tensors do not take NumPy 2's copy keyword; the array is copied, as it should be.
pytestmark = [
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),
    # The stock SDXL pipeline calls a method of its own that it deprecates.
    pytest.mark.filterwarnings("ignore:`upcast_vae` is deprecated:FutureWarning"),
]


def make_experiment(name: str, **options: Any) -> Experiment:
    size = {"height": 64, "width": 64, "steps": 2}
    return Experiment(**{"pipeline": name, **native_options(load_shipped(name)), **size, **options})


def open_backend(folder: Path, name: str, **options: Any) -> pytorch.PytorchBackend:
    return pytorch.open_backend(make_experiment(name, **options), "cpu", folder, 2)


def test_every_pipeline_class_has_a_tiny_pipeline() -> None:
    assert {load_shipped(name).class_name for name in TINY} == set(FAMILIES)


@pytest.mark.parametrize("name", TINY)
@pytest.mark.parametrize("precision", ["fp32", "fp16", "bf16"])
def test_observed_call_has_a_phase_for_every_network_and_makes_finite_images(
    tmp_path: Path, name: str, precision: str
) -> None:
    backend = open_backend(tmp_path, name, precision=precision, batch=2)
    observation = backend.observe(MonotonicClock())
    assert observation.finite == (True, True)
    assert all(low < high for image in observation.images for low, high in image.getextrema())
    phases_s = dict(observation.phases_s)
    total_s = phases_s.pop("total")
    assert list(phases_s) == [*backend.config.text_encoders, "vae_decode", "rest"]
    assert min(phases_s.values()) > 0
    assert sum(phases_s.values()) + sum(observation.denoise_steps_s) == pytest.approx(total_s)
    assert len(observation.denoise_steps_s) == backend.work.denoiser_calls == 2 + (name == "tiny-sd")


@pytest.mark.parametrize("name", TINY)
def test_image_of_a_seed_is_the_same_in_every_batch(tmp_path: Path, name: str) -> None:
    one, four, eight = (open_backend(tmp_path, name, batch=batch).generate() for batch in (1, 4, 8))
    later = open_backend(tmp_path, name, seed=45, batch=4).generate()
    assert len({image.tobytes() for image in eight}) == 8
    assert [image.tobytes() for image in (*four[:3], *later)] == [image.tobytes() for image in eight[:7]]
    # The matrix products of the time embedding have a row per image, and MKL sums fewer than four in another order.
    assert np.abs(np.asarray(one[0], np.int16) - np.asarray(four[0], np.int16)).max() <= 1


def test_flop_are_counted_before_loading_is_timed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from sdbench.models import work

    experiment = make_experiment("tiny-flux")
    pytorch.fetch(experiment, "cpu", tmp_path, lambda _stage: None)
    monkeypatch.setattr(work, "build_on_meta", None)
    assert pytorch.open_backend(experiment, "cpu", tmp_path, 2).work.flop_per_image


@pytest.mark.parametrize("name", TINY)
def test_second_call_makes_the_same_images_as_the_first(tmp_path: Path, name: str) -> None:
    backend = open_backend(tmp_path, name)
    assert backend.generate()[0].tobytes() == backend.generate()[0].tobytes()


@pytest.mark.parametrize("scheduler", ["lcm", "euler-ancestral"])
def test_noise_that_a_scheduler_adds_is_that_of_the_image(tmp_path: Path, scheduler: str) -> None:
    backend = open_backend(tmp_path, "tiny-sdxl", scheduler=scheduler, batch=4)
    first, second = backend.generate(), backend.generate()
    later = open_backend(tmp_path, "tiny-sdxl", scheduler=scheduler, seed=43, batch=4).generate()
    assert [image.tobytes() for image in first] == [image.tobytes() for image in second]
    assert [image.tobytes() for image in first[1:]] == [image.tobytes() for image in later[:3]]


@pytest.mark.parametrize("name", TINY)
def test_initial_noise_is_packed_as_the_pipeline_packs_its_own(tmp_path: Path, name: str) -> None:
    config = load_shipped(name)
    noise, _ = draw_noise(make_experiment(name, batch=2, seed=5), config)
    second, _ = draw_noise(make_experiment(name, seed=6), config)
    assert torch.equal(noise[1:], second)
    assert noise.dtype == torch.float32
    generator = torch.Generator("cpu").manual_seed(6)
    latents = torch.randn((1, config.latent_channels, 8, 8), generator=generator)
    if config.packing > 1:
        pipeline = open_backend(tmp_path, name).pipeline
        latents = pipeline._pack_latents(latents, 1, config.latent_channels, 8, 8)
    assert torch.equal(second, latents)


@pytest.mark.parametrize("name", TINY)
@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_decoded_run_ends_in_the_image_of_the_pipeline(tmp_path: Path, name: str, precision: str) -> None:
    backend = open_backend(tmp_path, name, precision=precision)
    every = backend.decode_run(2, every_call=True)
    (last,) = backend.decode_run(2, every_call=False)
    assert len(every) == backend.work.denoiser_calls
    assert np.array_equal(every[-1], last)
    difference = np.round(last * 255) - np.asarray(backend.generate()[0], np.float32)
    assert np.abs(difference).max() <= (0 if precision == "fp32" else 1)


@pytest.mark.parametrize(
    ("name", "guidance_scale", "batch"),
    [
        ("tiny-sd", 1.0, 1),
        ("tiny-sd", 1.01, 2),
        ("tiny-sdxl", 0.0, 1),
        ("tiny-sd3", 1.0, 1),
        ("tiny-sd3", 4.5, 2),
        ("tiny-flux", 3.5, 1),
        ("tiny-z-image", 0.0, 1),
        ("tiny-z-image", 1.0, 2),
    ],
)
def test_guidance_doubles_the_denoisers_batch_where_the_pipeline_does(
    tmp_path: Path, name: str, guidance_scale: float, batch: int
) -> None:
    observation = open_backend(tmp_path, name, guidance_scale=guidance_scale).observe(MonotonicClock())
    checks = {check.name: check.observed for check in observation.checks}
    assert checks["denoiser batch with guidance"] == str(batch)


def test_guidance_by_embedding_changes_the_picture_and_not_the_batch(tmp_path: Path) -> None:
    backends = [open_backend(tmp_path, "tiny-flux", guidance_scale=scale) for scale in (1.0, 3.5)]
    images = [backend.generate()[0].tobytes() for backend in backends]
    assert images[0] != images[1]
    consistency = {"config": {"unet.time_cond_proj_dim": 32}, "scheduler": "lcm", "guidance_scale": 8.0}
    observation = open_backend(tmp_path, "tiny-sd", **consistency).observe(MonotonicClock())
    assert {check.name: check.observed for check in observation.checks}["denoiser batch with guidance"] == "1"


@pytest.mark.parametrize("name", ["tiny-sd3", "tiny-flux", "tiny-z-image"])
def test_text_tokens_are_as_many_as_the_experiment_says(tmp_path: Path, name: str) -> None:
    backend = open_backend(tmp_path, name, max_sequence_length=32)
    lengths: list[int] = []
    encoder = getattr(backend.pipeline, backend.config.text_encoders[-1])
    encoder.register_forward_pre_hook(
        lambda _, args, named: lengths.append((args[0] if args else named["input_ids"]).shape[1]), with_kwargs=True
    )
    backend.generate()
    environment = backend.describe()
    assert set(lengths) == {32} == {environment.work.text_tokens[backend.config.text_encoders[-1]]}
    assert list(environment.drawn_tokens.values()) == [32]


@pytest.mark.parametrize("name", ["tiny-sd3", "tiny-flux", "tiny-z-image"])
def test_attention_backend_that_the_environment_chose_is_a_failure(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from diffusers.models import attention_dispatch

    backend = open_backend(tmp_path, name)
    registry = attention_dispatch._AttentionBackendRegistry
    monkeypatch.setattr(registry, "_active_backend", attention_dispatch.AttentionBackendName._NATIVE_MATH)
    with pytest.raises(WrongExecution, match="attention backend: expected native, observed _native_math"):
        backend.observe(MonotonicClock())


@pytest.mark.parametrize("name", TINY)
@pytest.mark.parametrize("attention", ["sdpa", "sdpa-math"])
def test_attention_kernels_are_observed_in_the_denoiser(tmp_path: Path, name: str, attention: str) -> None:
    (kernels,) = open_backend(tmp_path, name, attention=attention).observe_attention()
    assert ("math" if attention == "sdpa-math" else "flash") in kernels.observed
