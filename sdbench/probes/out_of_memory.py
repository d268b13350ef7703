"""Which memory an error says was too small, by what the libraries write.

torch raises its own class for its allocator on the GPU alone; all else is a RuntimeError known by its text.
"""

import errno
import re
from typing import Literal

Memory = Literal["device", "host"]


def _any_of(*patterns: str) -> re.Pattern[str]:
    return re.compile("|".join(patterns), re.IGNORECASE)


_DEVICE = _any_of(
    # torch c10/cuda: CUDACachingAllocator.cpp, CUDAException.cpp, driver_api.h; onnxruntime cuda_call.cc: "failure 2".
    r"CUDA( error:| driver error:| failure \d+:)? out of memory",
    # cuda.h, driver_types.h: what is named and not put into words.
    r"CUDA_ERROR_OUT_OF_MEMORY|cudaErrorMemoryAllocation",
    # cuBLAS, cuSOLVER, cuSPARSE; cuDNN before 9.
    r"CU[A-Z]+_STATUS_ALLOC_FAILED",
    # cuDNN 9, cudnn_graph.h.
    r"CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED",
    # torch CUDACachingAllocator.cpp: NVML may not be asked (MIG, Tegra) while an out-of-memory is put into words.
    r'NVML_SUCCESS == .*INTERNAL ASSERT FAILED at "[^"]*CUDACachingAllocator',
)
_HOST = _any_of(
    # torch c10/core/impl/alloc_cpu.cpp and SizesAndStrides.h; MKL.
    r"(can't|could not) allocate memory|not enough memory",
    # strerror(ENOMEM): torch aten/src/ATen/MapAllocator.cpp, "unable to mmap ... bytes from file" (safetensors#528).
    r"cannot allocate memory",
    r"std::bad_alloc",  # libstdc++
    r"CUDNN_STATUS_INTERNAL_ERROR_HOST_ALLOCATION_FAILED",  # cuDNN 9, cudnn_graph.h
)
# These have other reasons too, but not for a network that has just run with a smaller batch.
_DEVICE_AFTER = _any_of(
    # torch aten/src/ATen/native/cudnn/Conv_v8.cpp ("GET", "FIND") and Conv_v7.cpp: no plan had its workspace.
    r"was unable to find an engine to execute this computation|Unable to find a valid cuDNN algorithm",
    # A handle gets no memory (flexflow-train#51); kernels are loaded when they are first needed (pytorch#81620).
    r"(CUBLAS|CUDNN)_STATUS_NOT_INITIALIZED|CUDNN_STATUS_INTERNAL_ERROR\b",
)
# All that oneDNN reports when it gets no memory.
_HOST_AFTER = _any_of(r"could not (create|execute) a primitive", r"could not create a memory")


def where_memory_ran_out(error: BaseException, *, ran_before: bool = False) -> Memory | None:
    """Return which memory an exception says was too small, or None for any other exception.

    ``ran_before``: the same with a smaller batch has run before.
    """
    # torch's class by its name, without importing torch here.
    if type(error).__name__ == "OutOfMemoryError":
        return "device"
    if isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno == errno.ENOMEM):
        return "host"
    return find_memory(str(error), ran_before=ran_before) if isinstance(error, RuntimeError) else None


def find_memory(text: str, *, ran_before: bool = False) -> Memory | None:
    """Return which memory a message says was too small; ``ran_before`` as for ``where_memory_ran_out``."""
    if _DEVICE.search(text):
        return "device"
    if _HOST.search(text):
        return "host"
    if not ran_before:
        return None
    if _DEVICE_AFTER.search(text):
        return "device"
    return "host" if _HOST_AFTER.search(text) else None
