"""GPU memory that the driver pages to the host, known by what torch held and what there was."""

from pathlib import Path

import pytest

from sdbench.backends.base import DeviceMemory, DeviceRoom
from sdbench.schema.base import Known, Unknown
from sdbench.workloads.memory_warnings import find_memory_warnings, read_room
from tests.records import make_memory
from tests.workloads.virtual import FakeClock, VirtualBackend

GIB = 2**30
NONE = Unknown(reason="not counted")


def paging(held_bytes: int, at_start: DeviceRoom | None, root: Path) -> list[str]:
    memory = make_memory("cuda:0", held_bytes)
    return [warning.message for warning in find_memory_warnings(memory, NONE, at_start, root)]


def test_more_memory_than_the_gpu_has_was_paged_to_the_host(tmp_path: Path) -> None:
    (message,) = paging(9 * GIB, DeviceRoom(7 * GIB, 8 * GIB), tmp_path)
    assert message == "torch held 9.00 GiB where the GPU has 8.00 GiB: the driver paged GPU memory to the host"


@pytest.mark.parametrize(
    ("version", "count"), [("Linux version 6.6.87.2-microsoft-standard-WSL2", 1), ("Linux 6.8", 0)]
)
def test_more_than_was_free_was_paged_only_where_the_driver_does_so(tmp_path: Path, version: str, count: int) -> None:
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/version").write_text(version)
    messages = paging(6 * GIB, DeviceRoom(5 * GIB, 8 * GIB), tmp_path)
    assert len(messages) == count
    assert all("were free at the start 5.00 GiB" in message for message in messages)


def test_memory_of_the_host_is_not_paged_to_the_host(tmp_path: Path) -> None:
    assert paging(9 * GIB, None, tmp_path) == []


def test_what_torch_holds_at_the_start_is_free_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    backend = VirtualBackend(FakeClock(), [])
    assert read_room(backend) is None
    monkeypatch.setattr(backend, "read_device_room", lambda: DeviceRoom(5, 8))
    monkeypatch.setattr(backend, "read_peaks", lambda: DeviceMemory(NONE, Known(value=2)))
    assert read_room(backend) == DeviceRoom(7, 8)
