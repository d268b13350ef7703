"""One observed call of torch's own networks: what the denoiser computes in, and with which kernels it may attend."""

import re
from dataclasses import dataclass, field
from functools import partial
from importlib import import_module
from typing import Any

from sdbench.backends.observed_call import Mark, ObservedCall
from sdbench.schema.base import Known, Reading, Unknown

ANY_KERNEL = "any"
_ATTENTION_LAYER = re.compile(r"attn|attention")
# What makes vectors of packed latents, in transformers without convolutions.
_IMAGE_EMBEDDERS = ("x_embedder", "all_x_embedder")


@dataclass
class TorchCall(ObservedCall):
    """While entered, also records what the denoiser's layers compute in and with which kernels they may attend."""

    kernels: set[str] = field(default_factory=set)
    compute_dtypes: set[str] = field(default_factory=set)
    gradients: set[str] = field(default_factory=set)
    _last_blocks: list[Mark] = field(default_factory=list)
    _host_bound: list[bool] = field(default_factory=list)

    def hook(self) -> list[Any]:
        """Return the handles of the hooks that are in place until the call has ended."""
        import torch

        denoiser = self.denoiser
        attention = next(
            layer
            for name, layer in denoiser.named_modules()
            if isinstance(layer, torch.nn.Linear) and _ATTENTION_LAYER.search(name)
        )
        return [
            *super().hook(),
            denoiser.register_forward_pre_hook(lambda *_: self.gradients.add(on_or_off(torch.is_grad_enabled()))),
            _first_layer(denoiser).register_forward_hook(self._record_dtype),
            attention.register_forward_hook(self._record_dtype),
            attention.register_forward_hook(lambda *_: self.kernels.add(_allowed_kernels())),
            *(self._hook_device(denoiser) if self.device.type == "cuda" else ()),
        ]

    def read_host_bound_ratio(self) -> Reading[float]:
        """Return the share of denoiser calls in which the GPU waited for the host; unknown on the CPU."""
        if not self._host_bound:
            return Unknown(reason="the device is the CPU")
        return Known(value=sum(self._host_bound) / len(self._host_bound))

    def _hook_device(self, denoiser: Any) -> tuple[Any, ...]:
        """Return hooks that see, once a denoiser call is issued, whether the GPU has already reached its last block.

        A GPU that is the slower of the two is far behind by then. Between two calls nothing can be seen: schedulers
        wait for the GPU there (PNDM reads a table of the CPU by a timestep on the GPU).
        """
        return (
            _last_block(denoiser).register_forward_pre_hook(
                partial(self._record_mark, self._last_blocks, "denoise_step")
            ),
            denoiser.register_forward_hook(lambda *_: self._host_bound.append(bool(self._last_blocks[-1].query()))),
        )

    def _record_dtype(self, _module: Any, _inputs: Any, output: Any) -> None:
        self.compute_dtypes.add(name_dtype(output.dtype))


def _first_layer(denoiser: Any) -> Any:
    """Return the first layer of a denoiser that computes on the image."""
    import torch

    convolutions = (layer for layer in denoiser.modules() if isinstance(layer, torch.nn.Conv2d))
    linear = (
        layer
        for name, layer in denoiser.named_modules()
        if name.startswith(_IMAGE_EMBEDDERS) and isinstance(layer, torch.nn.Linear)
    )
    return next(convolutions, None) or next(linear)


def _last_block(denoiser: Any) -> Any:
    """Return the block of a denoiser that runs last: the last of its last list of blocks."""
    import torch

    lists = [child for child in denoiser.children() if isinstance(child, torch.nn.ModuleList) and len(child)]
    return lists[-1][-1]


def _allowed_kernels() -> str:
    """Return which kernels scaled_dot_product_attention may take at this moment: ``any``, or their names."""
    cuda: Any = import_module("torch.backends.cuda")
    switches = {
        "MATH": cuda.math_sdp_enabled(),
        "FLASH_ATTENTION": cuda.flash_sdp_enabled(),
        "EFFICIENT_ATTENTION": cuda.mem_efficient_sdp_enabled(),
        "CUDNN_ATTENTION": cuda.cudnn_sdp_enabled(),
    }
    return ANY_KERNEL if all(switches.values()) else ", ".join(name for name, on in switches.items() if on)


def on_or_off(value: bool) -> str:
    """Return a switch in words."""
    return "on" if value else "off"


def name_dtype(dtype: Any) -> str:
    """Return the precision that a type of torch is called by."""
    return {"torch.float32": "fp32", "torch.float16": "fp16", "torch.bfloat16": "bf16"}.get(str(dtype), str(dtype))
