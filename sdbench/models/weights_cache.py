"""Synthetic weights, drawn once and kept: a safetensors file per set of values, mapped on load and checked as a whole.

The file's header is computed, not believed: it must be, byte for byte, what would be written for these networks. Its
checksum is over every word of the values, so that a damaged file is noticed whenever it is mapped.
"""

import json
import mmap
import os
import platform
import shutil
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sdbench.errors import EnvironmentProblem
from sdbench.models.architectures import Architecture
from sdbench.models.libraries import Networks, name_parameters
from sdbench.models.synthetic import RECIPE_VERSION, build_all_on_meta, build_synthetic, fill_buffers
from sdbench.probes.out_of_memory import where_memory_ran_out
from sdbench.schema.base import canonical_json, sha256_of
from sdbench.schema.outcome import warn
from sdbench.schema.warning_codes import WarningCode
from sdbench.store.cache_folder import (
    WEIGHTS_FOLDER,
    WEIGHTS_SUFFIX,
    list_weights,
    nearest_folder,
    weights_limit_bytes,
)
from sdbench.store.files import write_whole
from sdbench.store.lock import hold_file
from sdbench.units import format_bytes

if TYPE_CHECKING:
    import torch

# 64 bits of a hash distinguish the files of one machine; the header has all that is hashed, and is compared.
_KEY_DIGITS = 16
_LOCK_NAME = ".lock"
# torch's own allocator aligns to a cache line; what is mapped is aligned like it.
_ALIGNMENT_BYTES = 64
# safetensors README, "Format": the header begins with its length in 8 bytes, little-endian, and may end with spaces.
_LENGTH_BYTES = 8
_METADATA = "__metadata__"
# That of SD v1.4 has 130 KB.
_HEADER_BYTES_MAX = 2**24
_DTYPES = {"torch.float32": "F32", "torch.float16": "F16", "torch.bfloat16": "BF16"}
# The rest of the disk is for others.
_FREE_SHARE = 0.5


@dataclass(frozen=True)
class WeightsKey:
    """What decides every value of synthetic weights, and the folder that keeps them."""

    architecture: Architecture
    weights_seed: int
    dtype: "torch.dtype"
    cache_folder: Path

    @property
    def folder(self) -> Path:
        """The folder with all kept weights."""
        return self.cache_folder / WEIGHTS_FOLDER

    @property
    def size_bytes(self) -> int:
        """The size of the values."""
        return self.architecture.parameter_count * self.dtype.itemsize

    def identify(self) -> str:
        """Return the key as JSON. Another build of torch, or its code for other vectors, draws other values."""
        import torch

        return canonical_json(
            {
                "recipe": RECIPE_VERSION,
                "weights_seed": self.weights_seed,
                "configs": self.architecture.configs,
                "dtype": str(self.dtype),
                "torch": str(torch.__version__),
                "cpu": [platform.machine(), torch.backends.cpu.get_cpu_capability()],
            }
        )

    def path(self) -> Path:
        """Return the file that keeps these values."""
        return self.folder / f"{sha256_of(self.identify())[:_KEY_DIGITS]}{WEIGHTS_SUFFIX}"


def keep_weights(key: WeightsKey, on_draw: Callable[[], None]) -> None:
    """Draw the weights into their file, unless it is there or cannot be; ``on_draw`` is called before."""
    if key.path().is_file() or _find_obstacle(key):
        return
    # A full disk or another user's lock: the weights are then drawn on load.
    with suppress(EnvironmentProblem, OSError):
        key.folder.mkdir(parents=True, exist_ok=True)
        with hold_file(key.folder / _LOCK_NAME):
            # Another process may have kept them while this one waited.
            if not key.path().is_file():
                on_draw()
                _make_room(key)
                _write(key, build_synthetic(key.architecture, key.weights_seed, "cpu", key.dtype))


def load_synthetic(key: WeightsKey, device: str, *, mapped: bool = True) -> Networks:
    """Return the networks on ``device``, from the file that keeps their weights, or else drawn, with a warning.

    On the CPU their values are ``mapped`` from the file, or copied; what writes into them never changes the file.
    """
    path, code = key.path(), WarningCode.WEIGHTS_NOT_KEPT
    try:
        networks = _map(key, path, device, mapped=mapped)
    except FileNotFoundError:
        problem = _find_obstacle(key) or f"cannot write {key.folder}; check the folder and the free space"
    except OSError as error:
        if where_memory_ran_out(error):
            raise
        problem = f"cannot read {path}: {error.strerror}"
    except ValueError as error:
        problem, code = f"{path.name} was damaged: {error}", WarningCode.WEIGHTS_DRAWN_AGAIN
        with suppress(OSError):
            path.unlink()
    else:
        with suppress(OSError):
            os.utime(path)  # the least recently used is dropped first
        return networks
    networks = build_synthetic(key.architecture, key.weights_seed, device, key.dtype)
    return replace(networks, warnings=(warn(code, f"the weights were drawn for this launch alone: {problem}"),))


def _find_obstacle(key: WeightsKey) -> str | None:
    """Return why the weights cannot be kept, as far as that is known before."""
    limit_bytes = weights_limit_bytes()
    if key.size_bytes > limit_bytes:
        return f"they take {format_bytes(key.size_bytes)}, and SDBENCH_CACHE_GIB allows {format_bytes(limit_bytes)}"
    folder = nearest_folder(key.folder)
    if not os.access(folder, os.W_OK | os.X_OK):
        return f"cannot write to {folder}; set SDBENCH_CACHE to a folder that can be written"
    free_bytes = shutil.disk_usage(folder).free
    if key.size_bytes > _FREE_SHARE * free_bytes:
        return f"they take {format_bytes(key.size_bytes)}, and {format_bytes(free_bytes)} are free in {folder}"
    return None


def _make_room(key: WeightsKey) -> None:
    """Drop what a killed process left, and the least recently used weights beyond the limit.

    A process that has mapped one of them keeps it until its end.
    """
    for draft in key.folder.glob(f".*{WEIGHTS_SUFFIX}.*"):  # its writer would hold the lock
        draft.unlink(missing_ok=True)
    files = list_weights(key.cache_folder)
    excess_bytes = key.size_bytes + sum(status.st_size for _, status in files) - weights_limit_bytes()
    for path, status in files:
        if excess_bytes <= 0:
            break
        path.unlink(missing_ok=True)
        excess_bytes -= status.st_size


def _write(key: WeightsKey, networks: Networks) -> None:
    tensors = name_parameters(networks.by_component)
    header = _make_header(tensors, _make_metadata(key, networks.digest, tensors))
    write_whole(key.path(), header, *(_as_bytes(tensors[name]).numpy().data for name in _order(tensors)))


def _map(key: WeightsKey, path: Path, device: str, *, mapped: bool) -> Networks:
    """Return the networks with the values of a file; ValueError says what is wrong with it."""
    import torch

    empty = build_all_on_meta(key.architecture, key.dtype)
    shapes = name_parameters(empty)
    with path.open("rb") as stream:
        # Private: what is written into a tensor stays in this process.
        content = mmap.mmap(stream.fileno(), 0, mmap.MAP_PRIVATE, mmap.PROT_READ | mmap.PROT_WRITE)
    metadata, header_bytes = _read_metadata(content)
    if content[:header_bytes] != _make_header(shapes, metadata):
        raise ValueError("its header is not that of these weights")
    if len(content) != header_bytes + key.size_bytes:
        raise ValueError(f"it has {len(content)} bytes instead of {header_bytes + key.size_bytes}")
    tensors: dict[str, torch.Tensor] = {}
    offset = header_bytes
    for name in _order(shapes):
        shape = shapes[name].shape
        flat = torch.frombuffer(content, dtype=key.dtype, count=shape.numel(), offset=offset)
        tensors[name] = flat.view(shape)
        offset += flat.nbytes
    if metadata != _make_metadata(key, metadata["weights_digest"], tensors):
        raise ValueError("its checksum differs")
    on_cpu = mapped and device == "cpu"
    if not on_cpu:
        tensors = {name: tensor.to(device, copy=True) for name, tensor in tensors.items()}
    for component, network in empty.items():
        for prefix, module in network.named_modules(prefix=component):
            for name, _ in list(module.named_parameters(recurse=False)):
                setattr(module, name, torch.nn.Parameter(tensors[f"{prefix}.{name}"], requires_grad=False))
    fill_buffers(empty, device)
    return Networks(empty, metadata["weights_digest"], "mapped", key.size_bytes if on_cpu else 0)


def _read_metadata(content: mmap.mmap) -> tuple[dict[str, str], int]:
    header_bytes = _LENGTH_BYTES + int.from_bytes(content[:_LENGTH_BYTES], "little")
    if header_bytes > _HEADER_BYTES_MAX:
        raise ValueError("its header cannot be read")
    try:
        metadata = json.loads(content[_LENGTH_BYTES:header_bytes])[_METADATA]
        return {name: str(metadata[name]) for name in ("identity", "weights_digest", "checksum")}, header_bytes
    except (ValueError, KeyError, TypeError, OverflowError):
        raise ValueError("its header cannot be read") from None


def _make_metadata(key: WeightsKey, digest: str, tensors: Mapping[str, "torch.Tensor"]) -> dict[str, str]:
    sums = {name: _add_words(tensor) for name, tensor in tensors.items()}
    facts = {"identity": key.identify(), "weights_digest": digest}
    return facts | {"checksum": sha256_of(facts | {"sums": sums})}


def _make_header(tensors: Mapping[str, "torch.Tensor"], metadata: Mapping[str, str]) -> bytes:
    entries: dict[str, Any] = {_METADATA: metadata}
    offset = 0
    for name in _order(tensors):
        tensor = tensors[name]
        end = offset + tensor.nbytes
        entries[name] = {
            "dtype": _DTYPES[str(tensor.dtype)],
            "shape": list(tensor.shape),
            "data_offsets": [offset, end],
        }
        offset = end
    text = json.dumps(entries, separators=(",", ":")).encode()
    text += b" " * (-(_LENGTH_BYTES + len(text)) % _ALIGNMENT_BYTES)
    return len(text).to_bytes(_LENGTH_BYTES, "little") + text


def _order(tensors: Mapping[str, "torch.Tensor"]) -> list[str]:
    """Return the names in the order of the file: those that would misalign what follows come last."""
    return sorted(tensors, key=lambda name: tensors[name].nbytes % _ALIGNMENT_BYTES != 0)


def _as_bytes(tensor: "torch.Tensor") -> "torch.Tensor":
    import torch

    return tensor.detach().flatten().view(torch.uint8)


def _add_words(tensor: "torch.Tensor") -> int:
    """Return the sum of a tensor's 64-bit words, modulo 2**64: every change of one word changes it, at memory speed."""
    import torch

    content = _as_bytes(tensor)
    if len(content) % _ALIGNMENT_BYTES:  # in the file, the words of these few small ones are not aligned
        return int(content.sum(dtype=torch.int64))
    return int(content.view(torch.int64).sum())
