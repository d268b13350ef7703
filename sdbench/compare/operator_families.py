"""Families of operators and kernels, by their names: the words in which a difference is explained."""

import re
from typing import Literal

from sdbench.schema.operators import OUTSIDE, REST, OperatorRow

Family = Literal[
    "attention", "convolution", "normalisation", "GEMM", "copies", "elementwise", "outside operators", "the rest"
]
# In this order: cuDNN's convolutions are named after the GEMM that they are, fused attention after its products. The
# batched products and the softmax (of torch: with a look at rows that are masked whole) of these networks are those of
# attention that is not fused.
_PATTERNS: tuple[tuple[Family, str], ...] = (
    # Compiled kernels are named after all that they fuse.
    ("elementwise", r"\btriton_(poi|per|red)_"),
    ("attention", r"attention|attn|fmha|flash|sdpa|softmax|\b(bmm|baddbmm|isneginf|where|all)\b"),
    ("convolution", r"conv|fprop|dgrad|winograd|im2col"),
    ("normalisation", r"norm|welford|rowwisemoments"),
    ("GEMM", r"gemm|gemv|matmul|addmm|int_mm|scaled_mm|linear|\b(addmv|mm|mv|einsum)\b|cutlass|cublas|nvjet|splitk"),
    ("copies", r"copy|memcpy|memset|clone|contiguous|\bcat\b|catarray|transpose|reorder|\b(fill|zero)_?\b"),
)
_FAMILIES = tuple((family, re.compile(pattern, re.IGNORECASE)) for family, pattern in _PATTERNS)
_FIXED: dict[str, Family] = {OUTSIDE: "outside operators", REST: "the rest"}
# What follows a kernel's own name, and kernels whose names do not say what they compute.
_ARGUMENTS = re.compile(r"[<(].*")
_GENERIC = re.compile(r"elementwise|reduce_kernel|^kernel\d*$", re.IGNORECASE)
_NAME_CHARACTERS = 44


def family_of(row: OperatorRow) -> Family:
    """Return the family of a row: that of its operator, or of its kernel where the operator's name says nothing."""
    if row.operator in _FIXED:
        return _FIXED[row.operator]
    names = [row.operator] if row.kernel is None else [row.operator, row.kernel]
    matches = (family for name in names for family, pattern in _FAMILIES if pattern.search(name.replace("::", " ")))
    return next(matches, "elementwise")


def short_name(row: OperatorRow) -> str:
    """Return the name of a row's kernel, where it says something, else of its operator, as short as it can be."""
    kernel = _ARGUMENTS.sub("", (row.kernel or "").removeprefix("void ")).rpartition("::")[2]
    name = kernel if kernel and not _GENERIC.search(kernel) else row.operator.removeprefix("aten::")
    return name if len(name) <= _NAME_CHARACTERS else f"{name[: _NAME_CHARACTERS - 1]}…"
