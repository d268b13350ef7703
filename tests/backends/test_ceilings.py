from typing import Any

import pytest

torch = pytest.importorskip("torch")

from sdbench.backends import ceilings as module  # noqa: E402
from sdbench.backends.ceilings import measure_ceilings  # noqa: E402
from sdbench.probes.readings import value_of  # noqa: E402
from sdbench.schema.base import Known, Unknown  # noqa: E402
from sdbench.schema.ceilings import Ceilings, ceiling_precision  # noqa: E402
from tests.records import make_experiment  # noqa: E402


class StepClock:
    """Moves by the same step at each reading, so that every sample takes as long."""

    def __init__(self, step_s: float) -> None:
        self.now = 0.0
        self.step_s = step_s

    def now_s(self) -> float:
        self.now += self.step_s
        return self.now


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_SHAPES", ((40, 40, 40),))
    monkeypatch.setattr(module, "_FIRST_SHAPE", (32, 32, 32))
    monkeypatch.setattr(module, "_COPIED_BYTES", 2**16)
    monkeypatch.setattr(module, "_LAUNCHES", 10)


def measure(step_s: float = 0.05, precisions: Any = ("fp32",)) -> Ceilings:
    return measure_ceilings("cpu", torch.get_num_threads(), precisions, StepClock(step_s))


def test_rates_are_work_over_the_time_of_a_sample() -> None:
    ceilings = measure(0.05)

    (product,) = ceilings.matrix_products
    assert product.shape == "40x40x40"
    assert value_of(product.flop_per_s) == pytest.approx(2 * 40**3 / 0.05)
    assert value_of(ceilings.memory_bytes_per_s) == pytest.approx(3 * 2**16 / 0.05)
    assert value_of(ceilings.launch_s) == pytest.approx(0.05 / 10)
    assert isinstance(ceilings.to_device_bytes_per_s, Unknown)
    assert ceilings.threads == torch.get_num_threads()


def test_shape_that_would_take_too_long_is_left_out() -> None:
    (product,) = measure(1.0).matrix_products

    assert product.shape == "32x32x32"


def test_convolution_counts_where_it_is_faster(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_CONVOLUTION", (4, 22))
    (product,) = measure(0.05).matrix_products

    assert product.shape == "3x3 convolution, 4 channels of 22x22"
    assert value_of(product.flop_per_s) == pytest.approx(2 * 9 * 16 * 22**2 / 0.05)


def test_short_calls_are_timed_many_at_once() -> None:
    (product,) = measure(0.0005).matrix_products

    assert value_of(product.flop_per_s) == pytest.approx(10 * 2 * 40**3 / 0.0005)


def test_each_precision_is_measured() -> None:
    products = measure(precisions=("fp32", "bf16", "fp16")).matrix_products

    assert [item.precision for item in products] == ["fp32", "bf16", "fp16"]
    assert all(isinstance(item.flop_per_s, Known) for item in products)


def test_memory_that_runs_out_leaves_the_other_ceilings(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> Any:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 1 GiB")

    monkeypatch.setattr(module, "_measure_memory", refuse)
    ceilings = measure()

    assert ceilings.memory_bytes_per_s == Unknown(reason="no memory was left to measure it")
    assert isinstance(ceilings.launch_s, Known)


def test_what_the_device_cannot_compute_is_unknown_with_its_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    real = module._measure_product

    def refuse_bf16(device: Any, precision: Any, *others: Any) -> float:
        if precision == "bf16":
            raise RuntimeError('"addmm_impl" not implemented\nfor bf16')
        return real(device, precision, *others)

    monkeypatch.setattr(module, "_measure_product", refuse_bf16)
    fp32, bf16 = measure(precisions=("fp32", "bf16")).matrix_products

    assert isinstance(fp32.flop_per_s, Known)
    assert bf16.shape == "none"
    assert bf16.flop_per_s == Unknown(reason='RuntimeError: "addmm_impl" not implemented for bf16')


def test_tf32_is_switched_back() -> None:
    before = torch.backends.cuda.matmul.fp32_precision
    with module._matmul_precision("tf32"):
        assert torch.backends.cuda.matmul.fp32_precision == "tf32"

    assert torch.backends.cuda.matmul.fp32_precision == before


@pytest.mark.parametrize(
    ("options", "precision"),
    [
        ({}, "fp32"),
        ({"tf32": True}, "tf32"),
        ({"tf32": "convolutions"}, "tf32"),
        ({"precision": "bf16"}, "bf16"),
        ({"autocast": "fp16"}, "fp16"),
        ({"autocast": "fp16", "tf32": True}, "fp16"),
    ],
)
def test_ceiling_of_an_experiment_is_the_fastest_that_it_may_compute_in(
    options: dict[str, Any], precision: str
) -> None:
    assert ceiling_precision(make_experiment(**options)) == precision


class CudaStandIn:
    """The part of torch.cuda that timing uses; writes into ``log`` when the device is waited for."""

    def __init__(self, log: list[str]) -> None:
        self.log = log

    def synchronize(self, _device: Any) -> None:
        self.log.append("wait")


class LoggingClock(StepClock):
    def __init__(self, step_s: float, log: list[str]) -> None:
        super().__init__(step_s)
        self.log = log

    def now_s(self) -> float:
        self.log.append("read")
        return super().now_s()


def make_gpu_timer(monkeypatch: pytest.MonkeyPatch, step_s: float) -> tuple[module._Timer, list[str]]:
    log: list[str] = []
    monkeypatch.setattr(torch, "cuda", CudaStandIn(log))
    return module._Timer(torch.device("cuda:0"), LoggingClock(step_s, log)), log


def test_gpu_has_done_its_work_before_each_reading_of_the_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    timer, log = make_gpu_timer(monkeypatch, 0.5)

    assert timer.time(lambda: log.append("call"), 2) == pytest.approx(0.25)
    assert log == ["wait", "read", "call", "call", "wait", "read"]


def test_gpu_computes_until_its_clock_is_up_and_only_once(monkeypatch: pytest.MonkeyPatch) -> None:
    timer, log = make_gpu_timer(monkeypatch, 0.06)

    timer.best(lambda: log.append("call"))
    first = log.count("call")
    log.clear()
    timer.best(lambda: log.append("call"))

    # Three readings of the clock for each call of the warm-up.
    assert first - log.count("call") == pytest.approx(0.5 / (3 * 0.06), abs=1)


@pytest.mark.parametrize("to_device", [True, False])
def test_copies_are_of_pinned_memory(monkeypatch: pytest.MonkeyPatch, *, to_device: bool) -> None:
    pinned: list[Any] = []

    def pin(tensor: Any) -> Any:
        pinned.append(tensor)
        return tensor

    monkeypatch.setattr(torch.Tensor, "pin_memory", pin)
    timer = module._Timer(torch.device("cpu"), StepClock(0.05))

    rate = module._measure_copy(torch.device("cpu"), timer, to_device=to_device)
    assert rate == pytest.approx(2**16 / 0.05)
    assert len(pinned) == 1
