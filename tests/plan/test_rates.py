"""The rate that runs reached on this machine, and the plans that use it."""

from pathlib import Path
from typing import Any

import pytest

from sdbench.cli.plan import plan_text
from sdbench.plan.estimate import estimate
from sdbench.plan.make_plan import PlanRequest, make_plan
from sdbench.plan.rates import keep_rates, read_rates
from sdbench.schema.base import Known
from sdbench.schema.outcome import Succeeded
from sdbench.schema.record import Record, Result
from tests.plan.test_estimate import machine, planned
from tests.records import make_environment, make_launch, make_record, make_result, make_succeeded, make_work

KEY = "fp32, 2 threads"
CPU = "Example CPU"


def record_of(*results: Result, **changes: Any) -> Record:
    return make_record(results=results, **changes)


def result_of(tflop: float, latency_s: float, *, batch: int = 1, **options: Any) -> Result:
    environment = make_environment(work=make_work(flop_per_image={"unet": int(tflop * 1e12)}))
    outcome = make_succeeded(latency_s, batch=batch, environment=environment)
    return make_result(outcome, batch=batch, **options)


def test_largest_call_of_each_precision_decides(tmp_path: Path) -> None:
    keep_rates(record_of(result_of(1, 10), result_of(1, 4, batch=4), result_of(3, 2, precision="bf16")), CPU, tmp_path)
    rates = read_rates(CPU, tmp_path)
    assert rates == {KEY: pytest.approx(1e12, rel=0.05), "bf16, 2 threads": pytest.approx(1.5e12, rel=0.05)}
    # A later and smaller call changes nothing, one as large does.
    keep_rates(record_of(result_of(1, 1)), CPU, tmp_path)
    assert read_rates(CPU, tmp_path) == rates
    keep_rates(record_of(result_of(4, 8)), CPU, tmp_path)
    assert read_rates(CPU, tmp_path)[KEY] == pytest.approx(0.5e12, rel=0.05)
    assert read_rates("Another CPU", tmp_path) == {}


@pytest.mark.parametrize(
    "record",
    [
        record_of(result_of(0.1, 1)),
        record_of(result_of(4, 1, attention="eager")),
        record_of(result_of(4, 1, backend="onnxruntime")),
        record_of(result_of(4, 1), origin="virtual"),
    ],
    ids=["small", "other attention", "other backend", "simulated"],
)
def test_calls_that_say_little_of_the_device_are_not_kept(record: Record, tmp_path: Path) -> None:
    keep_rates(record, CPU, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_throttled_launches_do_not_count(tmp_path: Path) -> None:
    work = make_environment(work=make_work(flop_per_image={"unet": 4 * 10**12}))
    steady, slow = (
        make_launch(index, latency_s, environment=work, throttled=Known(value=throttled))
        for index, latency_s, throttled in ((0, 2.0, False), (1, 9.0, True))
    )
    keep_rates(record_of(make_result(Succeeded(launches=(steady, slow), stop_reason="converged"))), CPU, tmp_path)
    assert read_rates(CPU, tmp_path)[KEY] == pytest.approx(2e12, rel=0.05)


def test_damaged_file_is_as_good_as_none_and_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "rates.json").write_text("{")
    assert read_rates(CPU, tmp_path) == {}
    keep_rates(record_of(result_of(4, 8)), CPU, tmp_path)
    assert KEY in read_rates(CPU, tmp_path)


def test_cache_that_cannot_be_written_does_not_end_a_run(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    keep_rates(record_of(result_of(4, 8)), CPU, tmp_path / "file")


def test_measured_rate_decides_the_time_of_its_precision_and_threads() -> None:
    fast = machine("cpu", 2).model_copy(update={"rates_flop_per_s": {KEY: 1e12}})
    item = planned(steps=1)
    assert estimate(item, fast).measured_rate
    assert estimate(item, fast).call_s == pytest.approx(estimate(item, machine("cpu", 20)).call_s, rel=0.01)
    for other in (planned(steps=1, precision="bf16"), planned(steps=1, threads=1)):
        assert estimate(other, fast) == estimate(other, machine("cpu", 2))


def test_plan_says_what_its_times_are_from(monkeypatch: pytest.MonkeyPatch) -> None:
    request = PlanRequest("smoke", device="cpu", settings=("threads=2",))
    assert "times are rough, from FLOP and typical rates;" in plan_text(make_plan(request))
    monkeypatch.setattr("sdbench.plan.make_plan.read_rates", lambda *_: {KEY: 1e12})
    assert "from this machine's measured rate, and for the other " in plan_text(make_plan(request))
    assert "from this machine's measured rate;" in plan_text(
        make_plan(PlanRequest("smoke", settings=("threads=2", "precision=fp32"), device="cpu"))
    )
