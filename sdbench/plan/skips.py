"""Why an experiment cannot run on this machine, found before anything is loaded."""

from collections.abc import Iterator
from importlib.util import find_spec

from sdbench.backends.onnx_parts import find_unexportable
from sdbench.models.pipeline_folders import find_pipeline
from sdbench.plan.families import attending_blocks
from sdbench.plan.machine import Capability, Machine, computes_in
from sdbench.schema.experiment import Experiment
from sdbench.schema.outcome import Skipped
from sdbench.store.cache_folder import cache_folder
from sdbench.units import format_bytes

# What rules an experiment out, and the hint.
Problem = tuple[str, str]

# The estimate is rough: skip only what is clearly too large.
SKIP_RATIO = 1.5
# torch's kernels of these names exist for CUDA only.
_CUDA_ATTENTION = ("sdpa-cudnn", "sdpa-efficient", "xformers")
# What the kernels of SDPA take: pytorch, aten/src/ATen/native/transformers/cuda/sdp_utils.cpp. Flash and cuDNN: fp16
# and bf16, from 8.0 on. Flash pads heads to a multiple of 8 channels, the others do not. cuDNN 9.10 or newer: heads of
# 256 channels on 9.0, of 128 elsewhere. cuDNN has no convolutions in bf16 before 8.0 either, and TF32 came with it.
_AMPERE: Capability = (8, 0)
_HALF_ONLY = ("sdpa-flash", "sdpa-cudnn")
_CUDNN_HEAD_DIM_MAX: dict[Capability, int] = {(9, 0): 256}
_CUDNN_HEAD_DIM_ELSEWHERE = 128
_ALIGNED = ("sdpa-cudnn", "sdpa-efficient")
_ALIGNED_DIM = 8
# What an option needs beyond torch and diffusers, by the module's name.
_MODULES_OF: dict[tuple[str, str], tuple[str, ...]] = {
    ("backend", "onnxruntime"): ("onnxruntime", "onnx", "onnxscript"),
    ("attention", "xformers"): ("xformers",),
}


def reason_to_skip(
    experiment: Experiment, machine: Machine, needed_bytes: int, weights_bytes: int = 0
) -> Skipped | None:
    """Return why this machine cannot run an experiment, with a hint, or None.

    ``needed_bytes`` is a rough estimate, ``weights_bytes`` a part of it that is certain.
    """
    problems = (
        *_find_problems(experiment, machine),
        *_find_memory_problems(machine, needed_bytes, weights_bytes),
        *_find_gpu_problems(experiment, machine.compute_capability),
        *_find_missing_packages(experiment),
    )
    return next((Skipped(reason=reason, hint=hint) for reason, hint in problems), None)


def _find_problems(experiment: Experiment, machine: Machine) -> Iterator[Problem]:
    attention, device, cpu_count = experiment.attention, machine.kind, machine.present_cpu_count
    if experiment.device not in ("any", device):
        reason = f"the experiment is for {experiment.device}, but this run is on {device}"
        yield reason, f"run again with --device {experiment.device}"
    if experiment.backend == "onnxruntime" and (
        unexportable := find_unexportable(find_pipeline(experiment, cache_folder()))
    ):
        yield unexportable, "use backend: pytorch"
    if device == "cpu" and experiment.tf32 is True:
        yield "TF32 exists only on NVIDIA GPUs", "run it with --device cuda, or set tf32: false"
    if device == "cpu" and attention in _CUDA_ATTENTION:
        yield f"attention: {attention} needs an NVIDIA GPU", "run it with --device cuda, or choose another attention"
    if experiment.threads is not None and experiment.threads > cpu_count:
        reason = f"{experiment.threads} threads requested, but this process may use {cpu_count} CPUs"
        yield reason, f"set threads to at most {cpu_count}, or widen the CPU affinity"


def _find_memory_problems(machine: Machine, needed_bytes: int, weights_bytes: int) -> Iterator[Problem]:
    if (total_bytes := machine.memory_total_bytes) is None:
        return
    memory = f"this {'machine' if machine.kind == 'cpu' else 'GPU'} has {format_bytes(total_bytes)}"
    if weights_bytes > total_bytes:
        reason = f"the weights alone take {format_bytes(weights_bytes)}, {memory}"
        yield reason, "use a smaller precision or pipeline, cut its depth with config, or use more memory"
    # On a GPU running out is a result; on the host it can take the machine down, so the estimate decides.
    if machine.kind == "cpu" and needed_bytes > SKIP_RATIO * total_bytes:
        reason = f"needs about {format_bytes(needed_bytes)} of host memory, {memory}"
        yield reason, "use a smaller batch or image, or a machine with more memory"


def _find_gpu_problems(experiment: Experiment, capability: Capability | None) -> Iterator[Problem]:
    """Yield what the GPU's compute capability rules out, which torch would find out only when the call is made."""
    if capability is None:
        return
    card = f"this GPU has compute capability {capability[0]}.{capability[1]}"
    computes, attention = computes_in(experiment), experiment.attention
    if computes == "bf16" and capability < _AMPERE:
        yield f"bf16 needs compute capability 8.0, {card}", "use fp16"
    if experiment.tf32 is True and capability < _AMPERE:
        yield f"TF32 needs compute capability 8.0, {card}", "set tf32: false"
    if attention in _HALF_ONLY and computes == "fp32":
        yield f"attention: {attention} computes in half precision only", "set precision: fp16, or choose sdpa-efficient"
    if attention in _HALF_ONLY and capability < _AMPERE:
        yield f"attention: {attention} needs compute capability 8.0, {card}", "choose sdpa-efficient"
    dims = [block.head_channels for block in attending_blocks(find_pipeline(experiment, cache_folder()))]
    largest = _CUDNN_HEAD_DIM_MAX.get(capability, _CUDNN_HEAD_DIM_ELSEWHERE)
    if attention == "sdpa-cudnn" and max(dims) > largest:
        reason = f"attention: sdpa-cudnn takes heads of at most {largest} channels here"
        yield f"{reason}, and this denoiser has some of {max(dims)}; {card}", "choose sdpa-flash"
    if attention in _ALIGNED and computes != "fp32" and any(dim % _ALIGNED_DIM for dim in dims):
        reason = f"attention: {attention} takes heads of a multiple of {_ALIGNED_DIM} channels in half precision"
        yield f"{reason}, and this denoiser has some of {min(dims)}", "choose sdpa-flash, or another pipeline"


def _find_missing_packages(experiment: Experiment) -> Iterator[Problem]:
    for (option, value), modules in _MODULES_OF.items():
        missing = [name for name in modules if getattr(experiment, option) == value and find_spec(name) is None]
        if missing:
            names, plural = ", ".join(missing), "s" * (len(missing) > 1)
            reason = f"{option}: {value} needs the package{plural} {names}, not installed here"
            yield reason, f"install {names} (the lock files have tested versions), or choose another {option}"
