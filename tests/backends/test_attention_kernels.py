"""Which attention ran: really on the CPU, and by the names that kernels have on GPUs."""

from pathlib import Path
from typing import Any

import pytest

from sdbench.backends import attention_kernels
from sdbench.backends.attention_kernels import describe_attention
from sdbench.backends.base import WrongExecution
from sdbench.schema.experiment import Attention
from tests.backends.test_pytorch import open_tiny

FLASH = "void pytorch_flash::flash_fwd_kernel<Flash_fwd_kernel_traits<64, 128, 128, 4, false>>(Flash_fwd_params)"
EFFICIENT = "fmha_cutlassF_f32_aligned_64x64_rf_sm80(PyTorchMemEffAttention::AttentionKernel<float>::Params)"
CUDNN = "cudnn_generated_fort_native_sdpa_sm90_flash_fprop_wgmma_f16_knob_3_64x128x64_4x1x1_kernel0_0"
SOFTMAX = "void (anonymous namespace)::softmax_warp_forward<float, float, float, 8, false, false>(float*, int)"
GEMM = "ampere_fp16_s16816gemm_fp16_128x128_ldg8_f2f_stages_32x5_nn"


@pytest.mark.parametrize(
    ("attention", "observed"),
    [
        ("sdpa", "flash (aten::_scaled_dot_product_flash_attention_for_cpu)"),
        ("sdpa-flash", "flash (aten::_scaled_dot_product_flash_attention_for_cpu)"),
        ("sdpa-math", "math (aten::_scaled_dot_product_attention_math)"),
        ("eager", "math (aten::_softmax)"),
        ("sliced", "math (aten::_softmax)"),
    ],
)
def test_kernels_of_the_first_attention_block_are_seen_by_the_profiler(
    tmp_path: Path, attention: Attention, observed: str
) -> None:
    backend = open_tiny(tmp_path, attention=attention)
    (check,) = backend.observe_attention()
    assert (check.observed, check.passed) == (observed, True)
    assert check.expected == (attention.partition("-")[2] or "any")


def test_observed_attention_leaves_the_pipeline_as_it_was(tmp_path: Path) -> None:
    backend = open_tiny(tmp_path)
    before = backend.generate()[0].tobytes()
    decoded: list[Any] = []
    handle = backend.pipeline.vae.decoder.register_forward_pre_hook(lambda *_: decoded.append(1))
    backend.observe_attention()
    handle.remove()
    assert decoded == []
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in backend.pipeline.unet.modules())
    assert backend.generate()[0].tobytes() == before


def test_another_kernel_than_the_forced_one_is_a_failure(tmp_path: Path) -> None:
    backend = open_tiny(tmp_path, attention="sdpa-math")
    del backend.pipeline.unet.forward
    with pytest.raises(WrongExecution, match=r"attention kernels: expected math, observed flash"):
        backend.observe_attention()


def test_profiler_that_cannot_start_is_no_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    def refuse(_profiler: object) -> None:
        raise RuntimeError("CUPTI_ERROR_INSUFFICIENT_PRIVILEGES\nand more")

    monkeypatch.setattr(torch.profiler.profile, "start", refuse)
    backend = open_tiny(tmp_path, attention="sdpa-math")
    (check,) = backend.observe_attention()
    assert (check.expected, check.passed) == ("math", True)
    assert check.observed == "not observed: CUPTI_ERROR_INSUFFICIENT_PRIVILEGES"
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in backend.pipeline.unet.modules())


@pytest.mark.parametrize(
    ("names", "observed"),
    [
        (["aten::_scaled_dot_product_flash_attention", FLASH, GEMM], "flash (pytorch_flash::flash_fwd_kernel)"),
        (["aten::_efficient_attention_forward", EFFICIENT], "efficient (fmha_cutlassF_f32_aligned_64x64_rf_sm80)"),
        (["aten::_scaled_dot_product_cudnn_attention", CUDNN], f"cudnn ({CUDNN[:60]})"),
        (
            ["aten::_scaled_dot_product_attention_math", "aten::_softmax", SOFTMAX, GEMM],
            "math (softmax_warp_forward)",
        ),
        ([CUDNN, FLASH], f"cudnn ({CUDNN[:60]}), flash (pytorch_flash::flash_fwd_kernel)"),
        (["aten::_scaled_dot_product_flash_attention"], "flash (aten::_scaled_dot_product_flash_attention)"),
        ([GEMM], "not observed: the profiler saw no attention"),
    ],
)
def test_kernels_of_gpus_are_named_by_kind(names: list[str], observed: str) -> None:
    check = describe_attention("sdpa", names)
    assert (check.expected, check.observed, check.passed) == ("any", observed, True)


@pytest.mark.parametrize(
    ("kernels", "passed"), [([CUDNN], True), ([FLASH], False), ([CUDNN, FLASH], False), ([GEMM], True)]
)
def test_forced_kernel_and_no_other_must_have_run_where_it_can_be_seen(kernels: list[str], passed: bool) -> None:
    assert describe_attention("sdpa-cudnn", kernels).passed is passed


def test_on_a_gpu_the_whole_unet_is_profiled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    profiled: list[Any] = []

    class FakeProfiler:
        def __init__(self, activities: list[Any], **_: Any) -> None:
            profiled.append(activities)

        def start(self) -> None:
            profiled.append("start")

        def stop(self) -> None:
            profiled.append("stop")

        def events(self) -> list[Any]:
            return [type("Event", (), {"name": name}) for name in (FLASH, EFFICIENT)]

    monkeypatch.setattr(torch.profiler, "profile", FakeProfiler)
    backend = open_tiny(tmp_path)
    calls: list[Any] = []
    handle = backend.pipeline.unet.conv_out.register_forward_hook(lambda *_: calls.append(1))
    check = attention_kernels.observe_attention(
        backend.pipeline.unet, torch.device("cuda:0"), "sdpa", backend.with_batch(1, 1).generate
    )
    handle.remove()
    activity = torch.profiler.ProfilerActivity
    assert profiled == [[activity.CPU, activity.CUDA], "start", "stop"]
    assert calls == [1]
    assert check.observed == (
        "efficient (fmha_cutlassF_f32_aligned_64x64_rf_sm80), flash (pytorch_flash::flash_fwd_kernel)"
    )
