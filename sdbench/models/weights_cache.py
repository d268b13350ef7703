"""Synthetic weights, drawn once and kept: a safetensors file per network, mapped on load and checked as a whole.

The file's header is computed, not believed: it must be, byte for byte, what would be written for these networks. Its
checksum is over every word of the values, so that a damaged file is noticed whenever it is mapped.
"""

import json
import mmap
import os
import platform
import shutil
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sdbench.errors import EnvironmentProblem
from sdbench.models.networks import Networks, build_on_meta, fill_buffers, fill_parameters, name_parameters
from sdbench.models.safetensors_file import ALIGNMENT_BYTES, LENGTH_BYTES, METADATA, add_words, bytes_of
from sdbench.models.synthetic import RECIPE_VERSION, Drawn, build_synthetic, combine_digests
from sdbench.probes.out_of_memory import where_memory_ran_out
from sdbench.processes import return_freed_memory
from sdbench.schema.base import canonical_json, sha256_of
from sdbench.schema.outcome import warn
from sdbench.schema.pipeline import Component, PipelineConfig
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
# That of SD v1.4 has 130 KB.
_HEADER_BYTES_MAX = 2**24
_DTYPES = {"torch.float32": "F32", "torch.float16": "F16", "torch.bfloat16": "BF16"}
# The rest of the disk is for others.
_FREE_SHARE = 0.5


@dataclass(frozen=True)
class WeightsKey:
    """What decides every value of one network's synthetic weights, and the folder that keeps them."""

    name: str
    component: Component
    weights_seed: int
    dtype: "torch.dtype"
    cache_folder: Path

    @property
    def folder(self) -> Path:
        """The folder with all kept weights."""
        return self.cache_folder / WEIGHTS_FOLDER

    @cached_property
    def shapes(self) -> Mapping[str, "torch.Tensor"]:
        """The network's parameters without their values."""
        return name_parameters(build_on_meta(self.component, self.dtype))

    @property
    def size_bytes(self) -> int:
        """The size of the values."""
        return sum(tensor.nbytes for tensor in self.shapes.values())

    def identify(self) -> str:
        """Return the key as JSON. Another build of torch, or its code for other vectors, draws other values."""
        import torch

        return canonical_json(
            {
                "recipe": RECIPE_VERSION,
                "weights_seed": self.weights_seed,
                "component": self.name,
                "config": self.component.to_json_dict(),
                "dtype": str(self.dtype),
                "torch": str(torch.__version__),
                "cpu": [platform.machine(), torch.backends.cpu.get_cpu_capability()],
            }
        )

    def path(self) -> Path:
        """Return the file that keeps these values."""
        return self.folder / f"{sha256_of(self.identify())[:_KEY_DIGITS]}{WEIGHTS_SUFFIX}"

    def draw(self, device: str) -> Drawn:
        """Return the network with its values drawn; raises as ``build_synthetic``."""
        return build_synthetic(self.name, self.component, self.weights_seed, device, self.dtype)


def make_keys(
    config: PipelineConfig, weights_seed: int, dtype: "torch.dtype", cache_folder: Path
) -> tuple[WeightsKey, ...]:
    """Return the key of each network of a pipeline."""
    return tuple(
        WeightsKey(name, component, weights_seed, dtype, cache_folder) for name, component in config.networks.items()
    )


def keep_weights(keys: Sequence[WeightsKey], on_draw: Callable[[], None]) -> None:
    """Draw the weights of each network into its file, unless it is there or cannot be, after calling ``on_draw``.

    Networks are drawn one after the other, so that no more than the largest takes memory.
    """
    missing = [key for key in keys if not key.path().is_file()]
    if not missing or _find_obstacle(keys):
        return
    is_first = True
    for key in missing:
        # A full disk or another user's lock: the weights are then drawn on load.
        with suppress(EnvironmentProblem, OSError):
            key.folder.mkdir(parents=True, exist_ok=True)
            with hold_file(key.folder / _LOCK_NAME):
                # Another process may have kept them while this one waited.
                if not key.path().is_file():
                    if is_first:
                        on_draw()
                    is_first = False
                    _make_room(key, {other.path() for other in keys})
                    _write(key, key.draw("cpu"))
    if not is_first:
        # Drawing SDXL left 4.6 GB of freed tensors in the heap, which every later peak would hold.
        return_freed_memory()


def load_synthetic(keys: Sequence[WeightsKey], device: str, *, mapped: bool = True) -> Networks:
    """Return the networks on ``device``, from the files that keep their weights, or else drawn, with a warning.

    On the CPU their values are ``mapped`` from the files, or copied; what writes into them never changes a file.
    """
    loaded: dict[str, Drawn] = {}
    drawn_again: dict[tuple[WarningCode, str], list[str]] = {}
    mapped_bytes = 0
    for key in keys:
        loaded[key.name], problem = _load(key, keys, device, mapped=mapped)
        if problem is not None:
            drawn_again.setdefault(problem, []).append(key.name)
        elif mapped and device == "cpu":
            mapped_bytes += key.size_bytes
    warnings = tuple(
        warn(code, f"the weights of the {', '.join(names)} were drawn for this launch alone: {text}")
        for (code, text), names in drawn_again.items()
    )
    return Networks(
        by_component={name: drawn.network for name, drawn in loaded.items()},
        digest=combine_digests({name: drawn.digest for name, drawn in loaded.items()}),
        source="drawn" if sum(map(len, drawn_again.values())) == len(loaded) else "mapped",
        mapped_bytes=mapped_bytes,
        warnings=warnings,
    )


def _load(
    key: WeightsKey, keys: Sequence[WeightsKey], device: str, *, mapped: bool
) -> tuple[Drawn, tuple[WarningCode, str] | None]:
    """Return a network of those of ``keys``, and where its values had to be drawn, why."""
    path, code = key.path(), WarningCode.WEIGHTS_NOT_KEPT
    try:
        drawn = _map(key, path, device, mapped=mapped)
    except FileNotFoundError:
        problem = _find_obstacle(keys) or f"cannot write {key.folder}; check the folder and the free space"
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
        return drawn, None
    return key.draw(device), (code, problem)


def _find_obstacle(keys: Sequence[WeightsKey]) -> str | None:
    """Return why the weights of a pipeline cannot be kept, as far as that is known before."""
    limit_bytes, size_bytes = weights_limit_bytes(), sum(key.size_bytes for key in keys)
    if size_bytes > limit_bytes:
        return f"all take {format_bytes(size_bytes)}, and SDBENCH_CACHE_GIB allows {format_bytes(limit_bytes)}"
    folder = nearest_folder(keys[0].folder)
    if not os.access(folder, os.W_OK | os.X_OK):
        return f"cannot write to {folder}; set SDBENCH_CACHE to a folder that can be written"
    free_bytes = shutil.disk_usage(folder).free
    missing_bytes = sum(key.size_bytes for key in keys if not key.path().is_file())
    if missing_bytes > _FREE_SHARE * free_bytes:
        return f"they take {format_bytes(missing_bytes)}, and {format_bytes(free_bytes)} are free in {folder}"
    return None


def _make_room(key: WeightsKey, in_use: Collection[Path]) -> None:
    """Drop what a killed process left, and the least recently used weights beyond the limit that are not ``in_use``.

    A process that has mapped one of them keeps it until its end.
    """
    for draft in key.folder.glob(f".*{WEIGHTS_SUFFIX}.*"):  # its writer would hold the lock
        draft.unlink(missing_ok=True)
    files = list_weights(key.cache_folder)
    excess_bytes = key.size_bytes + sum(status.st_size for _, status in files) - weights_limit_bytes()
    for path, status in files:
        if excess_bytes <= 0:
            break
        if path in in_use:
            continue
        path.unlink(missing_ok=True)
        excess_bytes -= status.st_size


def _write(key: WeightsKey, drawn: Drawn) -> None:
    tensors = name_parameters(drawn.network)
    header = _make_header(tensors, _make_metadata(key, drawn.digest, tensors))
    write_whole(key.path(), header, *(bytes_of(tensors[name]).numpy().data for name in _order(tensors)))


def _map(key: WeightsKey, path: Path, device: str, *, mapped: bool) -> Drawn:
    """Return the network with the values of a file; ValueError says what is wrong with it."""
    import torch

    with path.open("rb") as stream:
        # Private: what is written into a tensor stays in this process.
        content = mmap.mmap(stream.fileno(), 0, mmap.MAP_PRIVATE, mmap.PROT_READ | mmap.PROT_WRITE)
    network = build_on_meta(key.component, key.dtype)
    shapes = name_parameters(network)
    metadata, header_bytes = _read_metadata(content)
    if content[:header_bytes] != _make_header(shapes, metadata):
        raise ValueError("its header is not that of these weights")
    size_bytes = sum(tensor.nbytes for tensor in shapes.values())
    if len(content) != header_bytes + size_bytes:
        raise ValueError(f"it has {len(content)} bytes instead of {header_bytes + size_bytes}")
    tensors: dict[str, torch.Tensor] = {}
    offset = header_bytes
    for name in _order(shapes):
        shape = shapes[name].shape
        flat = torch.frombuffer(content, dtype=shapes[name].dtype, count=shape.numel(), offset=offset)
        tensors[name] = flat.view(shape)
        offset += flat.nbytes
    if metadata != _make_metadata(key, metadata["weights_digest"], tensors):
        raise ValueError("its checksum differs")
    if not mapped or device != "cpu":
        tensors = {name: tensor.to(device, copy=True) for name, tensor in tensors.items()}
    fill_parameters(network, lambda name, _tensor: tensors[name])
    fill_buffers(network, device)
    return Drawn(network, metadata["weights_digest"])


def _read_metadata(content: mmap.mmap) -> tuple[dict[str, str], int]:
    header_bytes = LENGTH_BYTES + int.from_bytes(content[:LENGTH_BYTES], "little")
    if header_bytes > _HEADER_BYTES_MAX:
        raise ValueError("its header cannot be read")
    try:
        metadata = json.loads(content[LENGTH_BYTES:header_bytes])[METADATA]
        return {name: str(metadata[name]) for name in ("identity", "weights_digest", "checksum")}, header_bytes
    except (ValueError, KeyError, TypeError, OverflowError):
        raise ValueError("its header cannot be read") from None


def _make_metadata(key: WeightsKey, digest: str, tensors: Mapping[str, "torch.Tensor"]) -> dict[str, str]:
    sums = {name: add_words(tensor) for name, tensor in tensors.items()}
    facts = {"identity": key.identify(), "weights_digest": digest}
    return facts | {"checksum": sha256_of(facts | {"sums": sums})}


def _make_header(tensors: Mapping[str, "torch.Tensor"], metadata: Mapping[str, str]) -> bytes:
    entries: dict[str, Any] = {METADATA: metadata}
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
    text += b" " * (-(LENGTH_BYTES + len(text)) % ALIGNMENT_BYTES)
    return len(text).to_bytes(LENGTH_BYTES, "little") + text


def _order(tensors: Mapping[str, "torch.Tensor"]) -> list[str]:
    """Return the names in the order of the file: those that would misalign what follows come last."""
    return sorted(tensors, key=lambda name: tensors[name].nbytes % ALIGNMENT_BYTES != 0)
