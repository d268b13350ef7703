"""How the UNet attends: diffusers' processors, and which of torch's kernels scaled_dot_product_attention may take."""

from importlib import import_module
from importlib.util import find_spec
from typing import Any

from sdbench.errors import EnvironmentProblem
from sdbench.schema.experiment import Attention

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
ANY_KERNEL = "any"


def choose_attention(attention: Attention, unet: Any) -> None:
    """Set the attention of every layer of ``unet``; a forced kernel that cannot run makes the call fail, not fall back.

    The kernel is forced within the UNet only: the VAE's one head of 512 channels and the text encoder's mask fit few
    kernels.

    Raises:
        EnvironmentProblem: xformers is asked for and not installed.
    """
    if attention == "xformers":
        if find_spec("xformers") is None:
            raise EnvironmentProblem(
                "attention: xformers needs the package xformers; install it, or leave the option out"
            )
        unet.enable_xformers_memory_efficient_attention()
    elif attention == "sliced":
        unet.set_attention_slice("auto")
    elif attention == "eager":
        from diffusers.models.attention_processor import AttnProcessor

        unet.set_attn_processor(AttnProcessor())
    elif attention in _KERNELS:
        _force_kernel(unet, _KERNELS[attention])


def expected_processor(attention: Attention) -> str:
    """Return the name of the processor class that an option stands for."""
    return _PROCESSORS.get(attention, _SDPA_PROCESSOR)


def expected_kernel(attention: Attention) -> str:
    """Return what ``allowed_kernels`` says inside the UNet when the option is in force."""
    return _KERNELS.get(attention, ANY_KERNEL)


def allowed_kernels() -> str:
    """Return which kernels scaled_dot_product_attention may take at this moment: ``any``, or their names."""
    cuda: Any = import_module("torch.backends.cuda")
    switches = {
        "MATH": cuda.math_sdp_enabled(),
        "FLASH_ATTENTION": cuda.flash_sdp_enabled(),
        "EFFICIENT_ATTENTION": cuda.mem_efficient_sdp_enabled(),
        "CUDNN_ATTENTION": cuda.cudnn_sdp_enabled(),
    }
    return ANY_KERNEL if all(switches.values()) else ", ".join(name for name, on in switches.items() if on)


def _force_kernel(unet: Any, name: str) -> None:
    from torch.nn.attention import SDPBackend, sdpa_kernel

    forward = unet.forward
    kernel = getattr(SDPBackend, name)

    def forward_with_kernel(*args: Any, **kwargs: Any) -> Any:
        with sdpa_kernel([kernel]):
            return forward(*args, **kwargs)

    unet.forward = forward_with_kernel
