"""What operators cost by their inputs, and names of kernels that stay apart."""

from typing import Any

import pytest

from sdbench.backends.kernel_names import NAME_CHARACTERS, shorten_kernel
from sdbench.backends.operator_costs import count_bytes, count_flop

ELEMENTWISE = (
    "void at::native::vectorized_elementwise_kernel<4, at::native::CUDAFunctor_add<float>, std::array<char*, 3ul> >"
    "(int, at::native::CUDAFunctor_add<float>, std::array<char*, 3ul>)"
)


@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize(("stride", "padding", "dilation", "groups"), [(1, 1, 1, 1), (2, 0, 1, 1), (1, 2, 2, 2)])
@pytest.mark.parametrize("dimensions", [1, 2, 3])
def test_flop_of_a_convolution_are_those_that_torch_counts(
    dimensions: int, stride: int, padding: int, dilation: int, groups: int, *, transposed: bool
) -> None:
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    sizes = [[value] * dimensions for value in (stride, padding, dilation)]
    image = torch.zeros(2, 4, *[9, 10, 11][:dimensions], device="meta")
    weight = torch.zeros(4, 6, *[3] * dimensions) if transposed else torch.zeros(6, 4 // groups, *[3] * dimensions)
    inputs: tuple[Any, ...] = (*sizes, transposed, [0] * dimensions, groups)
    with FlopCounterMode(display=False) as counter:
        torch.ops.aten.convolution(image, weight.to("meta"), None, *inputs)
    shapes = (tuple(image.shape), tuple(weight.shape), *[()] * 7)
    counted = count_flop("aten::convolution", shapes, lambda: (None, None, None, *inputs))
    assert counted == counter.get_total_flops() > 0


@pytest.mark.parametrize(
    ("name", "shapes", "flop"),
    [
        ("aten::mm", ((2, 3), (3, 5)), 60),
        ("aten::addmm", ((5,), (2, 3), (3, 5)), 60),
        ("aten::bmm", ((4, 2, 3), (4, 3, 5)), 240),
        ("aten::baddbmm", ((4, 2, 5), (4, 2, 3), (4, 3, 5)), 240),
        ("aten::_scaled_dot_product_efficient_attention", ((1, 2, 3, 4), (1, 2, 7, 4), (1, 2, 7, 6)), 2 * 6 * 7 * 10),
        ("aten::_scaled_dot_product_attention_math", ((1, 2, 3, 4),) * 3, 0),
        ("aten::add", ((2, 3), (2, 3)), 0),
        ("aten::mm", (), 0),
        ("aten::convolution", ((1, 3, 8, 8),), 0),
    ],
)
def test_flop_of_products_and_attention(name: str, shapes: tuple[tuple[int, ...], ...], flop: int) -> None:
    assert count_flop(name, shapes, lambda: ()) == flop


@pytest.mark.parametrize(
    ("name", "types", "expected"),
    [
        ("aten::add", ("float", "c10::Half", "Scalar"), 6 * 4 + 4 * 2),
        ("aten::_softmax", ("float", "c10::Half", ""), 6 * 4 + 4 * 2),
        ("aten::view", ("float", "float", ""), None),
        ("aten::conv2d", ("float", "float", ""), None),
        ("aten::add", ("float", "a new type", ""), None),
    ],
)
def test_bytes_are_known_of_operators_that_read_their_inputs(
    name: str, types: tuple[str, ...], expected: int | None
) -> None:
    assert count_bytes(name, ((2, 3), (4,), ()), types) == expected


@pytest.mark.parametrize(
    ("name", "short"),
    [
        (ELEMENTWISE, "vectorized_elementwise_kernel<4, CUDAFunctor_add<float>, array<char*, 3ul> >"),
        ("void (anonymous namespace)::softmax_warp_forward<float, 8>(float*, int)", "softmax_warp_forward<float, 8>"),
        ("ampere_sgemm_128x64_tn", "ampere_sgemm_128x64_tn"),
        ("Memcpy HtoD (Pageable -> Device)", "Memcpy HtoD (Pageable -> Device)"),
        ("f(int)::{lambda(float)#1}", "f(int)::{lambda(float)#1}"),
        (")", ")"),
    ],
)
def test_kernel_loses_what_tells_nothing_apart(name: str, short: str) -> None:
    assert shorten_kernel(name) == short


def test_long_names_of_kernels_stay_apart() -> None:
    names = [f"void cutlass::Kernel<{'Shape<64, 64>, ' * 300}{kind}>(Params)" for kind in ("float", "half")]
    first, second = map(shorten_kernel, names)
    assert first != second
    assert len(first) == len(second) == NAME_CHARACTERS
    assert first.startswith("cutlass::Kernel<Shape<64, 64>")
