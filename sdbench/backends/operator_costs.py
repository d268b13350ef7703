"""What an operator costs by its inputs alone: FLOP, and the bytes that it reads."""

import re
from collections.abc import Callable, Sequence
from functools import cache
from math import prod
from typing import Any

from sdbench.backends.operator_table import Shapes

_BYTES = {"float": 4, "c10::Half": 2, "c10::BFloat16": 2, "double": 8, "long int": 8, "int": 4, "bool": 1}
_BYTES |= {"unsigned char": 1, "signed char": 1, "c10::Float8_e4m3fn": 1, "c10::Float8_e5m2": 1}
# These change how a tensor is seen, allocate one, or leave the work to the operators that they call.
_MOVES_NOTHING = re.compile(
    r"(aten::)?(t|numpy_T|mT|transpose|permute|select|slice|narrow|as_strided|view|view_as|_unsafe_view|reshape"
    r"|_reshape_alias|expand|expand_as|squeeze|unsqueeze|flatten|unflatten|alias|detach|detach_|lift_fresh|unbind"
    r"|chunk|split|split_with_sizes|tensor_split|unfold|empty|empty_like|empty_strided|new_empty|empty_permuted|resize_"
    r"|resolve_conj|resolve_neg|set_|item|_local_scalar_dense|to|_to_copy|contiguous|clone|linear|matmul|einsum"
    r"|conv[123]d|conv_transpose[123]d|_?convolution|layer_norm|group_norm|rms_norm|softmax|embedding|dropout|pad"
    r"|scaled_dot_product_attention|type_as|ones|zeros|full|ones_like|zeros_like|arange|scalar_tensor|movedim|stack)"
)
_GEMM_FACTORS = {"mm": 0, "bmm": 0, "addmm": 1, "baddbmm": 1, "_addmm_activation": 1, "addmm_": 1, "_int_mm": 0}
_FUSED_ATTENTION = re.compile(r"_scaled_dot_product_\w*(flash|efficient|cudnn|fused)\w*")
# How many tensors a matrix product and an attention take.
_FACTORS, _ATTENDED = 2, 3
_CONVOLUTION, _TRANSPOSED = "aten::convolution", 6


def count_flop(name: str, shapes: Shapes, read_inputs: Callable[[], Sequence[Any]]) -> int:
    """Return the FLOP of matrix products, convolutions and attention, 0 of others.

    ``read_inputs`` returns the values of the inputs that are no tensors.

    Counted as torch.utils.flop_counter does: an addition and a multiplication are two.
    """
    own = name.removeprefix("aten::")
    if (place := _GEMM_FACTORS.get(own)) is not None:
        factors = shapes[place : place + _FACTORS]
        return 2 * prod(factors[0]) * factors[1][-1] if len(factors) == _FACTORS and all(factors) else 0
    if name == _CONVOLUTION and all(shapes[:2]) and len(shapes) > 1:
        return _count_convolution(shapes, read_inputs())
    # Of (batch, heads, tokens, channels).
    if _attends(own) and all(shapes[:3]) and len(shapes) >= _ATTENDED:
        query, key, value = shapes[:3]
        return 2 * prod(query[:-1]) * key[-2] * (query[-1] + value[-1])
    return 0


def _count_convolution(shapes: Shapes, inputs: Sequence[Any]) -> int:
    """Return the FLOP of aten::convolution(input, weight, bias, stride, padding, dilation, transposed, ...)."""
    image, weight = shapes[:2]
    if len(inputs) <= _TRANSPOSED or not isinstance(inputs[3], list):
        return 0
    stride, padding, dilation, transposed = inputs[3:7]
    if transposed:
        return 2 * prod(image) * prod(weight[1:])
    sides = len(image) - 2
    spread = (values * sides if len(values) == 1 else values for values in (stride, padding, dilation))
    output = [
        (side + 2 * pad - dilated * (kernel - 1) - 1) // step + 1
        for side, kernel, step, pad, dilated in zip(image[2:], weight[2:], *spread, strict=True)
    ]
    return int(2 * image[0] * prod(output) * prod(weight))


@cache
def _attends(own_name: str) -> bool:
    return _FUSED_ATTENTION.fullmatch(own_name) is not None


@cache
def _moves_nothing(name: str) -> bool:
    return _MOVES_NOTHING.fullmatch(name) is not None


def count_bytes(name: str, shapes: Shapes, types: Sequence[str]) -> int | None:
    """Return the bytes of an operator's inputs, None where it moves none of them or a type's size is unknown."""
    if _moves_nothing(name):
        return None
    sized = [(shape, dtype) for shape, dtype in zip(shapes, types, strict=False) if shape]
    if not sized or any(dtype not in _BYTES for _, dtype in sized):
        return None
    return sum(prod(shape) * _BYTES[dtype] for shape, dtype in sized)
