import ctypes
import struct
from pathlib import Path

import pytest

from sdbench.probes.loaded_libraries import read_loaded_libraries
from sdbench.schema.base import Known, Unknown
from sdbench.schema.worker_environment import LoadedLibrary
from tests.probes.replay import plant

PACKAGES = "/home/ann/secret/.venv/lib/python3.11/site-packages"
PATHS = (
    "/usr/lib/x86_64-linux-gnu/libcuda.so.580.65.06",
    "/usr/lib/x86_64-linux-gnu/libcudart.so.13",
    f"{PACKAGES}/nvidia/cudnn/lib/libcudnn.so.9",
    f"{PACKAGES}/nvidia/cudnn/lib/libcudnn_ops.so.9",
    f"{PACKAGES}/nvidia/cu13/lib/libcublasLt.so.13",
    f"{PACKAGES}/torch/lib/libtorch_cpu.so",
    f"{PACKAGES}/torch/lib/libgomp-98b1f1a4.so.1.0.0",
    f"{PACKAGES}/numpy.libs/libscipy_openblas64_-32a4b2a6.so",
    "/home/bob/lib/libiomp5.so",
)


def make_elf(build_id: bytes, filler: bytes = b"") -> bytes:
    """Return the head of a library of 64 bits with one segment of notes, which holds a build id if there is one."""
    note = struct.pack("<III4s", 4, len(build_id), 3, b"GNU\0") + build_id if build_id else b""
    header = b"\x7fELF\x02\x01".ljust(32, b"\0") + struct.pack("<Q", 64) + bytes(14) + struct.pack("<HH", 56, 1)
    segment = struct.pack("<IIQQQQQQ", 4, 0, 120, 0, 0, len(note), 0, 0)
    return header.ljust(64, b"\0") + segment + note + filler


def plant_maps(root: Path, paths: tuple[str, ...]) -> Path:
    line = "7f00-7f10 r-xp 00000000 08:01 12 {}\n"
    plant(root, {"proc/self/maps": "7f00-7f10 rw-p 0 00:00 0\n" + "".join(map(line.format, (*paths, *paths)))})
    return root


def write_library(root: Path, path: str, content: bytes) -> Path:
    file = root / path.removeprefix("/")
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content)
    return root


def read(root: Path) -> dict[str, LoadedLibrary]:
    libraries = read_loaded_libraries(root)
    assert isinstance(libraries, Known)
    return {library.name: library for library in libraries.value}


def test_libraries_that_compute_are_named_once_with_version_and_without_a_home(tmp_path: Path) -> None:
    libraries = read(plant_maps(tmp_path, PATHS))

    assert {name: library.path for name, library in libraries.items()} == {
        "libcublasLt": "site-packages/nvidia/cu13/lib/libcublasLt.so.13",
        "libcuda": "/usr/lib/x86_64-linux-gnu/libcuda.so.580.65.06",
        "libcudnn": "site-packages/nvidia/cudnn/lib/libcudnn.so.9",
        "libcudnn_ops": "site-packages/nvidia/cudnn/lib/libcudnn_ops.so.9",
        "libgomp": "site-packages/torch/lib/libgomp-98b1f1a4.so.1.0.0",
        "libiomp5": "~/lib/libiomp5.so",
        "libscipy_openblas64_": "site-packages/numpy.libs/libscipy_openblas64_-32a4b2a6.so",
        "libtorch_cpu": "site-packages/torch/lib/libtorch_cpu.so",
    }
    assert libraries["libcuda"].version == Known(value="580.65.06")
    assert libraries["libgomp"].version == Known(value="1.0.0")
    assert isinstance(libraries["libtorch_cpu"].version, Unknown)
    stored = "".join(library.model_dump_json() for library in libraries.values())
    assert not [name for name in ("ann", "bob", "secret", str(tmp_path)) if name in stored]


def hash_of(root: Path, content: bytes) -> str:
    library = read(write_library(plant_maps(root, (PATHS[0],)), PATHS[0], content))["libcuda"]
    assert isinstance(library.sha256, Known)
    return library.sha256.value


def test_build_id_and_size_identify_a_library_whatever_else_is_in_it(tmp_path: Path) -> None:
    first = hash_of(tmp_path, make_elf(b"a" * 20, b"1" * 1000))

    assert hash_of(tmp_path, make_elf(b"a" * 20, b"2" * 1000)) == first
    assert hash_of(tmp_path, make_elf(b"b" * 20, b"1" * 1000)) != first
    assert hash_of(tmp_path, make_elf(b"a" * 20, b"1" * 1001)) != first


@pytest.mark.parametrize("head", [make_elf(b""), b"\x7fELF\x01\x01 of 32 bits", b"no library", b""])
def test_a_library_without_a_build_id_is_identified_by_its_content(tmp_path: Path, head: bytes) -> None:
    first = hash_of(tmp_path, head + b"1" * 1000)

    assert hash_of(tmp_path, head + b"1" * 1000) == first
    assert hash_of(tmp_path, head + b"2" * 1000) != first


def test_a_library_that_was_replaced_or_is_gone_is_unknown(tmp_path: Path) -> None:
    plant_maps(tmp_path, (f"{PATHS[0]} (deleted)", PATHS[5]))
    libraries = read(tmp_path)

    assert libraries["libcuda"].path == PATHS[0]
    assert libraries["libcuda"].sha256 == Unknown(reason="libcuda.so.580.65.06 was replaced while it was in use")
    assert libraries["libtorch_cpu"].sha256 == Unknown(reason="libtorch_cpu.so: not there")


def test_without_maps_the_libraries_are_unknown(tmp_path: Path) -> None:
    assert isinstance(read_loaded_libraries(tmp_path), Unknown)


def test_build_id_is_the_one_that_the_linker_wrote() -> None:
    from sdbench.probes.loaded_libraries import _read_build_id

    ctypes.CDLL("libc.so.6")
    path = next(line.split()[-1] for line in Path("/proc/self/maps").read_text().splitlines() if "libc.so.6" in line)
    with Path(path).open("rb") as file:
        assert len(_read_build_id(file)) in (16, 20)
