"""The fixed operation around the timed calls: how it is timed, and what it leaves as it was."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch

from sdbench.backends import reference_operation
from sdbench.backends.reference_operation import time_reference_operation
from sdbench.schema.base import Known, Unknown
from sdbench.schema.experiment import Precision
from sdbench.worker.clock import MonotonicClock
from tests.backends.test_pytorch import open_tiny

CPU = torch.device("cpu")


@dataclass
class SteppingClock:
    """Each reading is ``step_s`` after the one before."""

    step_s: float
    readings: list[float] = field(default_factory=lambda: [0.0])

    def now_s(self) -> float:
        self.readings.append(self.readings[-1] + self.step_s)
        return self.readings[-1]


@pytest.mark.parametrize(("step_s", "count"), [(0.001, 6), (0.045, 3), (0.19, 1), (5.0, 1)])
def test_six_samples_are_taken_unless_they_last_longer_than_a_fifth_of_a_second(step_s: float, count: int) -> None:
    reading = time_reference_operation(CPU, "fp32", torch.float32, SteppingClock(step_s))
    assert isinstance(reading, Known)
    assert reading.value.samples_s == pytest.approx([step_s] * count)


@pytest.mark.parametrize(
    ("options", "precision"),
    [({}, "fp32"), ({"precision": "fp16"}, "fp16"), ({"autocast": "bf16"}, "bf16")],
    ids=str,
)
def test_it_computes_in_the_precision_of_the_experiment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: dict[str, Any], precision: Precision
) -> None:
    dtypes = set()
    matmul = torch.matmul

    def watch(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
        dtypes.add(str(first.dtype))
        return matmul(first, second)

    monkeypatch.setattr(torch, "matmul", watch)
    reading = open_tiny(tmp_path, **options).time_reference_operation(MonotonicClock())
    assert isinstance(reading, Known)
    assert dtypes == {{"fp32": "torch.float32", "fp16": "torch.float16", "bf16": "torch.bfloat16"}[precision]}
    assert (reading.value.precision, reading.value.device, reading.value.threads) == (precision, "cpu", 2)
    assert min(reading.value.samples_s) > 0


def test_it_leaves_the_random_numbers_of_torch_as_they_were() -> None:
    before = torch.get_rng_state()
    time_reference_operation(CPU, "fp32", torch.float32, MonotonicClock())
    assert torch.equal(torch.get_rng_state(), before)


def test_without_memory_for_it_the_launch_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(reference_operation, "_time", fail)
    reading = time_reference_operation(CPU, "fp32", torch.float32, MonotonicClock())
    assert reading == Unknown(reason="no memory was left for the reference operation")


def test_another_error_of_it_is_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("an operator is missing")

    monkeypatch.setattr(reference_operation, "_time", fail)
    with pytest.raises(RuntimeError, match="an operator is missing"):
        time_reference_operation(CPU, "fp32", torch.float32, MonotonicClock())


@pytest.mark.gpu
def test_torch_reserves_as_much_after_it_as_before() -> None:
    device = torch.device("cuda:0")
    torch.zeros(1, device=device)
    before = torch.cuda.memory_reserved(device)
    time_reference_operation(device, "fp16", torch.float16, MonotonicClock())
    assert torch.cuda.memory_reserved(device) == before
