import dataclasses
import re
from pathlib import Path
from typing import Any, Self

import pytest

from sdbench.backends.base import DeviceRoom, WrongExecution
from sdbench.probes.memory import MemoryLimit, choose_host_limit
from sdbench.schema.base import Known, Reading, Unknown
from sdbench.schema.manifest import Protocol
from sdbench.schema.outcome import MemoryUse
from sdbench.schema.workload_results import AllocatorEvents, BatchProbe, BatchSearch
from sdbench.workloads import largest_batch
from tests.probes.test_out_of_memory import TEXTS
from tests.records import make_experiment, make_memory
from tests.workloads.virtual import FakeClock, VirtualBackend, VirtualSession

HIDDEN = Unknown(reason="no process list")
LOADED_BYTES = 500_000_000
BYTES_PER_IMAGE = 30_000_000
OTHERS_BYTES = 200_000_000


@dataclasses.dataclass
class Machine(VirtualBackend):
    """A device whose memory is a straight line of the batch; beyond ``capacity`` images a call fails as torch's do."""

    capacity: int = 20
    error: Exception = dataclasses.field(default_factory=lambda: MemoryError("no room"))
    batch: int = 0
    retries: int = 0
    caught: int = 0

    def with_batch(self, batch: int, steps: int) -> Self:
        self.batch = batch
        self.log.append(f"{steps} steps")
        return self

    def generate(self) -> tuple[Any, ...]:
        if self.batch > self.capacity:
            raise self.error
        if self.batch == self.capacity:
            self.retries, self.caught = self.retries + 3, self.caught + 1
        return super().generate()

    def read_device_room(self) -> DeviceRoom | None:
        free_bytes = BYTES_PER_IMAGE * self.capacity + BYTES_PER_IMAGE // 2
        return DeviceRoom(free_bytes, total_bytes=LOADED_BYTES + free_bytes + OTHERS_BYTES)

    def read_allocator_events(self) -> Reading[AllocatorEvents]:
        return Known(value=AllocatorEvents(retries=self.retries, caught_out_of_memory=self.caught))


@dataclasses.dataclass
class MachineSession(VirtualSession):
    def read_memory(self) -> MemoryUse:
        machine = self.machine
        assert isinstance(machine, Machine)
        return make_memory("cuda:0", LOADED_BYTES + BYTES_PER_IMAGE * min(machine.batch, machine.capacity))


@dataclasses.dataclass
class OnnxruntimeSession(MachineSession):
    """A session in which torch counts nothing, and the driver reports what the process holds, or not."""

    process: Unknown | None = None

    def read_memory(self) -> MemoryUse:
        known, none = super().read_memory().torch_reserved_peak_bytes, Unknown(reason="onnxruntime counts no peak")
        values = {"torch_reserved_peak_bytes": none, "torch_allocated_peak_bytes": none}
        return super().read_memory().model_copy(update=values | {"device_process_bytes": self.process or known})


def search_with_onnxruntime(process: Unknown | None = None, **options: Any) -> BatchSearch:
    experiment = make_experiment(workload="largest-batch", **options)
    session = OnnxruntimeSession(Machine(FakeClock(), [1.0]), Protocol(), experiment=experiment, process=process)
    result = largest_batch.run(session).workload_result
    assert isinstance(result, BatchSearch)
    return result


def search(capacity: int = 20, known: tuple[BatchProbe, ...] = (), **options: Any) -> tuple[BatchSearch, Machine]:
    machine = Machine(FakeClock(), [1.0], capacity=capacity)
    experiment = make_experiment(workload="largest-batch", **options)
    output = largest_batch.run(MachineSession(machine, Protocol(), experiment=experiment, known_probes=known))
    assert isinstance(output.workload_result, BatchSearch)
    assert output.series == ()
    return output.workload_result, machine


def make_probe(batch: int, *, fits: bool) -> BatchProbe:
    return BatchProbe(batch=batch, fits=fits, peak_bytes=Unknown(reason="x"), wall_s=1.0, message="")


@pytest.mark.parametrize("capacity", [1, 2, 7, 20, 28, 255, 256, 1000])
def test_largest_batch_is_reached_up_to_batch_max(capacity: int) -> None:
    workload_result, _ = search(capacity)
    assert workload_result.largest_batch == min(capacity, 256)
    assert len(workload_result.probes) <= 8


def test_batch_that_does_not_fit_is_recovered_from_in_the_same_process() -> None:
    workload_result, machine = search(20)
    failed = [probe for probe in workload_result.probes if not probe.fits]
    assert failed
    assert failed[0].message == "no room"
    assert machine.log.count("open") == 1
    assert machine.log.count("recover") == len(workload_result.probes)


def test_supervisor_gets_an_event_before_and_after_each_try() -> None:
    _, machine = search(2)
    events = [entry for entry in machine.log if entry.startswith("prob")]
    assert events[:3] == ["probe", "probing 1", "probe 1 fits"]


def test_what_an_earlier_worker_died_of_is_not_tried_again() -> None:
    known = (make_probe(1, fits=True), make_probe(9, fits=False))
    workload_result, machine = search(20, known)
    assert workload_result.largest_batch == 8
    assert workload_result.probes[:2] == known
    assert "probing 9" not in machine.log


def test_no_image_at_all_is_a_result_too() -> None:
    workload_result, _ = search(20, (make_probe(1, fits=False),))
    assert workload_result.largest_batch == 0


@pytest.mark.parametrize("message", ["a broken kernel", "could not create a primitive"])
def test_another_error_than_memory_ends_the_search(message: str) -> None:
    machine = Machine(FakeClock(), [1.0], capacity=0, error=RuntimeError(message))
    experiment = make_experiment(workload="largest-batch")
    with pytest.raises(RuntimeError, match=message):
        largest_batch.run(MachineSession(machine, Protocol(), experiment=experiment))


@pytest.mark.parametrize(("text", "where", "source"), TEXTS)
def test_text_of_a_library_ends_the_search_only_where_memory_ran_out(text: str, where: str, source: str) -> None:
    machine = Machine(FakeClock(), [1.0], capacity=4, error=RuntimeError(text))
    session = MachineSession(machine, Protocol(), experiment=make_experiment(workload="largest-batch"))
    if where == "none":
        with pytest.raises(RuntimeError, match=re.escape(text)):
            largest_batch.run(session)
        return
    output = largest_batch.run(session)
    assert isinstance(output.workload_result, BatchSearch), source
    assert output.workload_result.largest_batch == 4


def test_error_without_words_is_not_a_batch_that_fits() -> None:
    machine = Machine(FakeClock(), [1.0], capacity=4, error=MemoryError())
    output = largest_batch.run(
        MachineSession(machine, Protocol(), experiment=make_experiment(workload="largest-batch"))
    )
    assert isinstance(output.workload_result, BatchSearch)
    assert output.workload_result.largest_batch == 4
    assert {probe.message for probe in output.workload_result.probes if not probe.fits} == {"MemoryError"}


def test_batch_that_fits_only_after_retries_is_marked() -> None:
    workload_result, _ = search(20)
    marked = [probe for probe in workload_result.probes if probe.fits and probe.message]
    assert [probe.batch for probe in marked] == [20]
    assert marked[0].message == (
        "torch freed its cache and asked again (3 x), "
        "memory ran out within calls that continued with slower kernels (1 x)"
    )


def test_limit_of_onnxruntime_holds_what_its_process_holds_already() -> None:
    result = search_with_onnxruntime()
    assert result.largest_batch == 20
    assert result.limit_bytes == LOADED_BYTES + BYTES_PER_IMAGE * 20 + BYTES_PER_IMAGE // 2
    assert result.loaded_bytes == Known(value=LOADED_BYTES)


def test_peak_that_is_unknown_is_above_no_limit() -> None:
    result = search_with_onnxruntime(HIDDEN)
    assert result.largest_batch == 20
    assert {probe.message for probe in result.probes if not probe.fits} == {"no room"}
    assert result.limit_source == "all the device has: what this process holds is unknown"


def test_requested_limit_on_an_unknown_peak_is_refused() -> None:
    with pytest.raises(
        WrongExecution, match=r"memory_limit_bytes cannot be checked: .*\(no process list\); use backend"
    ):
        search_with_onnxruntime(HIDDEN, memory_limit_bytes=2**30)


def test_search_with_an_unknown_peak_is_refused_where_memory_is_paged(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(largest_batch, "is_wsl", lambda: True)
    with pytest.raises(WrongExecution, match="what WSL2 pages to the host cannot be checked"):
        search_with_onnxruntime(HIDDEN)


def test_probes_take_no_more_steps_than_hold_the_most_memory() -> None:
    _, machine = search(3, steps=50)
    assert "5 steps" in machine.log
    assert "50 steps" not in machine.log


def test_host_limit_is_the_smaller_of_what_is_requested_and_what_is_safe(monkeypatch: pytest.MonkeyPatch) -> None:
    chosen: list[int | None] = []

    def choose(requested_bytes: int | None) -> MemoryLimit:
        chosen.append(requested_bytes)
        return MemoryLimit(10**9, "a test")

    monkeypatch.setattr(largest_batch, "choose_host_limit", choose)
    backend = VirtualBackend(FakeClock(), [1.0], peak_bytes=2 * 10**9)
    experiment = make_experiment(workload="largest-batch", memory_limit_bytes=3 * 10**9)
    output = largest_batch.run(VirtualSession(backend, Protocol(), experiment=experiment))
    assert chosen == [3 * 10**9]
    assert isinstance(output.workload_result, BatchSearch)
    assert output.workload_result.largest_batch == 0  # the first image's peak is above the limit
    assert output.workload_result.probes[0].message == "its peak of 2000000000 bytes is above the limit"
    assert isinstance(output.workload_result.probes[0].peak_bytes, Known)


def test_own_process_is_where_the_limit_is_read(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="free memory cannot be read"):
        choose_host_limit(None, tmp_path)
