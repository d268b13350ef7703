"""Which files of the libraries that compute this process has loaded: the loader's choice, not the installed package."""

import hashlib
import os
import re
import struct
from pathlib import Path
from typing import BinaryIO

from sdbench.privacy import Redactor
from sdbench.probes.readings import ReadingFailed, as_reading, value_of
from sdbench.probes.sysfs import ROOT, explain_os_error, read_text
from sdbench.schema.base import Known, Unknown
from sdbench.schema.worker_environment import LoadedLibrary

# A wheel's copy has a hash behind the name (auditwheel): libgomp-98b1f1a4.so.1.0.0.
_FILE = re.compile(
    r"(?P<name>lib(?:cuda|cudnn(?:_\w+)?|cublas(?:Lt)?|torch_(?:cpu|cuda)|onnxruntime_\w+|dnnl|mkl_\w+|gomp|iomp5|omp"
    r"|(?:scipy_)?openblas(?:64_)?))(?:-[0-9a-f]{6,})?\.so(?:\.(?P<version>\d[\d.]*))?"
)
_PACKAGES = re.compile(r"^.*/(?=(?:site|dist)-packages/)")
_DELETED = " (deleted)"
# elf(5), of 64 bits: PT_NOTE, and the end of a note's head, NT_GNU_BUILD_ID and its owner.
_NOTE_SEGMENT = 4
_BUILD_ID = b"\x03\x00\x00\x00GNU\x00"
_ELF_64 = b"\x7fELF\x02\x01"
# libtorch_cpu has 434 MB, and NVIDIA's libraries no build id: any other build differs nearly everywhere.
_BLOCK_COUNT = 64
_BLOCK_BYTES = 65_536


@as_reading
def read_loaded_libraries(root: Path = ROOT) -> tuple[LoadedLibrary, ...]:
    """Return each file once, by name and path; ``root`` is for tests."""
    lines = value_of(read_text(root, "proc/self/maps")).splitlines()
    # proc(5): address, permissions, offset, device, inode, path.
    paths = {words[5].strip() for line in lines if len(words := line.split(maxsplit=5)) > 5}  # noqa: PLR2004
    redactor = Redactor(root)
    libraries = (_describe(path, redactor, root) for path in paths)
    return tuple(sorted((item for item in libraries if item), key=lambda item: (item.name, item.path)))


def _describe(path: str, redactor: Redactor, root: Path) -> LoadedLibrary | None:
    match = _FILE.fullmatch(Path(path.removesuffix(_DELETED)).name)
    if match is None:
        return None
    version = match["version"]
    return LoadedLibrary(
        name=match["name"],
        path=redactor.redact(_PACKAGES.sub("", path.removesuffix(_DELETED))),
        version=Known(value=version) if version else Unknown(reason="its file name has no version"),
        sha256=_hash(root / path.removeprefix("/"), match[0]),
    )


@as_reading
def _hash(path: Path, name: str) -> str:
    if path.name.endswith(_DELETED):
        raise ReadingFailed(f"{name} was replaced while it was in use")
    try:
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            build_id = _read_build_id(file)
            digest = hashlib.sha256(f"{size} ".encode() + build_id)
            for block in range(0 if build_id else _BLOCK_COUNT):
                file.seek(size * block // _BLOCK_COUNT)
                digest.update(file.read(_BLOCK_BYTES))
    except OSError as error:
        raise ReadingFailed(explain_os_error(error, name)) from None
    return digest.hexdigest()


def _read_build_id(file: BinaryIO) -> bytes:
    """Return the build id that the linker put into a library, empty where it has none."""
    file.seek(0)
    header = file.read(64)
    if not header.startswith(_ELF_64) or len(header) < 64:  # noqa: PLR2004 - its size
        return b""
    (table_offset,) = struct.unpack_from("<Q", header, 32)
    entry_bytes, count = struct.unpack_from("<HH", header, 54)
    file.seek(table_offset)
    segments = [file.read(entry_bytes) for _ in range(count)]
    for segment in segments:
        kind, _, offset, _, _, length = struct.unpack_from("<IIQQQQ", segment.ljust(56, b"\0"))
        if kind == _NOTE_SEGMENT:
            file.seek(offset)
            notes = file.read(min(length, _BLOCK_BYTES))
            start = notes.find(_BUILD_ID)
            if start >= 8:  # noqa: PLR2004 - the sizes of name and content are before it
                (id_bytes,) = struct.unpack_from("<I", notes, start - 4)
                return notes[start + len(_BUILD_ID) :][:id_bytes]
    return b""
