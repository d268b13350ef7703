"""Kept weights: the values that would be drawn, whatever becomes of the file, the disk and other processes."""

import errno
import mmap
import os
import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from sdbench.errors import EnvironmentProblem
from sdbench.models import synthetic, weights_cache
from sdbench.models.networks import Networks, name_parameters
from sdbench.models.pipeline_folders import load_shipped
from sdbench.models.synthetic import Drawn, build_synthetic, combine_digests
from sdbench.models.weights_cache import WeightsKey, keep_weights, load_synthetic, make_keys
from sdbench.probes.out_of_memory import where_memory_ran_out
from sdbench.store.cache_folder import measure_weights

NAME = "text_encoder"
TINY = load_shipped("tiny-sd").networks[NAME]
SIZE_BYTES = 1_600_672 * 4


def make_key(folder: Path, weights_seed: int = 0, dtype: torch.dtype = torch.float32) -> WeightsKey:
    return WeightsKey(NAME, TINY, weights_seed, dtype, folder)


def load(key: WeightsKey, *, mapped: bool = True) -> Networks:
    return load_synthetic([key], "cpu", mapped=mapped)


def drawn(weights_seed: int = 0, dtype: torch.dtype = torch.float32) -> Networks:
    network = build_synthetic(NAME, TINY, weights_seed, "cpu", dtype)
    return Networks({NAME: network.network}, combine_digests({NAME: network.digest}), "drawn")


def tensors_of(networks: Networks) -> dict[str, torch.Tensor]:
    return name_parameters(networks.by_component[NAME])


@pytest.fixture
def draws(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the list that each drawing of weights adds the thread's name to."""
    names: list[str] = []

    def build(*arguments: Any) -> Drawn:
        names.append(threading.current_thread().name)
        return build_synthetic(*arguments)

    monkeypatch.setattr(weights_cache, "build_synthetic", build)
    return names


def keep(key: WeightsKey) -> Path:
    keep_weights([key], lambda: None)
    return key.path()


def assert_same_values(networks: Networks, expected: Networks) -> None:
    tensors, others = tensors_of(networks), tensors_of(expected)
    assert tensors.keys() == others.keys()
    assert all(
        torch.equal(tensor, others[name]) and tensor.dtype == others[name].dtype for name, tensor in tensors.items()
    )
    assert networks.digest == expected.digest


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("mapped", [True, False])
def test_kept_weights_are_those_that_would_be_drawn(tmp_path: Path, dtype: torch.dtype, mapped: bool) -> None:
    key = make_key(tmp_path, 3, dtype)
    keep(key)
    networks = load(key, mapped=mapped)
    assert_same_values(networks, drawn(3, dtype))
    assert (networks.source, networks.warnings) == ("mapped", ())
    assert networks.mapped_bytes == (key.size_bytes if mapped else 0)
    for network in networks.by_component.values():
        assert not network.training
        assert not any(tensor.requires_grad for tensor in network.parameters())
    positions = dict(networks.by_component["text_encoder"].named_buffers())["embeddings.position_ids"]
    assert positions.tolist() == [list(range(77))]


def test_weights_are_drawn_once_for_any_number_of_launches(tmp_path: Path, draws: list[str]) -> None:
    key, stages = make_key(tmp_path), list[str]()
    for _ in range(3):
        keep_weights([key], lambda: stages.append("draw"))
        load(key)
    assert (len(draws), stages) == (1, ["draw"])
    assert measure_weights(tmp_path) == key.path().stat().st_size


def test_the_file_is_one_that_safetensors_reads(tmp_path: Path) -> None:
    tensors = load_file(keep(make_key(tmp_path)))
    expected = tensors_of(drawn())
    assert tensors.keys() == expected.keys()
    assert all(torch.equal(tensors[name], tensor) for name, tensor in expected.items())


def test_mapped_tensors_are_aligned_like_those_of_the_allocator(tmp_path: Path) -> None:
    keep(make_key(tmp_path))
    tensors = tensors_of(load(make_key(tmp_path))).values()
    large = [tensor for tensor in tensors if tensor.nbytes % 64 == 0]
    assert len(large) > 0.9 * len(tensors)
    assert all(tensor.data_ptr() % 64 == 0 for tensor in large)


def test_what_writes_into_a_mapped_tensor_does_not_change_the_file(tmp_path: Path) -> None:
    content = keep(make_key(tmp_path)).read_bytes()
    with torch.no_grad():
        for tensor in tensors_of(load(make_key(tmp_path))).values():
            tensor.zero_()
    assert make_key(tmp_path).path().read_bytes() == content


@pytest.mark.parametrize("change", ["weights_seed", "dtype", "recipe", "torch", "vectors"])
def test_whatever_decides_the_values_decides_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    path = make_key(tmp_path).path()
    match change:
        case "weights_seed":
            other = make_key(tmp_path, weights_seed=1)
        case "dtype":
            other = make_key(tmp_path, dtype=torch.bfloat16)
        case _:
            other = make_key(tmp_path)
    if change == "recipe":
        monkeypatch.setattr(weights_cache, "RECIPE_VERSION", synthetic.RECIPE_VERSION + 1)
    elif change == "torch":
        monkeypatch.setattr(torch, "__version__", "2.99.0")
    elif change == "vectors":
        monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "DEFAULT")
    assert other.path() != path


def flip(position: float) -> Callable[[Path], None]:
    """Return what flips one bit at a share of the file's length."""

    def damage(path: Path) -> None:
        content = bytearray(path.read_bytes())
        content[min(int(position * len(content)), len(content) - 1)] ^= 1
        path.write_bytes(content)

    return damage


def flip_in(text: bytes) -> Callable[[Path], None]:
    def damage(path: Path) -> None:
        content = bytearray(path.read_bytes())
        content[content.index(text) + len(text)] ^= 1
        path.write_bytes(content)

    return damage


@pytest.mark.parametrize(
    "damage",
    [
        *(flip(share) for share in (0.0, 0.2, 0.5, 0.9, 1.0)),
        flip_in(b'"weights_digest":"'),
        flip_in(b'"checksum":"'),
        flip_in(b'"shape":['),
        lambda path: path.write_bytes(path.read_bytes()[:-1]),
        lambda path: path.write_bytes(path.read_bytes() + b"\0"),
        lambda path: path.write_bytes(path.read_bytes()[:4]),
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(b"\xff" * 1000),
        lambda path: path.write_bytes((8).to_bytes(8, "little") + b'{"a": 1}'),
        lambda path: path.write_bytes(bytes(path.stat().st_size)),
    ],
)
def test_damaged_file_is_noticed_and_its_weights_are_drawn_again(
    tmp_path: Path, damage: Callable[[Path], None], draws: list[str]
) -> None:
    key = make_key(tmp_path)
    damage(keep(key))
    networks = load(key)
    assert_same_values(networks, drawn())
    assert (networks.source, networks.mapped_bytes) == ("drawn", 0)
    (warning,) = networks.warnings
    assert warning.code == "weights-drawn-again"
    assert f"{key.path().name} was damaged" in warning.message
    keep(key)
    assert len(draws) == 3  # to keep, for this launch, and to keep again
    assert load(key).source == "mapped"


def test_host_without_memory_to_map_the_weights_is_out_of_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, draws: list[str]
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOMEM, "Cannot allocate memory")

    key = make_key(tmp_path)
    keep(key)
    monkeypatch.setattr(mmap, "mmap", refuse)
    with pytest.raises(OSError, match="Cannot allocate memory") as caught:
        load(key)
    assert where_memory_ran_out(caught.value) == "host"
    assert key.path().exists()
    assert len(draws) == 1  # not drawn again, into the memory that is not there


def test_full_disk_lets_the_launch_draw_its_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path, *_: Any) -> None:
        raise EnvironmentProblem(f"cannot write {path}: No space left on device; check the folder and the free space")

    monkeypatch.setattr(weights_cache, "write_whole", refuse)
    key = make_key(tmp_path)
    keep(key)
    networks = load(key)
    assert networks.source == "drawn"
    assert networks.warnings[0].code == "weights-not-kept"
    assert "cannot write" in networks.warnings[0].message


def test_disk_that_would_be_half_full_of_weights_keeps_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, draws: list[str]
) -> None:
    usage = shutil.disk_usage(tmp_path)._replace(free=2 * SIZE_BYTES - 2)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    keep(make_key(tmp_path))
    assert draws == []
    assert "are free in" in load(make_key(tmp_path)).warnings[0].message


def test_read_only_cache_folder_lets_the_launch_draw_its_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, draws: list[str]
) -> None:
    # Root may write to every folder but those of a read-only file system.
    monkeypatch.setattr(os, "access", lambda *_: False)
    keep(make_key(tmp_path / "cache"))
    assert draws == []
    assert "cannot write to" in load(make_key(tmp_path / "cache")).warnings[0].message


def test_cache_folder_that_is_a_file_lets_the_launch_draw_its_weights(tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("")
    keep(make_key(tmp_path / "cache"))
    networks = load(make_key(tmp_path / "cache"))
    assert (networks.source, networks.warnings[0].code) == ("drawn", "weights-not-kept")


@pytest.mark.parametrize("limit", ["0", "0.001"])
def test_limit_of_the_cache_keeps_no_weights_that_are_larger(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: str
) -> None:
    monkeypatch.setenv("SDBENCH_CACHE_GIB", limit)
    keep(make_key(tmp_path))
    assert measure_weights(tmp_path) == 0
    assert "SDBENCH_CACHE_GIB allows" in load(make_key(tmp_path)).warnings[0].message


def test_least_recently_used_weights_make_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    keys = [make_key(tmp_path, weights_seed) for weights_seed in range(3)]
    for age, key in enumerate(keys[:2]):
        os.utime(keep(key), ns=(age, age))
    load(keys[0])
    monkeypatch.setenv("SDBENCH_CACHE_GIB", str(2.5 * SIZE_BYTES / 2**30))
    keep(keys[2])
    assert [key.path().exists() for key in keys] == [True, False, True]


def test_weights_in_use_survive_their_file(tmp_path: Path) -> None:
    path = keep(make_key(tmp_path))
    networks = load(make_key(tmp_path))
    path.unlink()
    assert_same_values(networks, drawn())


def test_two_processes_at_once_draw_the_weights_once(tmp_path: Path, draws: list[str]) -> None:
    threads = [threading.Thread(target=keep, args=(make_key(tmp_path),)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(draws) == 1
    assert load(make_key(tmp_path)).source == "mapped"


def test_what_a_killed_process_left_is_removed(tmp_path: Path) -> None:
    key = make_key(tmp_path)
    key.folder.mkdir()
    draft = key.folder / f".{key.path().name}.0123456789abcdef"
    draft.write_bytes(b"half")
    keep(key)
    assert sorted(path.name for path in key.folder.iterdir()) == [".lock", key.path().name]


def test_pipeline_that_the_limit_does_not_hold_is_not_kept_in_part(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, draws: list[str]
) -> None:
    keys = make_keys(load_shipped("tiny-sd"), 0, torch.float32, tmp_path)
    monkeypatch.setenv("SDBENCH_CACHE_GIB", str(0.9 * sum(key.size_bytes for key in keys) / 2**30))
    keep_weights(keys, lambda: None)
    assert (draws, measure_weights(tmp_path)) == ([], 0)
    (warning,) = load_synthetic(keys, "cpu").warnings
    assert "text_encoder, unet, vae" in warning.message
    assert "SDBENCH_CACHE_GIB allows" in warning.message


def test_networks_of_a_pipeline_do_not_make_room_for_each_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = keep(make_key(tmp_path, weights_seed=1))
    keys = make_keys(load_shipped("tiny-sd"), 0, torch.float32, tmp_path)
    monkeypatch.setenv("SDBENCH_CACHE_GIB", str(1.01 * sum(key.size_bytes for key in keys) / 2**30))
    keep_weights(keys, lambda: None)
    assert all(key.path().is_file() for key in keys)
    assert not other.exists()
