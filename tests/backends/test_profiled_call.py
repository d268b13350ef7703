"""The real pipeline under torch's profiler: rows that add up, FLOP that agree with the shapes, and bad luck."""

import gzip
import json
from math import fsum
from pathlib import Path
from typing import Any

import pytest

from sdbench.backends import profiled_call
from sdbench.backends.profiled_call import (
    EVENTS_MAX,
    KernelsNotRead,
    ProfilerFailed,
    choose_extent,
    describe_ran,
    require_events,
)
from sdbench.backends.profiler_events import read_events
from sdbench.schema.base import Known
from sdbench.schema.operators import ATTENTION, CONVOLUTION, OUTSIDE, OperatorTable
from sdbench.schema.warning_codes import WarningCode
from sdbench.worker.clock import MonotonicClock
from tests.backends.kineto import kernel, mark, operator
from tests.backends.test_pytorch import open_tiny

FLOW = {"scheduler": "flow-euler"}


def profile(backend: Any, trace_bytes_max: int | None = None) -> tuple[OperatorTable, Any]:
    profiled = backend.profile_operators(MonotonicClock(), trace_bytes_max)
    assert isinstance(profiled.operators, Known)
    return profiled.operators.value, profiled


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"pipeline": "tiny-sdxl", "precision": "bf16"},
        {"pipeline": "tiny-sd3", **FLOW},
        {"pipeline": "tiny-flux", **FLOW},
        {"pipeline": "tiny-z-image", **FLOW},
        {"attention": "eager"},
        {"batch": 2, "scheduler": "euler", "attention": "sdpa-math"},
    ],
    ids=str,
)
def test_rows_add_up_to_the_call_and_its_flop_to_those_of_the_shapes(tmp_path: Path, options: dict[str, Any]) -> None:
    backend = open_tiny(tmp_path, **options)
    table, _ = profile(backend)
    assert 0.95 < fsum(row.self_s for row in table.rows) / table.call_s < 1.05
    assert all(row.self_s >= 0 for row in table.rows)
    assert {row.phase for row in table.rows} == {*backend.config.text_encoders, "denoise_step", "vae_decode", "rest"}
    assert {row.operator for row in table.rows[-5:]} >= {OUTSIDE}
    counted = sum(backend.work.flop_per_image.values()) * options.get("batch", 1)
    assert sum(row.flop or 0 for row in table.rows) == pytest.approx(counted, rel=1e-3)
    assert {ATTENTION, CONVOLUTION} <= table.ran.keys()
    assert (table.host_wait_count, table.host_wait_s) == (None, None)


def test_call_with_too_many_events_is_profiled_by_its_first_steps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    backend = open_tiny(tmp_path, steps=9, scheduler="ddim")
    monkeypatch.setattr(profiled_call, "EVENTS_MAX", 12_000)
    table, profiled = profile(backend, 2**24)
    assert table.profiler.endswith(" of 9 denoiser calls")
    steps = int(table.profiler.split()[-5])
    assert 1 < steps < 9
    assert sum(row.flop or 0 for row in table.rows) == pytest.approx(backend.work.flop, rel=1e-3)
    assert 0.9 < fsum(row.self_s for row in table.rows) / table.call_s < 1.1
    entries = json.loads(gzip.decompress(profiled.trace))["traceEvents"]
    assert sum(entry["name"] == "denoise_step" for entry in entries) == steps


def test_events_are_limited_whatever_a_step_makes() -> None:
    assert choose_extent(10, 5, 2) == (5, 2)
    assert choose_extent(1_000, 5_000, 5) == (2, 5)
    assert choose_extent(10_000, 5_000, 50) == (1, (EVENTS_MAX - 5_000) // 10_000)
    assert choose_extent(10 * EVENTS_MAX, 0, 50) == choose_extent(10, 10 * EVENTS_MAX, 50) == (1, 1)


def test_events_are_limited_by_the_memory_that_is_free(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(profiled_call, "read_free_host_bytes", lambda: 50_000_000)
    assert choose_extent(1_000, 0, 50) == (1, 10)

    def unreadable() -> int:
        raise OSError("no /proc")

    monkeypatch.setattr(profiled_call, "read_free_host_bytes", unreadable)
    assert choose_extent(1_000, 0, 50) == (1, 40)


def test_trace_that_is_too_large_is_a_warning_and_the_table_is_there(tmp_path: Path) -> None:
    table, profiled = profile(open_tiny(tmp_path), 1000)
    assert table.rows
    assert profiled.trace is None
    assert [warning.code for warning in profiled.warnings] == [WarningCode.TRACE_NOT_KEPT]


def test_profiled_call_leaves_the_pipeline_as_it_was(tmp_path: Path) -> None:
    backend = open_tiny(tmp_path)
    before = backend.generate()[0].tobytes()
    profile(backend)
    assert "decode" not in vars(backend.pipeline.vae)
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in backend.pipeline.unet.modules())
    assert backend.generate()[0].tobytes() == before


def test_math_that_torch_is_forced_to_is_named_although_any_attention_was_requested(tmp_path: Path) -> None:
    import torch

    backend = open_tiny(tmp_path)
    flash, _ = profile(backend)
    torch.backends.cuda.enable_flash_sdp(False)
    try:
        math, _ = profile(backend)
        (check,) = backend.observe_attention()
    finally:
        torch.backends.cuda.enable_flash_sdp(True)
    assert (flash.ran[ATTENTION], math.ran[ATTENTION]) == ("flash", "math")
    assert check.observed == "math (aten::_scaled_dot_product_attention_math)"


class NoEvents:
    """A profiler that records nothing, as one that another profiler has displaced."""

    kineto_results = None

    def __init__(self, **_: Any) -> None:
        pass

    def __enter__(self) -> None:
        pass

    def __exit__(self, *_: object) -> None:
        pass


def test_profiler_without_results_or_events_has_failed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    backend = open_tiny(tmp_path)
    monkeypatch.setattr(torch.autograd.profiler, "profile", NoEvents)
    with pytest.raises(ProfilerFailed, match="returned no events"):
        profile(backend)

    class Empty(NoEvents):
        class kineto_results:  # noqa: N801 - as torch calls it
            @staticmethod
            def events() -> list[Any]:
                return []

    monkeypatch.setattr(torch.autograd.profiler, "profile", Empty)
    with pytest.raises(ProfilerFailed, match="is another profiler active"):
        profile(backend)


def test_profiler_without_kernels_on_a_gpu_has_failed_with_a_warning_of_its_own() -> None:
    events = [mark("call", 0), operator("aten::mm", 1, 2, correlation=1), mark("end", 10)]
    require_events(read_events(events), 1, on_gpu=False)
    with pytest.raises(KernelsNotRead, match="no kernel of the GPU") as raised:
        require_events(read_events(events), 1, on_gpu=True)
    assert raised.value.warning_code == WarningCode.KERNELS_NOT_READ
    require_events(read_events([*events, kernel("gemm", 3, 4, linked=1)]), 1, on_gpu=True)


def test_what_ran_on_a_gpu_is_read_from_its_kernels() -> None:
    events = read_events(
        [
            mark("call", 0),
            operator("aten::mm", 1, 2, correlation=1),
            mark("denoise_step", 5),
            operator("aten::_flash_attention_forward", 6, 7, correlation=2),
            mark("vae_decode", 8),
            operator("aten::_softmax", 8, 9, correlation=3),
            kernel("sm80_xmma_gemm_f32f32_tf32f32_f32_tn_n", 10, 20, linked=1),
            kernel("void pytorch_flash::flash_fwd_kernel<Traits<64> >(Params)", 20, 30, linked=2),
            kernel("void (anonymous namespace)::softmax_warp_forward<float>(float*)", 30, 40, linked=3),
            mark("end", 50),
        ]
    )
    assert describe_ran(events, []) == {"attention": "flash", "gemm": "cuBLAS", "gemm precision": "tf32"}
