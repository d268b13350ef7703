"""What really ran in a profiled call: kind of attention, library and implementation of convolutions and GEMMs."""

import re
from collections.abc import Iterable
from typing import Any

from sdbench.backends.attention_kernels import find_attention_kinds
from sdbench.backends.onednn import capture_standard_output, read_effective_isa
from sdbench.schema.operators import ATTENTION, CONVOLUTION, GEMM, GEMM_PRECISION
from sdbench.schema.outcome import Check

# The first that matches. By the names that NVIDIA's libraries give their kernels: cuDNN's are made by xmma or name the
# direction of a convolution, cuBLAS's name the architecture, or nvjet from CUDA 12.8 on; cutlass's stand alone.
_LIBRARIES = {
    "Triton": re.compile(r"^triton_"),
    "cutlass": re.compile(r"cutlass", re.IGNORECASE),
    "cuDNN": re.compile(r"cudnn|implicit_(convolve|gemm)|fprop|winograd|fft2d|nchwToNhwc|nhwcToNchw|conv2d_c1"),
    "cuBLAS": re.compile(r"gemm|gemv|cublas|nvjet|dot_kernel|splitK", re.IGNORECASE),
}
# s1688gemm without a type is TF32; nvjet names its types by letters: h is fp16, t is bf16.
_PRECISIONS = {
    "tf32": re.compile(r"tf32|(?<![a-z0-9])s1688gemm_(?!fp16|bf16|f16)"),
    "bf16": re.compile(r"bf16|bfloat16|nvjet_t"),
    "fp8": re.compile(r"e4m3|e5m2|fp8"),
    "fp16": re.compile(r"fp16|f16f16|_f16|half|hgemm|h884|h1688|h16816|nvjet_h", re.IGNORECASE),
    "fp32": re.compile(r"sgemm|f32f32|_f32|float|simt_s|nvjet_s"),
}
_LAYOUT = re.compile(r"nchwToNhwc|nhwcToNchw|splitK", re.IGNORECASE)
_GEMM_OPERATOR = re.compile(r"aten::(_scaled_|_int_)?(add|badd|b)?(mm|mv)_?")
_CONVOLUTION_OPERATOR = re.compile(r"aten::\w*conv\w*")
# Of torch's own convolutions: they unfold the image and multiply.
_OWN_CONVOLUTION = re.compile(r"aten::_?(slow_conv\w*)_forward")
_ONEDNN_GEMMS = ("matmul", "inner_product")
_ONEDNN_TYPE = re.compile(r"\bsrc(?:_a)?:(\w+)")
_TYPES = {"f32": "fp32", "f16": "fp16", "bf16": "bf16"}
_MKL = re.compile(r"MKL_VERBOSE (\w*GEMM\w*?)(?:_BATCH\w*|_COMPUTE)?\(")
_MKL_PRECISIONS = {"SGEMM": "fp32", "GEMM_BF16BF16F32": "bf16", "GEMM_F16F16F32": "fp16", "HGEMM": "fp16"}
_NAMES = {
    CONVOLUTION: "convolution library",
    GEMM: "GEMM library",
    GEMM_PRECISION: "GEMM precision",
}

_Ran = dict[str, set[str]]


def describe_kernels(launched: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Return what ran on a GPU, from pairs of an operator and a kernel that it launched."""
    ran: _Ran = {}
    for operator, kernel in launched:
        library = next((name for name, pattern in _LIBRARIES.items() if pattern.search(kernel)), None)
        if _LAYOUT.search(kernel):
            continue
        if _CONVOLUTION_OPERATOR.fullmatch(operator):
            ran.setdefault(CONVOLUTION, set()).add(library or "torch")
        elif _GEMM_OPERATOR.fullmatch(operator) and library:
            ran.setdefault(GEMM, set()).add(library)
            precision = next((name for name, pattern in _PRECISIONS.items() if pattern.search(kernel)), "unknown")
            ran.setdefault(GEMM_PRECISION, set()).add(precision)
    return _join(ran)


def describe_attention_of(names: Iterable[str]) -> dict[str, str]:
    """Return the kinds of attention among the names of a denoiser's operators and kernels."""
    kinds = find_attention_kinds(names)
    return {ATTENTION: ", ".join(sorted(kinds))} if kinds else {}


def describe_cpu(operators: Iterable[str], lines: Iterable[str]) -> dict[str, str]:
    """Return what ran on the CPU, from names of operators and from what oneDNN and MKL wrote of themselves."""
    ran: _Ran = {}
    for line in lines:
        # onednn_verbose,v1,primitive,exec,cpu,convolution,jit:avx2,forward_training,src:f32::blocked:..., ...
        if line.startswith("onednn_verbose") and ",exec,cpu," in line:
            primitive, implementation, _, memory = line.partition(",exec,cpu,")[2].split(",")[:4]
            _add_onednn(ran, primitive, implementation, memory, line)
        elif match := _MKL.match(line):
            ran.setdefault(GEMM, set()).add(f"MKL {match[1]}")
            ran.setdefault(GEMM_PRECISION, set()).add(_MKL_PRECISIONS.get(match[1], "unknown"))
    for name in set(operators):
        if match := _OWN_CONVOLUTION.fullmatch(name):
            ran.setdefault(CONVOLUTION, set()).add(f"torch {match[1]}")
    return _join(ran)


def _add_onednn(ran: _Ran, primitive: str, implementation: str, memory: str, line: str) -> None:
    match = _ONEDNN_TYPE.search(memory)
    precision = _TYPES.get(match[1], match[1]) if match else "unknown"
    if "fpmath:" in line:
        precision = f"{precision} as {line.partition('fpmath:')[2].partition(',')[0].partition(' ')[0]}"
    if primitive in ("convolution", "deconvolution"):
        ran.setdefault(CONVOLUTION, set()).add(f"oneDNN {implementation} {precision}")
    elif primitive in _ONEDNN_GEMMS:
        ran.setdefault(GEMM, set()).add(f"oneDNN {implementation}")
        ran.setdefault(GEMM_PRECISION, set()).add(precision)


def run_verbosely(call: Any) -> list[str]:
    """Return what oneDNN and MKL write to standard output while ``call`` runs; nothing where torch has neither."""
    import torch

    # It reads what oneDNN writes once a process, so it comes first.
    read_effective_isa()
    mkldnn: Any = torch.backends.mkldnn
    mkl: Any = torch.backends.mkl
    if not (mkldnn.is_available() and mkl.is_available()):
        return []
    with capture_standard_output() as lines, mkldnn.verbose(1), mkl.verbose(1):
        call()
    return lines


def make_checks(ran: dict[str, str]) -> tuple[Check, ...]:
    """Return what ran as checks without an expectation; attention is checked in every launch, apart from these."""
    return tuple(
        Check(name=name, expected="any", observed=ran[key], passed=True) for key, name in _NAMES.items() if key in ran
    )


def _join(ran: _Ran) -> dict[str, str]:
    return {name: ", ".join(sorted(values)) for name, values in ran.items()}
