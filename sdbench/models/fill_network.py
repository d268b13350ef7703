"""Stored weights into a network: every one of its own, none left over, none of another shape."""

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from sdbench.models.networks import fill_buffers, fill_parameters, name_parameters

if TYPE_CHECKING:
    import torch

_NAMES_SHOWN = 5
# A buffer that older transformers saved among the weights; it is computed now.
_COMPUTED = "position_ids"
# Of the attention in autoencoders, before diffusers 0.12 and after it.
_OLD_ATTENTION = {".query.": ".to_q.", ".key.": ".to_k.", ".value.": ".to_v.", ".proj_attn.": ".to_out.0."}


class UnfitWeightsError(ValueError):
    """Weights are not those of the network; the text says which."""


def match_names(network: Any, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, str]:
    """Return the network's own name of each stored weight; those that two modules share have the first of its names.

    Raises:
        UnfitWeightsError: a weight is missing, unexpected or of another shape.
    """
    first = {id(tensor): name for name, tensor in name_parameters(network).items()}
    own = {name: first[id(tensor)] for name, tensor in network.named_parameters(remove_duplicate=False)}
    kept = network.state_dict(keep_vars=True)
    own |= {name: name for name, _ in network.named_buffers() if name in kept}
    matched: dict[str, str] = {}
    for name in shapes:
        spelling = next(
            (item for item in _spellings(name, network) if item in own and item not in matched.values()), ""
        )
        if spelling:
            matched[name] = spelling
    missing = set(first.values()) - {own[name] for name in matched.values()}
    unexpected = {name for name in shapes if name not in matched and name.rpartition(".")[2] != _COMPUTED}
    unfit = {name for stored, name in matched.items() if tuple(kept[name].shape) != tuple(shapes[stored])}
    _refuse({"missing": missing, "unexpected": unexpected, "of another shape": unfit})
    return {name: own[item] for name, item in matched.items()}


def fill_network(
    network: Any, names: Mapping[str, str], tensors: "Iterable[tuple[str, torch.Tensor]]", device: str
) -> None:
    """Put stored tensors into a network on ``device``, each in the type that the network has for it.

    Raises:
        UnfitWeightsError: a weight that modules share was stored twice, with different values.
    """
    import torch

    dtypes = {name: tensor.dtype for name, tensor in name_parameters(network).items()}
    values: dict[str, torch.Tensor] = {}
    buffers: dict[str, torch.Tensor] = {}
    for stored, tensor in tensors:
        name = names[stored]
        if name not in dtypes:
            buffers[name] = tensor
            continue
        placed = tensor.to(device=device, dtype=dtypes[name])
        if name in values and not torch.equal(values[name], placed):
            raise UnfitWeightsError(f"{stored} and {name}, which the network shares, with different values")
        values[name] = placed
    fill_parameters(network, lambda name, _: values.pop(name))
    fill_buffers(network, device)
    for name, tensor in buffers.items():
        buffer = network.get_buffer(name)
        buffer.copy_(tensor)


def _spellings(name: str, network: Any) -> Iterator[str]:
    """Yield a name, and how other versions of the libraries spell it."""
    yield name
    for prefix in ("text_model.", f"{getattr(network, 'base_model_prefix', None)}."):
        yield name.removeprefix(prefix)
        yield prefix + name
    for old, new in _OLD_ATTENTION.items():
        yield name.replace(old, new)


def _refuse(problems: Mapping[str, set[str]]) -> None:
    texts = []
    for title, names in problems.items():
        more = f" and {len(names) - _NAMES_SHOWN} more" if len(names) > _NAMES_SHOWN else ""
        texts += [f"{len(names)} {title} ({', '.join(sorted(names)[:_NAMES_SHOWN])}{more})"] if names else []
    if texts:
        raise UnfitWeightsError(", ".join(texts))
