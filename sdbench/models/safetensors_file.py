"""safetensors files, read tensor by tensor: their headers are checked, and nothing is mapped."""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

# MAX_HEADER_SIZE in safetensors/src/tensor.rs, and the format's README: 8 bytes of length, little-endian, then JSON.
_HEADER_BYTES_MAX = 100_000_000
LENGTH_BYTES = 8
# torch's own allocator aligns to a cache line; what sdbench writes to be mapped is aligned like it.
ALIGNMENT_BYTES = 64
METADATA = "__metadata__"
_WIDTHS = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "I64": 8, "I32": 4, "I16": 2, "I8": 1, "U8": 1, "BOOL": 1}
_TORCH_NAMES = {
    "F64": "float64",
    "F32": "float32",
    "F16": "float16",
    "BF16": "bfloat16",
    "I64": "int64",
    "I32": "int32",
}


class DamagedFileError(ValueError):
    """A file is not safetensors, or not all of one; the text says what is wrong with it."""


@dataclass(frozen=True)
class StoredTensor:
    """A tensor of a file: its type as the format names it, its shape, and where its bytes are in the file."""

    dtype: str
    shape: tuple[int, ...]
    start: int
    end: int

    @property
    def value_count(self) -> int:
        """How many values it has."""
        return prod(self.shape)


def read_header(path: Path) -> dict[str, StoredTensor]:
    """Return the tensors of a file by name; nothing of the size that the header claims is allocated.

    Raises:
        DamagedFileError: it is not a safetensors file, or not a whole one.
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        size_bytes = path.stat().st_size
        header_bytes = int.from_bytes(file.read(LENGTH_BYTES), "little")
        if size_bytes <= LENGTH_BYTES:
            raise DamagedFileError("it is empty" if not size_bytes else "it is not a safetensors file")
        if header_bytes > min(_HEADER_BYTES_MAX, size_bytes - LENGTH_BYTES):
            raise DamagedFileError(
                f"it is truncated, or not a safetensors file: its header would take {header_bytes:,} bytes"
            )
        content = file.read(header_bytes)
    try:
        entries = json.loads(content)
        tensors = {
            name: _read_entry(entry, LENGTH_BYTES + header_bytes) for name, entry in entries.items() if name != METADATA
        }
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise DamagedFileError("its header cannot be read") from None
    _check_extent(tensors, LENGTH_BYTES + header_bytes, size_bytes)
    return tensors


def read_tensors(path: Path, tensors: Iterable[tuple[str, StoredTensor]]) -> "Iterator[tuple[str, torch.Tensor]]":
    """Yield tensors of a file, in the order of their bytes, each in memory of its own.

    Raises:
        DamagedFileError: one has a type that no weight has, or the file became shorter.
        OSError: the file cannot be read.
    """
    import torch

    with path.open("rb") as file:
        for name, stored in sorted(tensors, key=lambda item: item[1].start):
            if stored.dtype not in _TORCH_NAMES:
                raise DamagedFileError(
                    f"{name} holds values of type {stored.dtype}, which sdbench does not compute with"
                )
            values = torch.empty(stored.end - stored.start, dtype=torch.uint8)
            file.seek(stored.start)
            if file.readinto(values.numpy().data) != len(values):
                raise DamagedFileError("it was truncated while being read")
            yield name, values.view(getattr(torch, _TORCH_NAMES[stored.dtype])).view(stored.shape)


def bytes_of(tensor: "torch.Tensor") -> "torch.Tensor":
    """Return the bytes of a tensor, (bytes,) uint8, in the same memory where it is contiguous."""
    import torch

    return tensor.detach().flatten().view(torch.uint8)


def add_words(tensor: "torch.Tensor") -> int:
    """Return the sum of a tensor's 64-bit words, modulo 2**64: every change of one word changes it, at memory speed."""
    import torch

    content = bytes_of(tensor)
    if len(content) % ALIGNMENT_BYTES:  # in the file, the words of these few small ones are not aligned
        return int(content.sum(dtype=torch.int64))
    return int(content.view(torch.int64).sum())


def _read_entry(entry: Any, data_start: int) -> StoredTensor:
    shape, (start, end) = tuple(entry["shape"]), entry["data_offsets"]
    if not all(type(number) is int and number >= 0 for number in (*shape, start, end)):
        raise ValueError("a size is not a count")
    stored = StoredTensor(str(entry["dtype"]), shape, data_start + start, data_start + end)
    width = _WIDTHS.get(stored.dtype)
    if width is not None and stored.value_count * width != end - start:
        raise ValueError("a tensor does not have the bytes of its shape")
    return stored


def _check_extent(tensors: dict[str, StoredTensor], data_start: int, size_bytes: int) -> None:
    ordered = sorted((item.start, item.end) for item in tensors.values())
    if any(before[1] != after[0] for before, after in pairwise([(data_start, data_start), *ordered])):
        raise DamagedFileError("its tensors overlap or leave gaps")
    end = ordered[-1][1] if ordered else data_start
    if end > size_bytes:
        raise DamagedFileError(f"it is truncated: {end - size_bytes:,} of {end:,} bytes are missing")
    if end < size_bytes:
        raise DamagedFileError(f"it has {size_bytes - end:,} bytes more than its header says")
