"""Networks without values, built from their configs: what synthetic weights are drawn into and files are mapped to."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from inspect import signature
from math import isqrt
from typing import TYPE_CHECKING, Any

from sdbench.errors import UserError
from sdbench.models.libraries import class_of
from sdbench.schema.outcome import RecordWarning
from sdbench.schema.pipeline import Component
from sdbench.schema.worker_environment import WeightsSource

if TYPE_CHECKING:
    import torch


# What the constructors of diffusers and transformers raise for configs that they cannot use; NotImplementedError is
# how diffusers refuses a kind of block or activation that it does not know.
_CANNOT_BUILD = (TypeError, ValueError, KeyError, AttributeError, NotImplementedError, ZeroDivisionError)


class UnknownBufferError(RuntimeError):
    """A network has a buffer that nothing here computes: the library changed, and so must this table."""


@dataclass(frozen=True)
class Networks:
    """The networks of a pipeline by component, and a digest of their weights.

    ``mapped_bytes`` is how much of the weights stays in files that are mapped.
    """

    by_component: dict[str, Any]
    digest: str
    source: WeightsSource
    mapped_bytes: int = 0
    warnings: tuple[RecordWarning, ...] = ()


def build_on_meta(component: Component, dtype: "torch.dtype | None" = None) -> Any:
    """Return a network without storage, frozen and in evaluation mode, in ``dtype`` or as it was built (fp32).

    Raises:
        UserError: its class does not know a key of the config, or cannot be built from it.
    """
    import torch
    from huggingface_hub.errors import StrictDataclassError

    network_class = class_of(component.library, component.class_name)
    config = {key: value for key, value in component.config.items() if not key.startswith("_")}
    try:
        with torch.device("meta"):
            if component.library == "transformers":
                network = network_class(network_class.config_class.from_dict(config))
                # Weights that two modules share are one tensor; building alone leaves them apart.
                network.tie_weights()
            else:
                network = network_class(**config)
    except (*_CANNOT_BUILD, StrictDataclassError) as error:
        raise UserError(_explain_config(component, config, network_class, error)) from error
    if dtype is not None:
        fill_parameters(network, lambda name, tensor: tensor.to(dtype_of_parameter(network, name, dtype)))
    return network.eval().requires_grad_(requires_grad=False)


def dtype_of_parameter(network: Any, name: str, dtype: "torch.dtype") -> "torch.dtype":
    """Return the type of one parameter in a network of ``dtype``: in fp16, some classes keep modules in fp32."""
    import torch

    kept = getattr(network, "_keep_in_fp32_modules", None) or ()
    return torch.float32 if dtype == torch.float16 and not set(kept).isdisjoint(name.split(".")) else dtype


def name_parameters(network: Any) -> dict[str, Any]:
    """Return the parameters of a network by name; one that modules share has the first of its names."""
    return dict(network.named_parameters())


def fill_parameters(network: Any, make: Callable[[str, "torch.Tensor"], "torch.Tensor"]) -> None:
    """Replace each parameter by what ``make`` returns for its name and itself, in all modules that share it."""
    import torch

    places: dict[torch.Tensor, list[tuple[Any, str]]] = {}
    for module in network.modules():
        for attribute, tensor in module.named_parameters(recurse=False):
            places.setdefault(tensor, []).append((module, attribute))
    for name, tensor in name_parameters(network).items():
        values = torch.nn.Parameter(make(name, tensor), requires_grad=False)
        for module, attribute in places[tensor]:
            setattr(module, attribute, values)


def fill_buffers(network: Any, device: str) -> None:
    """Put what is computed and not drawn into a network, on ``device``.

    Raises:
        UnknownBufferError: there is a buffer that is not in the table.
    """
    for name, buffer in list(network.named_buffers()):
        path, _, attribute = name.rpartition(".")
        module = network.get_submodule(path)
        if (compute := _BUFFERS.get(attribute)) is None:
            raise UnknownBufferError(f"{type(network).__name__} has a buffer {name!r} that nothing computes; add how")
        values = compute(module, buffer)
        if values.shape != buffer.shape:
            raise UnknownBufferError(f"{name!r} was computed as {tuple(values.shape)} instead of {tuple(buffer.shape)}")
        setattr(module, attribute, values.to(device))


def _compute_position_ids(_module: Any, buffer: "torch.Tensor") -> "torch.Tensor":
    import torch

    return torch.arange(buffer.shape[-1]).expand(buffer.shape).contiguous()


def _compute_pos_embed(module: Any, buffer: "torch.Tensor") -> "torch.Tensor":
    """Return the positions of SD3's patches (PatchEmbed in diffusers), in the precision of its weights."""
    import torch
    from diffusers.models.embeddings import get_2d_sincos_pos_embed

    positions: torch.Tensor = get_2d_sincos_pos_embed(
        buffer.shape[-1],
        isqrt(buffer.shape[-2]),
        base_size=module.base_size,
        interpolation_scale=module.interpolation_scale,
        device="cpu",
        output_type="pt",
    )
    return positions.float().unsqueeze(0).to(module.proj.weight.dtype)


def _compute_inv_freq(module: Any, _buffer: "torch.Tensor") -> "torch.Tensor":
    """Return the frequencies of rotary positions, which stay in fp32 in every precision."""
    import torch

    frequencies: torch.Tensor = module.compute_default_rope_parameters(module.config)[0]
    return frequencies


_BUFFERS: Mapping[str, Callable[[Any, Any], Any]] = {
    "position_ids": _compute_position_ids,
    "pos_embed": _compute_pos_embed,
    "inv_freq": _compute_inv_freq,
    "original_inv_freq": _compute_inv_freq,
}


def _explain_config(component: Component, config: Mapping[str, Any], network_class: Any, error: Exception) -> str:
    name = component.class_name
    if component.library == "diffusers" and (unknown := set(config) - set(signature(network_class).parameters)):
        keys = ", ".join(sorted(unknown))
        return f"{name} of diffusers {version('diffusers')} does not know the config keys {keys}; remove them"
    reason = " ".join(str(error).split()) or type(error).__name__
    return f"{name} cannot be built from its config ({reason}); correct the config or the override"
