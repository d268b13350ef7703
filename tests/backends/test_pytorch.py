"""The real pipeline on tiny-sd: what is requested is what runs, and a fallback is caught."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from sdbench.backends import pytorch
from sdbench.backends.base import DeviceRoom, WrongExecution
from sdbench.backends.torch_call import TorchCall
from sdbench.probes.readings import value_or
from sdbench.schema.base import Known, Unknown
from sdbench.schema.experiment import Experiment, Tf32
from sdbench.schema.workload_results import AllocatorEvents
from sdbench.worker.clock import MonotonicClock


def tiny(**options: Any) -> Experiment:
    return Experiment(**{"pipeline": "tiny-sd", "height": 64, "width": 64, "steps": 2, **options})


def open_tiny(tmp_path: Path, **options: Any) -> pytorch.PytorchBackend:
    return pytorch.open_backend(tiny(**options), "cpu", tmp_path, 2)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"precision": "fp16"},
        {"precision": "bf16", "batch": 2},
        {"autocast": "bf16"},
        {"autocast": "fp16"},
        {"precision": "fp16", "autocast": "fp16"},
        {"guidance_scale": 1.0},
        {"scheduler": "ddim"},
        {"scheduler": "euler"},
        {"scheduler": "dpm++"},
        {"threads": 2},
        {"height": 128, "width": 64},
    ],
    ids=str,
)
def test_every_option_runs_as_requested_and_gives_finite_images(tmp_path: Path, options: dict[str, Any]) -> None:
    backend = open_tiny(tmp_path, **options)
    observation = backend.observe(MonotonicClock())
    assert all(check.passed for check in observation.checks)
    assert all(observation.finite)
    assert len(observation.images) == options.get("batch", 1)
    assert len(observation.denoise_steps_s) == backend.work.denoiser_calls
    assert sum(observation.denoise_steps_s) + observation.phases_s["text_encoder"] + observation.phases_s[
        "vae_decode"
    ] + observation.phases_s["rest"] == pytest.approx(observation.phases_s["total"])
    assert min(observation.phases_s.values()) > 0


def test_phase_hooks_are_gone_after_an_observed_call(tmp_path: Path) -> None:
    backend = open_tiny(tmp_path)
    backend.observe(MonotonicClock())
    assert "decode" not in vars(backend.pipeline.vae)
    for network in (backend.pipeline.unet, backend.pipeline.vae.decoder, backend.pipeline.text_encoder):
        assert not network._forward_hooks
        assert not network._forward_pre_hooks


def test_autocast_that_does_nothing_is_a_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import contextlib

    backend = open_tiny(tmp_path, autocast="bf16")
    monkeypatch.setattr(backend, "_around_call", contextlib.nullcontext)
    with pytest.raises(WrongExecution, match="compute dtype: expected bf16, observed fp32"):
        backend.observe(MonotonicClock())


def test_another_attention_processor_is_a_failure(tmp_path: Path) -> None:
    from diffusers.models.attention_processor import AttnProcessor

    backend = open_tiny(tmp_path)
    backend.pipeline.unet.set_attn_processor(AttnProcessor())
    with pytest.raises(WrongExecution, match="attention processor"):
        backend.observe(MonotonicClock())


def test_weights_in_another_type_are_a_failure(tmp_path: Path) -> None:
    import torch

    backend = open_tiny(tmp_path)
    # torch's own method: diffusers' warns of modules to keep in fp32.
    torch.nn.Module.to(backend.pipeline.unet.conv_out, torch.float64)
    with pytest.raises((WrongExecution, RuntimeError)):
        backend.observe(MonotonicClock())


def test_same_seed_gives_the_same_pixels(tmp_path: Path) -> None:
    first, second = open_tiny(tmp_path), open_tiny(tmp_path)
    assert first.generate()[0].tobytes() == second.generate()[0].tobytes()


def test_kept_weights_give_the_pixels_of_drawn_ones_and_are_mapped(tmp_path: Path) -> None:
    drawn = open_tiny(tmp_path)
    stages: list[str] = []
    for _ in range(2):
        pytorch.fetch(tiny(), "cpu", tmp_path, stages.append)
    mapped, copied = open_tiny(tmp_path), open_tiny(tmp_path, channels_last=True)
    assert stages == ["draw"]
    assert mapped.generate()[0].tobytes() == drawn.generate()[0].tobytes()
    environments = [backend.describe() for backend in (drawn, mapped, copied)]
    assert len({environment.weights_digest for environment in environments}) == 1
    assert [environment.weights_source for environment in environments] == ["drawn", "mapped", "mapped"]
    sizes = [environment.weights_mapped_bytes for environment in environments]
    assert sizes == [0, 4 * environments[0].parameter_count, 0]
    assert [warning.code for warning in drawn.warnings()] == ["synthetic-weights", "weights-not-kept"]
    assert [warning.code for warning in mapped.warnings()] == ["synthetic-weights"]


def test_worker_names_the_file_of_torchs_kernels_that_it_has_loaded(tmp_path: Path) -> None:
    libraries = value_or(open_tiny(tmp_path).describe().loaded_libraries, ())
    (kernels,) = (library for library in libraries if library.name == "libtorch_cpu")
    assert kernels.path.endswith("torch/lib/libtorch_cpu.so")
    assert isinstance(kernels.sha256, Known)


def test_projection_knows_that_pndm_makes_one_call_more(tmp_path: Path) -> None:
    environment = open_tiny(tmp_path).describe()
    assert (environment.work.denoiser_calls, environment.work.denoiser_calls_at_native_steps) == (3, 51)


@pytest.mark.parametrize(
    ("tf32", "matmul", "convolutions"),
    [(True, "tf32", "tf32"), ("convolutions", "ieee", "tf32"), (False, "ieee", "ieee")],
)
def test_tf32_is_set_for_matrix_products_and_convolutions(tf32: Tf32, matmul: str, convolutions: str) -> None:
    import torch

    backends: Any = torch.backends
    pytorch.set_tf32(torch, tf32)
    assert (backends.cuda.matmul.fp32_precision, backends.cudnn.conv.fp32_precision) == (matmul, convolutions)
    assert all(check.passed for check in pytorch.tf32_checks(tf32, (8, 0)))
    other: Tf32 = "convolutions" if tf32 is True else True
    assert not all(check.passed for check in pytorch.tf32_checks(other, (8, 0)))
    pytorch.set_tf32(torch, False)


@pytest.mark.parametrize(
    ("tf32", "capability", "override", "failed"),
    [
        (True, (7, 5), "", ["TF32 hardware"]),
        ("convolutions", (7, 5), "", []),
        ("convolutions", (8, 0), "0", ["NVIDIA_TF32_OVERRIDE"]),
        (True, (8, 0), "0", ["NVIDIA_TF32_OVERRIDE"]),
        (True, (8, 0), "1", []),
    ],
)
def test_tf32_that_the_card_or_the_driver_changes_is_a_failed_check(
    monkeypatch: pytest.MonkeyPatch, tf32: Tf32, capability: tuple[int, int], override: str, failed: list[str]
) -> None:
    import torch

    monkeypatch.setenv("NVIDIA_TF32_OVERRIDE", override)
    pytorch.set_tf32(torch, tf32)
    assert [check.name for check in pytorch.tf32_checks(tf32, capability) if not check.passed] == failed
    pytorch.set_tf32(torch, False)


def test_fp32_reference_under_the_variable_of_the_driver_is_a_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    backend = open_tiny(tmp_path)
    assert backend.check_fp32() == ()
    monkeypatch.setattr(backend, "device", torch.device("cuda:0"))
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _device: (8, 0))
    assert {check.name for check in backend.check_fp32()} == {"TF32 matmul", "TF32 convolutions"}
    monkeypatch.setenv("NVIDIA_TF32_OVERRIDE", "1")
    with pytest.raises(WrongExecution, match="NVIDIA_TF32_OVERRIDE: expected 0, observed 1"):
        backend.check_fp32()


@pytest.mark.parametrize(
    ("options", "check", "observed"),
    [
        ({"attention": "eager"}, "attention processor", "AttnProcessor"),
        ({"attention": "sliced"}, "attention processor", "SlicedAttnProcessor"),
        ({"attention": "sdpa-math"}, "attention kernels allowed", "MATH"),
        ({"attention": "sdpa-flash"}, "attention kernels allowed", "FLASH_ATTENTION"),
        ({"vae_slicing": True, "batch": 2}, "VAE slices", "2"),
        ({"vae_tiling": True, "width": 128}, "VAE tiling", "cut"),
        ({"vae_tiling": True}, "VAE tiling", "whole"),
        ({"channels_last": True}, "memory layout", "channels last"),
    ],
    ids=str,
)
def test_option_is_in_force_while_the_pipeline_runs(
    tmp_path: Path, options: dict[str, Any], check: str, observed: str
) -> None:
    observation = open_tiny(tmp_path, **options).observe(MonotonicClock())
    assert {item.name: item.observed for item in observation.checks}[check] == observed
    assert observation.finite == (True,) * options.get("batch", 1)


def test_forced_kernel_that_cannot_run_fails_instead_of_falling_back(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="No viable backend"):
        open_tiny(tmp_path, attention="sdpa-efficient").generate()


def test_attention_that_was_not_set_is_a_failure(tmp_path: Path) -> None:
    from diffusers.models.attention_processor import AttnProcessor2_0

    backend = open_tiny(tmp_path, attention="sliced")
    backend.pipeline.unet.set_attn_processor(AttnProcessor2_0())
    with pytest.raises(
        WrongExecution, match="attention processor: expected SlicedAttnProcessor, observed AttnProcessor2_0"
    ):
        backend.observe(MonotonicClock())


def test_another_batch_shares_the_loaded_networks(tmp_path: Path) -> None:
    backend = open_tiny(tmp_path)
    larger = backend.with_batch(3, 1)
    assert larger.pipeline is backend.pipeline
    assert len(larger.generate()) == 3
    assert len(backend.generate()) == 1


def test_decoded_run_ends_in_the_image_that_the_pipeline_makes(tmp_path: Path) -> None:
    import numpy as np

    backend = open_tiny(tmp_path)
    every = backend.decode_run(backend.experiment.steps, every_call=True)
    (last,) = backend.decode_run(backend.experiment.steps, every_call=False)
    assert len(every) == backend.work.denoiser_calls
    assert np.array_equal(every[-1], last)
    assert np.array_equal(np.round(last * 255).astype(np.uint8), np.asarray(backend.generate()[0]))


@pytest.mark.filterwarnings("ignore:invalid value encountered in cast:RuntimeWarning")
@pytest.mark.parametrize("options", [{}, {"vae_slicing": True}, {"vae_tiling": True}], ids=str)
def test_image_that_is_not_finite_is_distinguished_from_the_others(tmp_path: Path, options: dict[str, Any]) -> None:
    backend = open_tiny(tmp_path, batch=2, **options)
    backend.call_arguments()["latents"][1] = float("nan")
    assert backend.observe(MonotonicClock()).finite == (True, False)


def test_counts_of_the_allocator_and_room_on_the_device_are_those_of_torch(tmp_path: Path) -> None:
    backend = open_tiny(tmp_path)
    assert isinstance(backend.read_allocator_events(), Unknown)
    assert backend.read_device_room() is None
    counts = {"num_alloc_retries": 2, "num_ooms": 1, "num_sync_all_streams": 9}
    backend._cuda = SimpleNamespace(memory_stats=lambda _device: counts, mem_get_info=lambda _device: (5, 8))
    assert backend.read_allocator_events() == Known(value=AllocatorEvents(retries=2, caught_out_of_memory=1))
    assert backend.read_device_room() == DeviceRoom(free_bytes=5, total_bytes=8)


class FakeEvent:
    """A CUDA event of a GPU that is ``lag`` events behind the host, 1 ms from one to the next."""

    lag = 0
    recorded = 0

    def __init__(self, *, enable_timing: bool) -> None:
        assert enable_timing

    def record(self, _stream: object) -> None:
        type(self).recorded += 1
        self.number = type(self).recorded

    def query(self) -> bool:
        return type(self).recorded - self.number >= type(self).lag

    def elapsed_time(self, end: "FakeEvent") -> float:
        return float(end.number - self.number)


@pytest.mark.parametrize(("lag", "ratio"), [(0, 1.0), (1, 0.0)])
def test_gpu_that_has_reached_the_last_block_of_an_issued_denoiser_call_waited_for_the_host(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lag: int, ratio: float
) -> None:
    import torch

    monkeypatch.setattr(FakeEvent, "lag", lag)
    monkeypatch.setattr(FakeEvent, "recorded", 0)
    monkeypatch.setattr(torch.cuda, "Event", FakeEvent)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: device)
    backend = open_tiny(tmp_path)
    with TorchCall(backend.pipeline, backend.config, torch.device("cuda:0"), MonotonicClock()) as call:
        backend.generate()
    assert call.read_host_bound_ratio() == Known(value=ratio)
    # The marks in the last block are events of their own: of the phases none is one of them.
    assert call.read_phases(1.0)[1] == (2e-3,) * 3
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in backend.pipeline.unet.modules())


def test_host_bound_is_unknown_on_the_cpu(tmp_path: Path) -> None:
    observation = open_tiny(tmp_path).observe(MonotonicClock())
    assert observation.host_bound_ratio == Unknown(reason="the device is the CPU")


def test_environment_says_what_decides_the_choice_of_kernels(tmp_path: Path) -> None:
    environment = open_tiny(tmp_path).describe()
    none = Unknown(reason="cuDNN is not used on the CPU")
    assert (environment.cudnn_benchmark, environment.cudnn_deterministic) == (none, none)
    assert environment.deterministic_algorithms is False


def test_switches_of_cudnn_are_read_on_a_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    backend = open_tiny(tmp_path)
    monkeypatch.setattr(backend, "_cuda", SimpleNamespace(get_device_name=lambda _device: "NVIDIA H100"))
    monkeypatch.setattr(torch.backends.cudnn, "benchmark", True)
    environment = backend.describe()
    assert (environment.cudnn_benchmark, environment.cudnn_deterministic) == (Known(value=True), Known(value=False))
    assert environment.onednn_isa == Unknown(reason="the networks run on the GPU")
