"""What counts as memory of a launch."""

import sys
from dataclasses import dataclass
from types import ModuleType, SimpleNamespace

import pytest

from sdbench.backends.base import DeviceMemory
from sdbench.errors import EnvironmentProblem
from sdbench.probes.devices import Device, choose_device
from sdbench.schema.base import Known, Reading, Unknown
from sdbench.schema.manifest import Protocol
from sdbench.schema.wire import WorkerRequest
from sdbench.schema.workload_results import AllocatorEvents
from sdbench.workloads import base
from sdbench.workloads.base import Session
from tests.records import make_experiment
from tests.workloads.virtual import FakeClock, VirtualBackend


@dataclass
class Allocator(VirtualBackend):
    """A backend whose memory peak is the most that was in use since the last reset."""

    used_bytes: int = 100
    peak: int = 100

    def use(self, used_bytes: int) -> None:
        self.used_bytes = used_bytes
        self.peak = max(self.peak, used_bytes)

    def reset_peaks(self) -> None:
        self.peak = self.used_bytes

    def read_peaks(self) -> DeviceMemory:
        return DeviceMemory(Known(value=self.peak), Unknown(reason="not counted"))


def open_session(backend: VirtualBackend) -> Session:
    request = WorkerRequest(
        experiment=make_experiment(), protocol=Protocol(), device="cpu", cache_folder="unused", image_prefix=None
    )
    session = Session(request, FakeClock(), lambda _event: None)
    session._backend = backend
    return session


def test_memory_counts_before_and_after_a_pause_and_not_within() -> None:
    backend = Allocator(FakeClock(), [])
    session = open_session(backend)
    session.reset_memory()
    backend.use(300)
    backend.use(200)
    with session.memory_paused():
        backend.use(900)
        backend.use(200)
    assert session.read_memory().torch_allocated_peak_bytes == Known(value=300)
    backend.use(400)
    assert session.read_memory().torch_allocated_peak_bytes == Known(value=400)
    assert session.read_memory().torch_reserved_peak_bytes == Unknown(reason="not counted")


def test_memory_that_ran_out_within_a_pause_does_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    backend = Allocator(FakeClock(), [])
    caught = [1, 1, 4, 5]

    def count(_backend: VirtualBackend) -> Known[AllocatorEvents]:
        return Known(value=AllocatorEvents(retries=0, caught_out_of_memory=caught.pop(0)))

    monkeypatch.setattr(VirtualBackend, "read_allocator_events", count)
    session = open_session(backend)
    assert session.read_allocator_events() == Known(value=AllocatorEvents(retries=0, caught_out_of_memory=1))
    with session.memory_paused():
        pass
    assert session.read_allocator_events() == Known(value=AllocatorEvents(retries=0, caught_out_of_memory=2))


def test_libraries_that_a_pause_loads_onto_the_device_do_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    process = [500]

    def read(_device: object) -> tuple[Reading[int], Reading[int]]:
        return Known(value=process[0]), Known(value=9000)

    monkeypatch.setattr(base, "read_device_memory", read)
    session = open_session(Allocator(FakeClock(), []))
    session.reset_memory()
    with session.memory_paused():
        process[0] += 80
    process[0] += 7
    assert session.read_memory().device_process_bytes == Known(value=507)
    assert session.read_memory().device_total_used_bytes == Known(value=9000)
    session.reset_memory()
    assert session.read_memory().device_process_bytes == Known(value=587)


def test_reset_forgets_what_came_before_a_pause() -> None:
    backend = Allocator(FakeClock(), [])
    session = open_session(backend)
    session.reset_memory()
    backend.use(300)
    backend.use(100)
    with session.memory_paused():
        pass
    session.reset_memory()
    assert session.read_memory().torch_allocated_peak_bytes == Known(value=100)


def test_worker_whose_torch_is_on_another_card_than_nvmls_fails_while_it_loads(monkeypatch: pytest.MonkeyPatch) -> None:
    def choose(_request: str) -> Device:
        uuid = "GPU-0ddba115-4444-4555-8666-fedcbafedcba"
        return choose_device("cpu").model_copy(update={"kind": "cuda", "index": 0, "uuid": uuid})

    properties = SimpleNamespace(uuid="5a11ed00-1111-4222-8333-abcdefabcdef")
    torch = ModuleType("torch")
    torch.cuda = SimpleNamespace(is_initialized=lambda: False, get_device_properties=lambda _: properties)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "torch", torch)
    monkeypatch.setattr(base, "choose_device", choose)
    session = open_session(Allocator(FakeClock(), []))

    with pytest.raises(EnvironmentProblem, match="torch computes on another GPU"):
        session.open_backend(make_experiment(backend="virtual"))
