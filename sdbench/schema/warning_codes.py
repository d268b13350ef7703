"""The kinds of warnings that records hold; the table in docs/reference/record.md is made from them."""

from enum import StrEnum
from typing import Self


class WarningCode(StrEnum):
    """A kind of warning, with what it means and what to do."""

    description: str
    hint: str

    def __new__(cls, code: str, description: str, hint: str) -> Self:
        """Return the member of a code."""
        member = str.__new__(cls, code)
        member._value_ = code
        member.description = description
        member.hint = hint
        return member

    ALLOCATOR_RETRIES = (
        "allocator-retries",
        "the GPU's memory hardly sufficed: torch freed its cache and tried again, or did without",
        "use a smaller batch: the time is not what the machine can do",
    )
    BUSY_BEFORE = (
        "busy-before",
        "other programs used the CPU at the start",
        "stop other programs, wait a minute, run again",
    )
    CEILINGS_MISSING = (
        "ceilings-missing",
        "what the machine reaches at best could not be measured, in all or in part",
        "no result is affected; see the reason, and sdbench ceilings",
    )
    COMPUTES_IN_FP32 = (
        "computes-in-fp32",
        "onnxruntime computes fp16 networks in fp32 on the CPU",
        "do not read its accuracy as that of fp16; use fp32 on the CPU",
    )
    CPU_QUOTA = (
        "cpu-quota",
        "a CPU limit throttled the process in timed calls",
        "set threads to at most the limit, or raise it (docker run --cpus, the pod's limits.cpu)",
    )
    DIRTY_CHECKOUT = ("dirty-checkout", "sdbench ran from a changed checkout", "commit before measuring for others")
    EXPORT_REBUILT = (
        "export-rebuilt",
        "a cached ONNX export was damaged or outdated and was made again",
        "no action is needed; if it recurs without a new version, check the disk",
    )
    FOREIGN_GPU_PROCESS = (
        "foreign-gpu-process",
        "another process computed on the GPU",
        "stop it (see nvidia-smi), run again",
    )
    GPU_CLOCK_LOW = (
        "gpu-clock-low",
        "the GPU's clock was far below its maximum under load, and nothing throttled it",
        "look for locked clocks (nvidia-smi -q -d CLOCK; undo them with -rgc and -rac), the power limit and cooling",
    )
    GPU_POWER_LIMIT = (
        "gpu-power-limit",
        "the GPU ran at its power limit",
        "usual at full load; compare only with runs under the same power limit",
    )
    GPU_THROTTLED = (
        "gpu-throttled",
        "the GPU slowed itself because of heat or a hardware slowdown",
        "check cooling and power supply, then run again",
    )
    HOST_BOUND = (
        "host-bound",
        "the GPU waited for Python in more than half of the denoiser calls",
        "the result is the CPU's as much as the GPU's: measure larger batches, or compare GPUs on one host only",
    )
    HOST_PAGING = (
        "host-paging",
        "torch held more GPU memory than there is: the driver moves it to the host and back",
        "use a smaller batch, or set the driver's CUDA sysmem fallback policy to prefer no sysmem fallback",
    )
    IMAGES_DIFFER = (
        "images-differ",
        "calls with the same seed gave different images",
        "expect this of nondeterministic kernels; do not read image hashes as an identity here",
    )
    KERNELS_NOT_READ = (
        "kernels-not-read",
        "torch's profiler saw no kernel of the GPU",
        "let programs profile the GPU: docker run --cap-add SYS_ADMIN, or NVreg_RestrictProfilingToAdminUsers=0",
    )
    MACHINE_DRIFTED = (
        "machine-drifted",
        "the machine itself was slower or faster at the end of the run than at its beginning",
        "look for heat, other load or another power limit, then run again; do not compare early with late experiments",
    )
    MEMORY_PRESSURE = ("memory-pressure", "processes waited for memory", "free memory, or measure a smaller batch")
    NOT_FINITE = (
        "not-finite",
        "the decoder's output has values that are not finite, or the image has one color only",
        "use bf16 or fp32, or weights that are finite in this precision",
    )
    NOT_FORKED = (
        "not-forked",
        "the launch was spawned, because a fork of its template would not have been safe",
        "compare it with spawned launches; see docs/methodology/isolation.md",
    )
    OPERATORS_NOT_READ = (
        "operators-not-read",
        "the profiler failed, so it is not known where the time of a call goes",
        "the results are not affected; set protocol.operators to never to do without",
    )
    OTHER_LOAD = (
        "other-load",
        "other programs used the CPU during the launch",
        "close them and run again, or trust only large differences",
    )
    PHASES_DIFFER = (
        "phases-differ",
        "the observed call took a different time than the timed calls",
        "read the phases as shares only, or quiet the machine",
    )
    PHASES_OF_FIRST_CALL = (
        "phases-of-first-call",
        "the only warm-up call is the first one, and the phases are of it",
        "read the phases as shares only, or set warmup_calls to 2 or more",
    )
    STEAL = ("steal", "the hypervisor gave CPU time to others", "use a dedicated host, or take more launches")
    SYNTHETIC_WEIGHTS = ("synthetic-weights", "random weights make images of noise", "use --weights pretrained")
    TRACE_NOT_KEPT = (
        "trace-not-kept",
        "the trace of the profiled call is larger than its limit",
        "raise protocol.trace_bytes_max, or measure fewer steps",
    )
    TRACE_NOT_MADE = (
        "trace-not-made",
        "onnxruntime's profile on the CPU is of each network alone, and no trace of the call",
        "use backend: pytorch, or a GPU",
    )
    VIRTUAL = ("virtual", "simulated results of the virtual backend", "use it to try sdbench, not to judge machines")
    WEIGHTS_DRAWN_AGAIN = (
        "weights-drawn-again",
        "kept synthetic weights were damaged and were drawn again",
        "no action is needed; if it recurs, check the disk",
    )
    WEIGHTS_NOT_KEPT = (
        "weights-not-kept",
        "synthetic weights could not be kept in the cache folder, so every launch draws them",
        "make room in the cache folder, or set SDBENCH_CACHE to another; loading takes longer until then",
    )
