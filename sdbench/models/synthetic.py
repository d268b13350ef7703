"""Synthetic weights: seeded, finite in fp32, fp16 and bf16, and as fast or slow as trained ones."""

import hashlib
import os
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from math import prod, sqrt
from typing import TYPE_CHECKING, Any

from sdbench.models.architectures import COMPONENTS, Architecture
from sdbench.models.libraries import Networks, cast, library_classes, name_parameters
from sdbench.schema.base import sha256_of

if TYPE_CHECKING:
    import torch

# Goes into the digest: raise it with every change that changes a value.
RECIPE_VERSION = 1
# Norms and biases vary a little: at exactly 1 and 0, autocast and pure bf16 give the same bits, and every comparison
# of their accuracy would be flattered.
_NORM_STD = 0.05
_BIAS_STD = 0.05
# Enough of each tensor to notice another generator (vectorised code draws other values than plain code).
_DIGEST_BYTES = 64 * 1024
# Drawing is 10 ns a value and thread, and releases the interpreter; above 8 threads memory is the limit.
_THREADS_MAX = 8
_SEED_BYTES = 8


class UnknownBufferError(RuntimeError):
    """A network has a buffer that the recipe does not know how to fill: the library changed, and so must the recipe."""


def build_synthetic(architecture: Architecture, weights_seed: int, device: str, dtype: "torch.dtype") -> Networks:
    """Return the three networks on ``device`` in ``dtype``, every value drawn in fp32 on the CPU.

    A value depends on seed, recipe and its tensor's name only: order, threads, dtype and device do not change it.

    Raises:
        UnknownBufferError: a network has a buffer other than ``position_ids``.
    """
    networks = {
        component: network.to_empty(device=device)
        for component, network in build_all_on_meta(architecture, dtype).items()
    }
    fill_buffers(networks, device)
    tensors = list(name_parameters(networks).items())
    with ThreadPoolExecutor(max_workers=min(_THREADS_MAX, len(os.sched_getaffinity(0)))) as pool:
        heads = list(pool.map(lambda item: _fill(item[0], item[1], weights_seed), tensors))
    # Of all that decides the values: recipe, seed, configs, and every tensor's name, shape and beginning.
    contents = {
        "recipe": RECIPE_VERSION,
        "weights_seed": weights_seed,
        "configs": architecture.configs,
        "tensors": {name: [list(tensor.shape), head] for (name, tensor), head in zip(tensors, heads, strict=True)},
    }
    return Networks(networks, f"synthetic:{sha256_of(contents)}", "drawn")


def build_all_on_meta(architecture: Architecture, dtype: "torch.dtype") -> dict[str, Any]:
    """Return the three networks without storage, in ``dtype``, frozen and in evaluation mode."""
    return {
        component: cast(build_on_meta(architecture, component), dtype=dtype).eval().requires_grad_(requires_grad=False)
        for component in COMPONENTS
    }


def build_on_meta(architecture: Architecture, component: str) -> Any:
    """Return a network without storage: its shapes, names and parameter count only."""
    import torch

    classes, config = library_classes(), architecture.configs[component]
    with torch.device("meta"):
        if component == "text_encoder":
            return classes[component](classes["text_encoder_config"](**config))
        return classes[component](**config)


def fill_buffers(networks: Mapping[str, Any], device: str) -> None:
    """Put what is computed and not drawn into the networks, on ``device``.

    Raises:
        UnknownBufferError: a network has a buffer other than ``position_ids``.
    """
    import torch

    for component, network in networks.items():
        for name, buffer in network.named_buffers():
            module, _, attribute = name.rpartition(".")
            if attribute != "position_ids":
                raise UnknownBufferError(
                    f"{component} has a buffer {name!r} that synthetic weights cannot fill; teach the recipe its values"
                )
            positions = torch.arange(buffer.shape[-1], device=device).expand(buffer.shape).contiguous()
            setattr(network.get_submodule(module), attribute, positions)


def seed_of(weights_seed: int, name: str) -> int:
    """Return the seed (63 bits) of one tensor, the same in every process and on every machine."""
    digest = hashlib.sha256(f"{RECIPE_VERSION}:{weights_seed}:{name}".encode()).digest()
    return int.from_bytes(digest[:_SEED_BYTES], "big") >> 1


def _fill(name: str, tensor: "torch.Tensor", weights_seed: int) -> str:
    """Draw the values of one tensor and return the SHA-256 of their beginning (little-endian fp32)."""
    import torch

    generator = torch.Generator(device="cpu").manual_seed(seed_of(weights_seed, name))
    # Grad mode belongs to the thread, so the caller's setting does not reach the pool.
    with torch.no_grad():
        in_place = tensor.device.type == "cpu" and tensor.dtype == torch.float32
        values = tensor if in_place else torch.empty(tensor.shape, dtype=torch.float32)
        mean, std = _mean_and_std(name, tuple(tensor.shape))
        values.normal_(mean, std, generator=generator)
        if not in_place:
            tensor.copy_(values)
        head = values.flatten()[: _DIGEST_BYTES // 4]
        return hashlib.sha256(head.numpy().astype("<f4").tobytes()).hexdigest()


def _mean_and_std(name: str, shape: tuple[int, ...]) -> tuple[float, float]:
    """Return the distribution of a tensor's values: matrices and kernels keep the size of what passes through."""
    if len(shape) > 1:
        return 0.0, 1.0 / sqrt(prod(shape[1:]))
    return (0.0, _BIAS_STD) if name.endswith("bias") else (1.0, _NORM_STD)
