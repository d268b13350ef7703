"""Many tests at once: p values adjusted so that a suite raises no more false alarms than one test."""

from collections.abc import Sequence
from itertools import accumulate


def holm(p_values: Sequence[float]) -> tuple[float, ...]:
    """Return Holm's adjusted p values (Holm 1979), in the order given: any false alarm at most alpha."""
    count = len(p_values)
    order = sorted(range(count), key=lambda index: p_values[index])
    stepped = accumulate(((count - rank) * p_values[index] for rank, index in enumerate(order)), max)
    return _restore(order, stepped)


def benjamini_hochberg(p_values: Sequence[float]) -> tuple[float, ...]:
    """Return adjusted p values (Benjamini & Hochberg 1995), in the order given: the share of false alarms at most q."""
    count = len(p_values)
    order = sorted(range(count), key=lambda index: -p_values[index])
    stepped = accumulate((p_values[index] * count / (count - rank) for rank, index in enumerate(order)), min)
    return _restore(order, stepped)


def _restore(order: Sequence[int], adjusted: "accumulate[float]") -> tuple[float, ...]:
    by_index = dict(zip(order, adjusted, strict=True))
    return tuple(min(1.0, by_index[index]) for index in range(len(order)))
