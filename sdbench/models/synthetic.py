"""Synthetic weights: seeded, finite in fp32, fp16 and bf16, and as fast or slow as trained ones."""

import hashlib
import os
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from math import prod, sqrt
from typing import TYPE_CHECKING, Any

from sdbench.models.networks import build_on_meta, fill_buffers, fill_parameters, name_parameters
from sdbench.schema.base import sha256_of
from sdbench.schema.pipeline import Component

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


@dataclass(frozen=True)
class Drawn:
    """A network with its values, and their digest."""

    network: Any
    digest: str


def build_synthetic(name: str, component: Component, weights_seed: int, device: str, dtype: "torch.dtype") -> Drawn:
    """Return the network called ``name`` on ``device`` in ``dtype``, every value drawn in fp32 on the CPU.

    A value depends on seed, recipe and its tensor's name only: order, threads, dtype and device do not change it.

    Raises:
        UserError: the network cannot be built from its config.
        UnknownBufferError: it has a buffer that nothing computes.
    """
    import torch

    network = build_on_meta(component, dtype)
    fill_parameters(network, lambda _name, tensor: torch.empty_like(tensor, device=device))
    fill_buffers(network, device)
    tensors = name_parameters(network)
    with ThreadPoolExecutor(max_workers=min(_THREADS_MAX, len(os.sched_getaffinity(0)))) as pool:
        heads = list(pool.map(lambda item: fill_tensor(f"{name}.{item[0]}", item[1], weights_seed), tensors.items()))
    # Of all that decides the values: recipe, seed, config, and every tensor's name, shape and beginning.
    contents = {
        "recipe": RECIPE_VERSION,
        "weights_seed": weights_seed,
        "component": name,
        "config": component.to_json_dict(),
        "tensors": {
            key: [list(tensor.shape), head] for (key, tensor), head in zip(tensors.items(), heads, strict=True)
        },
    }
    return Drawn(network, sha256_of(contents))


def combine_digests(digests: Mapping[str, str]) -> str:
    """Return the digest of a pipeline's synthetic weights, of those of its networks."""
    return f"synthetic:{sha256_of(digests)}"


def seed_of(weights_seed: int, name: str) -> int:
    """Return the seed (63 bits) of one tensor, the same in every process and on every machine."""
    digest = hashlib.sha256(f"{RECIPE_VERSION}:{weights_seed}:{name}".encode()).digest()
    return int.from_bytes(digest[:_SEED_BYTES], "big") >> 1


def fill_tensor(name: str, tensor: "torch.Tensor", weights_seed: int) -> str:
    """Draw the values of a tensor in place and return the SHA-256 of their beginning (little-endian fp32)."""
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
