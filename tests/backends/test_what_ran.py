"""What ran, by the names of kernels on a GPU, and by what oneDNN and MKL write of themselves on the CPU."""

from typing import Any

import pytest

from sdbench.backends.what_ran import describe_attention_of, describe_cpu, describe_kernels, make_checks, run_verbosely
from sdbench.schema.operators import ATTENTION, CONVOLUTION, GEMM, GEMM_PRECISION

ONEDNN = "onednn_verbose,v1,primitive,exec,cpu,"


@pytest.mark.parametrize(
    ("kernel", "library", "precision"),
    [
        ("ampere_fp16_s16816gemm_fp16_128x128_ldg8_f2f_stages_32x5_nn", "cuBLAS", "fp16"),
        ("ampere_bf16_s16816gemm_bf16_128x64_ldg8_f2f_stages_64x3_tn", "cuBLAS", "bf16"),
        ("ampere_sgemm_128x64_tn", "cuBLAS", "fp32"),
        ("volta_sgemm_64x64_nn", "cuBLAS", "fp32"),
        ("turing_fp16_s884gemm_fp16_128x128_ldg8_f2f_tn", "cuBLAS", "fp16"),
        ("sm80_xmma_gemm_f32f32_tf32f32_f32_tn_n_tilesize128x128x16_stage4", "cuBLAS", "tf32"),
        ("sm90_xmma_gemm_bf16bf16_bf16f32_f32_tn_n_tilesize128x128x64_warpgroupsize1x1x1", "cuBLAS", "bf16"),
        ("cutlass_80_tensorop_s1688gemm_128x256_16x3_nn_align4", "cutlass", "tf32"),
        ("cutlass::Kernel2<cutlass_80_simt_sgemm_128x128_8x4_nn_align1>", "cutlass", "fp32"),
        ("cutlass_80_wmma_tensorop_bf16_s161616gemm_bf16_16x16_128x2_tn_align8", "cutlass", "bf16"),
        ("nvjet_hsh_128x256_64x4_1x2_h_bz_coopA_TNT", "cuBLAS", "fp16"),
        ("nvjet_tst_128x256_64x4_1x2_h_bz_coopA_TNT", "cuBLAS", "bf16"),
    ],
)
def test_library_and_precision_of_a_matrix_product(kernel: str, library: str, precision: str) -> None:
    assert describe_kernels([("aten::addmm", kernel)]) == {GEMM: library, GEMM_PRECISION: precision}


@pytest.mark.parametrize(
    ("kernel", "library"),
    [
        ("sm80_xmma_fprop_implicit_gemm_tf32f32_tf32f32_f32_nhwckrsc_nchw_tilesize128x128x16", "cuDNN"),
        ("cudnn::winograd_nonfused::winogradForwardData4x4<float, float>", "cuDNN"),
        ("implicit_convolve_sgemm<float, float, 1024, 5, 5>", "cuDNN"),
        ("cutlass__5x_cudnn::Kernel<cutlass_tensorop_f16_s16816fprop_optimized_f16_128x128>", "cutlass"),
        ("conv_depthwise2d_forward_kernel<3>", "torch"),
    ],
)
def test_library_of_a_convolution(kernel: str, library: str) -> None:
    pairs = [("aten::cudnn_convolution", kernel), ("aten::cudnn_convolution", "cudnn::ops::nchwToNhwcKernel<half>")]
    assert describe_kernels(pairs) == {CONVOLUTION: library}


def test_several_libraries_are_named_in_one_order_and_other_kernels_are_not() -> None:
    pairs = [
        ("aten::mm", "ampere_sgemm_128x64_tn"),
        ("aten::bmm", "cutlass_80_tensorop_s1688gemm_128x256_16x3_nn_align4"),
        ("aten::mm", "cublasLt::splitKreduce_kernel<32, 16, int, float>"),
        ("aten::add", "vectorized_elementwise_kernel<4, CUDAFunctor_add<float> >"),
    ]
    expected = {GEMM: "cuBLAS, cutlass", GEMM_PRECISION: "fp32, tf32"}
    assert describe_kernels(pairs) == describe_kernels(reversed(pairs)) == expected


def test_cpu_is_described_by_what_onednn_and_mkl_write() -> None:
    lines = [
        "onednn_verbose,v1,primitive,info,template:operation,engine,primitive,implementation,prop_kind",
        f"{ONEDNN}convolution,brgconv:avx512_core,forward_training,src:f32::blocked:abcd::f0 wei:f32:a,,,,0.1",
        f"{ONEDNN}convolution,jit:avx2,forward_training,src:f32:a:blocked:abcd::f0 wei:f32:a,,,,0.1",
        f"{ONEDNN}matmul,brg_matmul:avx512_core_bf16,undef,src:bf16::blocked:ab::f0 wei:bf16:a,,,77x32:32x32,0.02",
        f"{ONEDNN}matmul,brg_matmul:amx,undef,src_a:f32::blocked:ab::f0,attr-fpmath:bf16:true attr-x:y,,77x32,0.02",
        f"{ONEDNN}reorder,jit:uni,undef,src:f32::blocked:abcd::f0,,,1x4,0.006",
        "MKL_VERBOSE oneMKL 2024.0 Update 2 Product build 20240605 for Intel(R) 64 architecture",
        "MKL_VERBOSE SGEMM(T,N,32,77,32,0x7ffc,0x7f7b,32) 41.01us CNR:OFF Dyn:0 FastMM:1 TID:0  NThr:1",
        "MKL_VERBOSE GEMM_BF16BF16F32(T,N,77,32,8,0x7ffd,0x555a,32) 45.22us CNR:OFF Dyn:0",
        "a line of somebody else",
    ]
    assert describe_cpu(["aten::_slow_conv2d_forward", "aten::mm"], lines) == {
        CONVOLUTION: "oneDNN brgconv:avx512_core fp32, oneDNN jit:avx2 fp32, torch slow_conv2d",
        GEMM: "MKL GEMM_BF16BF16F32, MKL SGEMM, oneDNN brg_matmul:amx, oneDNN brg_matmul:avx512_core_bf16",
        GEMM_PRECISION: "bf16, fp32, fp32 as bf16:true",
    }


def test_attention_is_of_the_kinds_that_its_names_show() -> None:
    assert describe_attention_of(["aten::_scaled_dot_product_attention_math", "aten::mm"]) == {ATTENTION: "math"}
    assert describe_attention_of(["aten::mm"]) == {}


def test_what_torch_calls_is_written_by_the_libraries_themselves_and_nothing_reaches_standard_output(
    capfd: pytest.CaptureFixture[str],
) -> None:
    import torch

    def call() -> Any:
        with torch.inference_mode():
            torch.conv2d(torch.zeros(2, 64, 32, 32), torch.zeros(64, 64, 3, 3))
            return torch.mm(torch.zeros(64, 64), torch.zeros(64, 64))

    ran = describe_cpu([], run_verbosely(call))
    assert ran[CONVOLUTION].startswith("oneDNN ")
    assert ran[GEMM_PRECISION] == "fp32"
    assert capfd.readouterr().out == ""


def test_what_ran_is_checked_without_an_expectation() -> None:
    checks = make_checks({ATTENTION: "flash", GEMM: "cuBLAS", GEMM_PRECISION: "tf32"})
    assert [(check.name, check.observed) for check in checks] == [
        ("GEMM library", "cuBLAS"),
        ("GEMM precision", "tf32"),
    ]
    assert all(check.passed and check.expected == "any" for check in checks)
