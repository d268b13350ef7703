"""Counts what a network moves through memory and how many operators it dispatches, next to its FLOP."""

from typing import Any

# Its classes are torch's, and it is imported only where networks are counted.
import torch  # noqa: TID253
from torch.nn.functional import scaled_dot_product_attention  # noqa: TID253
from torch.overrides import TorchFunctionMode  # noqa: TID253
from torch.utils._python_dispatch import TorchDispatchMode  # noqa: TID253
from torch.utils._pytree import tree_leaves  # noqa: TID253


class TrafficCounter(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """While entered, counts the values that each operator reads and writes, and the operators; views move nothing.

    Weights count apart, each once: a call reads them again only where caches are small. The count is of eager mode
    without any cache or fusion. ``attention`` is to be entered with it.
    """

    def __init__(self, network: Any) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.values = 0
        self.operators = 0
        self._weights = {_storage(tensor): tensor.numel() for tensor in (*network.parameters(), *network.buffers())}
        self._read: set[int] = set()
        self.attention = AttentionMode(self)

    def add(self, tensors: Any) -> None:
        """Count one operator that reads and writes these tensors."""
        self.operators += 1
        for leaf in tree_leaves(tensors):
            if isinstance(leaf, torch.Tensor):
                if (storage := _storage(leaf)) in self._weights:
                    self._read.add(storage)
                else:
                    self.values += leaf.numel()

    @property
    def weights(self) -> int:
        """The values of the weights that were read, each once."""
        return sum(self._weights[storage] for storage in self._read)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run an operator and count it."""
        del types
        result = func(*args, **(kwargs or {}))
        if not self.attention.is_within and not _is_view(func, args, result):
            self.add((args, kwargs, result))
        return result


class AttentionMode(TorchFunctionMode):
    """Counts attention as the one operator that it is on real devices; on the meta device it comes apart."""

    def __init__(self, counter: TrafficCounter) -> None:
        super().__init__()
        self.is_within = False
        self._counter = counter

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        del types
        if func is not scaled_dot_product_attention:
            return func(*args, **(kwargs or {}))
        self.is_within = True
        try:
            result = func(*args, **(kwargs or {}))
        finally:
            self.is_within = False
        self._counter.add((args, kwargs, result))
        return result


def _is_view(func: Any, args: Any, result: Any) -> bool:
    """Whether an operator only gave its input another shape, as ``_unsafe_view`` does without saying so."""
    inputs = {_storage(leaf) for leaf in tree_leaves(args) if isinstance(leaf, torch.Tensor)}
    outputs = {_storage(leaf) for leaf in tree_leaves(result) if isinstance(leaf, torch.Tensor)}
    return outputs <= inputs and not func._schema.is_mutable  # noqa: SLF001 - what torch itself asks


def _storage(tensor: Any) -> int:
    """What a tensor and its views share."""
    return int(tensor.untyped_storage()._cdata)  # noqa: SLF001 - the only identity that a tensor without data has
