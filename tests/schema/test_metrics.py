"""One fact in one place: every reader of a metric gives the same number for the same launches."""

from collections.abc import Callable
from typing import Literal

import pytest

from sdbench.cli.print_summary import summary_row
from sdbench.compare.claim_values import NotTested, read_values
from sdbench.compare.comparison import compare_records
from sdbench.query.tables import rows_of
from sdbench.schema.base import Known, Unknown
from sdbench.schema.metrics import (
    MemoryRange,
    common_source,
    explain_missing,
    launches_that_count,
    result_energy_j,
    result_latency_s,
    result_memory,
    values,
)
from sdbench.schema.outcome import Energy, Launch, MemoryUse, Succeeded
from sdbench.schema.record import Record
from sdbench.units import format_bytes, format_duration
from tests.records import MIB, make_launch, make_memory, make_record, make_result
from tests.views import build_view

UNKNOWN = Unknown(reason="not read")


def memory(peak_bytes: int = 900 * MIB, *, torch: bool = True, driver: bool = True) -> MemoryUse:
    """Return the memory of a launch on a GPU, as far as torch and the driver report it."""
    hidden: tuple[str, ...] = ("torch_allocated_peak_bytes", "torch_reserved_peak_bytes") if not torch else ()
    hidden += () if driver else ("device_process_bytes",)
    return make_memory("cuda:0", peak_bytes).model_copy(update=dict.fromkeys(hidden, UNKNOWN))


def energy(value_j: float | None, source: str = "nvml", call_count: int = 5) -> Energy:
    reading = UNKNOWN if value_j is None else Known(value=value_j)
    step = Unknown(reason="not asked in this test")
    fields = {"source": source, "energy_j": reading, "call_count": call_count, "duration_s": 1.0}
    return Energy.model_validate(fields | {"counter_step_s": step})


CASES: dict[str, Callable[[], tuple[Launch, ...]]] = {
    "torch on a CPU": lambda: tuple(make_launch(i, 0.2 + 0.01 * i) for i in range(7)),
    "torch on a GPU": lambda: tuple(make_launch(i, 0.2, "cuda:0") for i in range(7)),
    "onnxruntime on a GPU": lambda: tuple(
        make_launch(i, 0.2, "cuda:0", memory=memory(peak_bytes=(800 + i) * MIB, torch=False)) for i in range(7)
    ),
    "a GPU whose driver reports nothing": lambda: tuple(
        make_launch(i, 0.2, "cuda:0", memory=memory(torch=False, driver=False)) for i in range(7)
    ),
    "throttled launches": lambda: tuple(
        make_launch(i, 0.9 if i < 2 else 0.2, "cuda:0", throttled=Known(value=i < 2), energy=energy(100.0 + i))
        for i in range(8)
    ),
    "a launch that timed nothing": lambda: (
        make_launch(0, 0.2, series=()),
        *(make_launch(i, 0.2) for i in range(1, 7)),
    ),
    "a batch of 4": lambda: tuple(make_launch(i, 0.2, "cuda:0", batch=4) for i in range(7)),
    "energy without calls": lambda: tuple(
        make_launch(i, 0.2, "cuda:0", energy=energy(9.0, call_count=0)) for i in range(7)
    ),
}


def record_of(launches: tuple[Launch, ...], day: int = 1) -> Record:
    batch = launches[-1].batch
    result = make_result(Succeeded(launches=launches, stop_reason="max_launches"), batch=batch)
    return make_record(run_id=f"run-{day}", device=launches[-1].environment.device, results=(result,))


def as_number(shown: float | str) -> float:
    try:
        return float(shown)
    except ValueError:
        return 0.0


@pytest.mark.parametrize("case", CASES)
def test_every_reader_gives_the_same_number(case: str) -> None:
    launches = CASES[case]()
    record = record_of(launches)
    (result,) = record.results
    outcome = result.outcome
    assert isinstance(outcome, Succeeded)
    latency_s, used, energy_j = result_latency_s(outcome), result_memory(outcome), result_energy_j(outcome)
    assert latency_s == pytest.approx(0.2 if case != "torch on a CPU" else 0.23, rel=0.03)

    (row,) = rows_of(record, "run")["experiments"]
    assert row["latency_s"] == latency_s
    assert row["memory_bytes"] == (used.median_bytes if isinstance(used, MemoryRange) else None)
    assert row["energy_per_image_j"] == (energy_j.value if isinstance(energy_j, Known) else None)
    assert row["launch_count"] == len(launches_that_count(outcome))

    page = build_view((record,))
    (cells,) = next(s for c in page.chapters for s in c.sections if s.name == "results").tables[0].rows
    shown = [cell.sort if cell.sort is not None else cell.text for cell in cells]
    assert any(shown_value == pytest.approx(latency_s, rel=1e-3) for shown_value in map(as_number, shown))
    assert not isinstance(used, MemoryRange) or used.median_bytes in shown
    assert not isinstance(energy_j, Known) or energy_j.value in shown

    summary = summary_row(result, outcome)
    assert latency_s is not None
    assert format_duration(latency_s) in summary
    expected = format_bytes(used.median_bytes) if isinstance(used, MemoryRange) else "unknown"
    assert expected in summary

    claimed_metrics: tuple[Literal["latency_s", "memory_bytes", "throughput_images_per_min"], ...]
    claimed_metrics = ("latency_s", "memory_bytes", "throughput_images_per_min")
    for metric in claimed_metrics:
        known = values(metric, launches_that_count(outcome))
        if known:
            assert read_values(((result, None),), metric)[0].per_launch == known
        else:
            with pytest.raises(NotTested):
                read_values(((result, None),), metric)

    slower = tuple(
        launch.model_copy(update={"started_utc": f"2026-02-{launch.index + 1:02d}T00:00:00Z"}) for launch in launches
    )
    comparison = compare_records([record], [record_of(slower, day=2)], 0.02)
    (experiment,) = comparison.experiments
    for judgement in experiment.judgements:
        known = values(judgement.metric, launches_that_count(outcome))
        assert (judgement.ratio is None) == (not known)
        if known:
            assert judgement.ratio == pytest.approx(1.0)


def test_torch_and_onnxruntime_on_a_gpu_are_compared_by_what_the_driver_charges() -> None:
    torch = tuple(make_launch(i, 0.2, "cuda:0", memory=memory(peak_bytes=3000 * MIB)) for i in range(7))
    onnx = tuple(make_launch(i, 0.2, "cuda:0", memory=memory(peak_bytes=2500 * MIB, torch=False)) for i in range(7))
    assert common_source("memory_bytes", torch, onnx) == Known(value="device_process_bytes")
    (experiment,) = compare_records([record_of(torch)], [record_of(onnx, 2)], 0.02).experiments
    (judgement,) = [item for item in experiment.judgements if item.metric == "memory_bytes"]
    assert judgement.ratio == pytest.approx(3000 / 3500)


def test_memory_is_not_compared_where_no_source_is_known_on_both_sides() -> None:
    torch = tuple(make_launch(i, 0.2, "cuda:0", memory=memory(driver=False)) for i in range(7))
    onnx = tuple(make_launch(i, 0.2, "cuda:0", memory=memory(torch=False)) for i in range(7))
    (experiment,) = compare_records([record_of(torch)], [record_of(onnx, 2)], 0.02).experiments
    (judgement,) = [item for item in experiment.judgements if item.metric == "memory_bytes"]
    assert judgement.verdict == "incomparable"
    assert judgement.reasons == (
        "memory was measured differently: torch reserved peak against GPU memory of the process",
    )


def test_host_memory_never_stands_for_a_gpu() -> None:
    launches = CASES["a GPU whose driver reports nothing"]()
    assert values("memory_bytes", launches) == ()
    assert isinstance(common_source("memory_bytes", launches, CASES["torch on a CPU"]()), Unknown)


def test_memory_of_onnxruntime_is_unknown_for_the_reason_that_the_driver_gives() -> None:
    hidden = memory(torch=False).model_copy(update={"device_process_bytes": Unknown(reason="WSL2 shows no processes")})
    launches = (make_launch(0, 0.2, "cuda:0", memory=hidden),)
    assert explain_missing("memory_bytes", launches) == "WSL2 shows no processes"


def test_energy_of_two_counters_is_not_compared() -> None:
    card = tuple(make_launch(i, 0.2, energy=energy(10.0)) for i in range(7))
    package = tuple(make_launch(i, 0.2, energy=energy(10.0, "rapl")) for i in range(7))
    (experiment,) = compare_records([record_of(card)], [record_of(package, 2)], 0.02).experiments
    (judgement,) = [item for item in experiment.judgements if item.metric == "energy_j"]
    assert judgement.verdict == "incomparable"
