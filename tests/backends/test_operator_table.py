"""From events to rows: nesting, phases, what a GPU runs behind the host, and rows that add up to the call."""

from collections.abc import Iterable, Sequence
from math import fsum
from typing import Any

import pytest

from sdbench.backends.operator_table import NO_OPERATOR, PhaseMark, make_rows, sum_waits
from sdbench.backends.profiler_events import read_events
from sdbench.schema.operators import OUTSIDE, REST, ROWS_MAX, OperatorRow
from tests.backends.kineto import Event, kernel, mark, operator, runtime

Row = tuple[str, str, str | None, int, float]


def table(events: Iterable[Event], call_count: int = 1, scales: dict[str, float] | None = None) -> list[Row]:
    """Return the rows without what is known of inputs; times in microseconds."""
    return [
        (row.phase, row.operator, row.kernel, row.calls, round(row.self_s * 1e6, 3))
        for row in rows_of(events, call_count, scales)
    ]


def rows_of(
    events: Iterable[Event], call_count: int = 1, scales: dict[str, float] | None = None
) -> tuple[OperatorRow, ...]:
    read = read_events(events)
    return make_rows(read.operators, read.kernels, read.marks, call_count, scales)


def total_us(rows: Sequence[Row]) -> float:
    return round(fsum(row[-1] for row in rows), 3)


def test_operator_within_another_takes_its_time_from_it() -> None:
    events = [
        mark("call", 0),
        operator("aten::conv2d", 10, 60),
        operator("aten::convolution", 12, 58),
        operator("aten::mkldnn_convolution", 20, 50),
        mark("end", 100),
    ]
    rows = table(events)
    assert rows == [
        ("rest", "aten::mkldnn_convolution", None, 1, 30),
        ("rest", "aten::convolution", None, 1, 16),
        ("rest", "aten::conv2d", None, 1, 4),
        ("rest", OUTSIDE, None, 0, 50),
    ]


def test_operators_belong_to_the_phase_in_which_they_began() -> None:
    events = [mark("call", 0), operator("aten::mm", 1, 5), mark("denoise_step", 10), operator("aten::mm", 10, 40)]
    events += [mark("denoise_step", 50), operator("aten::mm", 60, 90), mark("rest", 95), mark("end", 100)]
    assert table(events) == [
        ("denoise_step", "aten::mm", None, 2, 60),
        ("rest", "aten::mm", None, 1, 4),
        ("denoise_step", OUTSIDE, None, 0, 25),
        ("rest", OUTSIDE, None, 0, 11),
    ]


def test_operators_of_another_thread_and_of_other_libraries() -> None:
    events = [
        mark("call", 0),
        operator("xformers::efficient_attention_forward_cutlass", 0, 10),
        operator("detach_", 10, 20),
        operator("aten::mm", 0, 100, thread=2),
        Event("Activity Buffer Request", 30, 40, activity="overhead"),
        Event("a region of the program", 30, 90, activity="user_annotation", annotation=True),
        mark("end", 100),
    ]
    assert table(events) == [
        ("rest", "xformers::efficient_attention_forward_cutlass", None, 1, 10),
        ("rest", "detach_", None, 1, 10),
        ("rest", OUTSIDE, None, 0, 80),
    ]


def test_rows_are_means_of_several_calls() -> None:
    events = [mark("call", 0), operator("aten::mm", 10, 50), mark("call", 100), operator("aten::mm", 120, 140)]
    rows = table([*events, mark("end", 200)], call_count=2)
    assert rows == [("rest", "aten::mm", None, 1, 30), ("rest", OUTSIDE, None, 0, 70)]


def test_phase_that_was_cut_counts_as_often_as_a_whole_call_has_it() -> None:
    events = [mark("call", 0), operator("aten::mm", 0, 2), mark("denoise_step", 10), operator("aten::mm", 10, 40)]
    rows = table([*events, mark("rest", 50), mark("end", 60)], scales={"denoise_step": 10.0})
    assert rows == [
        ("denoise_step", "aten::mm", None, 10, 300),
        ("rest", "aten::mm", None, 1, 2),
        ("denoise_step", OUTSIDE, None, 0, 100),
        ("rest", OUTSIDE, None, 0, 18),
    ]


def gpu_call() -> list[Event]:
    """Return a call whose host is done after 40 us and whose GPU works until 200 us."""
    return [
        mark("call", 0),
        mark("denoise_step", 10),
        operator("aten::conv2d", 10, 20, correlation=1),
        operator("aten::cudnn_convolution", 11, 19, correlation=2),
        runtime("cudaLaunchKernel", 12, 14, correlation=901, linked=2),
        mark("vae_decode", 30),
        operator("aten::mm", 30, 38, correlation=3),
        runtime("cudaLaunchKernel", 31, 33, correlation=902, linked=3),
        runtime("cudaDeviceSynchronize", 40, 200, correlation=903),
        kernel("sm80_xmma_fprop_implicit_gemm_f16f16", 20, 120, correlation=901, linked=2),
        kernel("ampere_fp16_s16816gemm_fp16_128x128", 120, 190, correlation=902, linked=3),
        mark("end", 200),
    ]


def test_kernels_belong_to_the_phase_whose_operators_launched_them_however_late_they_ran() -> None:
    rows = table(gpu_call())
    assert rows == [
        ("denoise_step", "aten::cudnn_convolution", "sm80_xmma_fprop_implicit_gemm_f16f16", 1, 100),
        ("vae_decode", "aten::mm", "ampere_fp16_s16816gemm_fp16_128x128", 1, 70),
        ("rest", OUTSIDE, None, 0, 10),
        ("denoise_step", OUTSIDE, None, 0, 10),
        ("vae_decode", OUTSIDE, None, 0, 10),
    ]
    assert total_us(rows) == 200


def test_time_in_which_kernels_of_two_streams_overlap_counts_once() -> None:
    events = [
        mark("call", 0),
        operator("aten::mm", 0, 5, correlation=1),
        operator("aten::copy_", 5, 9, correlation=2),
        kernel("gemm", 10, 60, linked=1),
        kernel("Memcpy DtoH (Device -> Pinned)", 30, 80, linked=2, stream=8),
        kernel("Memset (Device)", 40, 50, linked=2, stream=9),
        mark("end", 100),
    ]
    rows = table(events)
    assert rows == [
        ("rest", "aten::mm", "gemm", 1, 50),
        ("rest", "aten::copy_", "Memcpy DtoH (Device -> Pinned)", 1, 20),
        ("rest", "aten::copy_", "Memset (Device)", 1, 0),
        ("rest", OUTSIDE, None, 0, 30),
    ]
    assert total_us(rows) == 100


def test_kernel_without_an_operator_belongs_to_the_phase_in_which_the_host_launched_it() -> None:
    events = [
        mark("call", 0),
        runtime("cuLaunchKernel", 5, 6, correlation=77),
        mark("vae_decode", 20),
        kernel("triton_poi_fused_0", 30, 50, correlation=77),
        kernel("of_nobody", 60, 70, correlation=99),
        mark("end", 100),
    ]
    rows = table(events)
    assert rows[:2] == [
        ("rest", NO_OPERATOR, "triton_poi_fused_0", 1, 20),
        ("vae_decode", NO_OPERATOR, "of_nobody", 1, 10),
    ]
    assert total_us(rows) == 100


def test_kernel_that_ends_after_the_call_counts_up_to_its_end() -> None:
    events = [mark("call", 0), operator("aten::mm", 0, 5, correlation=1), kernel("gemm", 50, 130, linked=1)]
    assert total_us(table([*events, mark("end", 100)])) == 100


def test_flop_and_bytes_of_an_operator_count_once_however_many_kernels_it_launches() -> None:
    given: dict[str, Any] = {"its_shapes": ((4, 8), (8, 16)), "types": ("float", "float")}
    events = [
        mark("call", 0),
        operator("aten::linear", 0, 9, correlation=1, **given),
        operator("aten::mm", 1, 8, correlation=2, **given),
        kernel("splitKreduce", 40, 45, linked=2),
        kernel("gemm", 10, 40, linked=2),
        mark("end", 100),
    ]
    assert {row.kernel: (row.flop, row.bytes) for row in rows_of(events)} == {
        "gemm": (2 * 4 * 8 * 16, 4 * (4 * 8 + 8 * 16)),
        "splitKreduce": (None, None),
        None: (None, None),
    }


def test_flop_land_on_the_operator_that_computes_and_only_once() -> None:
    image: dict[str, Any] = {
        "its_shapes": ((1, 3, 8, 8), (4, 3, 3, 3), (4,), (), (), (), ()),
        "inputs": (None, None, None, [1, 1], [1, 1], [1, 1], False, [0, 0], 1),
    }
    query: dict[str, Any] = {"its_shapes": ((1, 2, 5, 4),) * 3}
    product: dict[str, Any] = {"its_shapes": ((2, 5, 4), (2, 4, 5))}
    events = [
        mark("call", 0),
        operator("aten::conv2d", 0, 40, its_shapes=image["its_shapes"]),
        operator("aten::convolution", 1, 39, **image),
        operator("aten::mkldnn_convolution", 2, 10),
        operator("aten::copy_", 10, 38),  # took longest itself, and computes nothing
        operator("aten::_scaled_dot_product_flash_attention_for_cpu", 40, 50, **query),
        operator("aten::_scaled_dot_product_fused_attention_overrideable", 50, 60, **query),
        operator("aten::bmm", 51, 55, **product),
        operator("aten::bmm", 55, 59, **product),
        mark("end", 100),
    ]
    attention = 4 * 2 * 5 * 5 * 4
    assert {row.operator: row.flop for row in rows_of(events) if row.flop} == {
        "aten::mkldnn_convolution": 2 * 64 * 4 * 27,
        "aten::_scaled_dot_product_flash_attention_for_cpu": attention,
        "aten::bmm": attention,
    }


def test_table_has_its_longest_rows_and_the_rest_by_phase() -> None:
    events = [mark("call", 0), mark("denoise_step", 1000)]
    events += [operator(f"own::op{index}", 1000 + 100 * index, 1001 + 101 * index) for index in range(ROWS_MAX + 3)]
    events += [operator("own::early", 10, 10.5), mark("end", 10_000)]
    rows = rows_of(events)
    assert [row.operator for row in rows[-4:]] == [REST, REST, OUTSIDE, OUTSIDE]
    assert len(rows) == ROWS_MAX + 4
    rest = {row.phase: (row.calls, round(row.self_s * 1e6, 3)) for row in rows if row.operator == REST}
    assert rest == {"denoise_step": (3, 1 + 2 + 3), "rest": (1, 0.5)}
    assert fsum(row.self_s for row in rows) == pytest.approx(10_000e-6)


def test_waits_for_the_gpu_are_those_of_cuda_that_block() -> None:
    events = [*gpu_call(), runtime("cudaMemcpyAsync", 15, 16), runtime("cudaStreamSynchronize", 16, 19)]
    read = read_events(events)
    count, wait_s = sum_waits(read.waits, read.marks, 1, {"denoise_step": 10.0})
    assert count == 11
    assert wait_s == pytest.approx(190e-6)


def test_marks_of_the_first_call_end_where_the_second_begins() -> None:
    events = [mark("call", 0), mark("vae_decode", 5), mark("call", 10), mark("vae_decode", 15), mark("end", 20)]
    assert read_events(events).marks_of_first_call() == [
        PhaseMark("rest", 0),
        PhaseMark("vae_decode", 5_000),
        PhaseMark("rest", 10_000),
    ]
