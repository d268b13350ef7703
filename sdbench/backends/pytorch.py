"""Backend ``pytorch``: the stock diffusers pipeline, eager, on CPU or CUDA."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sdbench.backends.attention_kernels import observe_attention
from sdbench.backends.base import Clock, Profile
from sdbench.backends.diffusers_call import DiffusersCall, check_device, check_tf32_override, require_passed
from sdbench.backends.observed_call import check
from sdbench.backends.profiled_call import profile_pipeline
from sdbench.backends.torch_call import ANY_KERNEL, TorchCall, name_dtype, on_or_off
from sdbench.errors import EnvironmentProblem
from sdbench.models import libraries
from sdbench.models.networks import dtype_of_parameter
from sdbench.models.pipeline import build_pipeline, dtype_of, fetch_networks
from sdbench.models.work import keep_counts
from sdbench.schema.base import Known, Reading
from sdbench.schema.experiment import Attention, Experiment, Tf32
from sdbench.schema.outcome import Check
from sdbench.schema.wire import Stage
from sdbench.schema.workload_results import AllocatorEvents

if TYPE_CHECKING:
    import torch

# NVIDIA Ampere tuning guide: TF32 tensor cores came with compute capability 8.0; older cards run IEEE fp32.
_TF32_CAPABILITY = (8, 0)
# The processors of diffusers by option; torch's scaled_dot_product_attention is its default where torch has it.
_SDPA_PROCESSOR = "AttnProcessor2_0"
_PROCESSORS: dict[str, str] = {
    "eager": "AttnProcessor",
    "sliced": "SlicedAttnProcessor",
    "xformers": "XFormersAttnProcessor",
}
# torch.nn.attention.SDPBackend by option.
_KERNELS: dict[str, str] = {
    "sdpa-math": "MATH",
    "sdpa-flash": "FLASH_ATTENTION",
    "sdpa-efficient": "EFFICIENT_ATTENTION",
    "sdpa-cudnn": "CUDNN_ATTENTION",
}


def import_libraries() -> None:
    """Import torch, diffusers and transformers."""
    libraries.import_libraries()


def fetch(experiment: Experiment, device: str, cache_folder: Path, emit_stage: Callable[[Stage], None]) -> None:
    """Download or draw weights that are not in ``cache_folder`` yet; raises as ``BackendModule`` does."""
    del device  # The weights of every device.
    fetch_networks(experiment, cache_folder, emit_stage)
    keep_counts(experiment, cache_folder)


def open_backend(experiment: Experiment, device: str, cache_folder: Path, thread_count: int) -> "PytorchBackend":
    """Return the loaded pipeline with attention, VAE and memory layout as configured; raises as ``BackendModule``."""
    import torch

    check_device(device)
    torch.set_num_threads(thread_count)
    if experiment.inter_op_threads is not None:
        torch.set_num_interop_threads(experiment.inter_op_threads)
    set_tf32(torch, experiment.tf32)
    built = build_pipeline(experiment, device, cache_folder)
    denoiser = getattr(built.pipeline, built.config.denoiser_name)
    _choose_attention(experiment.attention, denoiser)
    if experiment.vae_slicing:
        built.pipeline.vae.enable_slicing()
    if experiment.vae_tiling:
        built.pipeline.vae.enable_tiling()
    if experiment.channels_last:
        for network in (denoiser, built.pipeline.vae):
            network.to(memory_format=torch.channels_last)
    return PytorchBackend(experiment, torch.device(device), built, cache_folder)


def _choose_attention(attention: Attention, denoiser: Any) -> None:
    """Set the attention of every layer of ``denoiser``; a forced kernel that cannot run makes the call fail.

    The kernel is forced within the denoiser only: the VAE's one head of 512 channels and the text encoder's mask fit
    few kernels.
    """
    if attention == "xformers":
        if find_spec("xformers") is None:
            raise EnvironmentProblem("attention: xformers needs the package xformers; install it, or omit the option")
        denoiser.enable_xformers_memory_efficient_attention()
    elif attention == "sliced":
        denoiser.set_attention_slice("auto")
    elif attention == "eager":
        from diffusers.models.attention_processor import AttnProcessor

        denoiser.set_attn_processor(AttnProcessor())
    elif attention in _KERNELS:
        from torch.nn.attention import SDPBackend, sdpa_kernel

        forward, kernel = denoiser.forward, getattr(SDPBackend, _KERNELS[attention])

        def forward_with_kernel(*args: Any, **kwargs: Any) -> Any:
            with sdpa_kernel([kernel]):
                return forward(*args, **kwargs)

        denoiser.forward = forward_with_kernel


def set_tf32(torch: Any, tf32: Tf32) -> None:
    """Switch TF32 on or off for matrix products and for convolutions, which have opposite defaults in torch."""
    precisions = _expected_precisions(tf32)
    torch.backends.cuda.matmul.fp32_precision = precisions["matmul"]
    torch.backends.cudnn.conv.fp32_precision = precisions["convolutions"]


class PytorchBackend(DiffusersCall):
    """The pipeline with torch's own networks."""

    _observer = TorchCall

    def read_allocator_events(self) -> Reading[AllocatorEvents]:
        """Return torch's counts since the process began; it keeps none on the CPU."""
        if not self._cuda:
            return super().read_allocator_events()
        counts = self._cuda.memory_stats(self.device)
        return Known(
            value=AllocatorEvents(retries=counts["num_alloc_retries"], caught_out_of_memory=counts["num_ooms"])
        )

    def observe_attention(self) -> tuple[Check, ...]:
        """Return the check of the attention kernels that ran; raises as ``Backend.observe_attention`` does."""
        experiment = self.experiment
        one_step = self.with_batch(experiment.batch, 1)
        denoiser = getattr(self.pipeline, self.config.denoiser_name)
        kernels = observe_attention(denoiser, self.device, experiment.attention, one_step.generate)
        return require_passed((kernels,))

    def profile_operators(self, clock: Clock, trace_bytes_max: int | None = None) -> Profile:
        """Return the operators of a call, and its kernels on a GPU; raises as ``Backend.profile_operators`` does."""
        return profile_pipeline(self, clock, trace_bytes_max)

    def _around_call(self) -> AbstractContextManager[Any]:
        if self.experiment.autocast == "off":
            return nullcontext()
        import torch

        return torch.autocast(self.device.type, dtype=dtype_of(self.experiment.autocast))

    def _verify(self, call: TorchCall, images: tuple[Any, ...]) -> tuple[Check, ...]:
        import torch

        experiment, denoiser, vae = self.experiment, call.denoiser, self.pipeline.vae
        modules = [getattr(self.pipeline, name) for name in self.config.networks]
        tensors = [tensor for module in modules for tensor in module.parameters()]
        weights = {dtype for module in modules for dtype in _weights_dtypes(module, dtype_of(experiment.precision))}
        computed_in = experiment.precision if experiment.autocast == "off" else experiment.autocast
        checks = [
            check("weights dtype", experiment.precision, weights),
            check("compute dtype", computed_in, call.compute_dtypes),
            check("device", self.device, [tensor.device for tensor in tensors]),
            _check_attention_layers(experiment.attention, denoiser),
            check("attention kernels allowed", _KERNELS.get(experiment.attention, ANY_KERNEL), call.kernels),
            *call.verify(experiment, images, self.work.denoiser_calls),
            check("gradients", "off", call.gradients),
            check("evaluation mode", "on", [on_or_off(not module.training) for module in modules]),
        ]
        if experiment.vae_tiling:
            # Tiling starts beyond the tile's size, so below it nothing is cut.
            tiled = max(experiment.width, experiment.height) > vae.tile_sample_min_size
            cut = "cut" if call.decoder_calls > experiment.batch else "whole"
            checks.append(check("VAE tiling", "cut" if tiled else "whole", [cut]))
        elif experiment.vae_slicing:
            checks.append(check("VAE slices", experiment.batch, [call.decoder_calls]))
        if experiment.channels_last:
            kernels = [network.conv_in.weight for network in (denoiser, vae.decoder)]
            last = [kernel.is_contiguous(memory_format=torch.channels_last) for kernel in kernels]
            layouts = ["channels last" if is_last else "contiguous" for is_last in last]
            checks.append(check("memory layout", "channels last", layouts))
        if experiment.threads is not None:
            checks.append(check("threads", experiment.threads, [torch.get_num_threads()]))
        return (*checks, *self.check_fp32())

    def check_fp32(self) -> tuple[Check, ...]:
        """Return the checks of whether fp32 is computed with TF32; raises as ``Backend.check_fp32`` does."""
        import torch

        if self.device.type != "cuda":
            return ()
        capability = torch.cuda.get_device_capability(self.device)
        return require_passed(tuple(tf32_checks(self.experiment.tf32, capability)))

    def _version_and_threads(self) -> tuple[str, int]:
        import torch

        return str(torch.__version__), torch.get_num_threads()


def _weights_dtypes(network: Any, dtype: "torch.dtype") -> set[str]:
    """Return the types of a network's weights; those that its class keeps in fp32 count as ``dtype`` if they are."""
    kept = {name: dtype_of_parameter(network, name, dtype) for name, _ in network.named_parameters()}
    return {
        name_dtype(dtype if tensor.dtype == kept[name] else tensor.dtype) for name, tensor in network.named_parameters()
    }


def _check_attention_layers(attention: Attention, denoiser: Any) -> Check:
    """Return the check of how a denoiser's layers attend: the class of a UNet's processors, the backend of others."""
    if hasattr(denoiser, "up_blocks"):
        processor = _PROCESSORS.get(attention, _SDPA_PROCESSOR)
        return check(
            "attention processor", processor, [type(item).__name__ for item in denoiser.attn_processors.values()]
        )
    # diffusers lets an environment variable replace torch's own attention in transformers.
    from diffusers.models.attention_dispatch import _AttentionBackendRegistry

    name, _ = _AttentionBackendRegistry.get_active_backend()
    return check("attention backend", "native", [name.value])


def _expected_precisions(tf32: Tf32) -> dict[str, str]:
    """Return torch's ``fp32_precision`` of matrix products and of convolutions that an option stands for."""
    return {"matmul": "tf32" if tf32 is True else "ieee", "convolutions": "tf32" if tf32 else "ieee"}


def tf32_checks(tf32: Tf32, capability: tuple[int, int]) -> list[Check]:
    """Return the checks of TF32; ``convolutions``, torch's default, is what ran on a card without TF32 too."""
    import torch

    backends: Any = torch.backends
    checks = []
    if tf32 is True and capability < _TF32_CAPABILITY:
        checks.append(check("TF32 hardware", "compute capability 8.0 or newer", ["older"]))
    checks += check_tf32_override(tf32)
    observed = {"matmul": backends.cuda.matmul.fp32_precision, "convolutions": backends.cudnn.conv.fp32_precision}
    checks += [
        check(f"TF32 {name}", expected, [observed[name]]) for name, expected in _expected_precisions(tf32).items()
    ]
    return checks
