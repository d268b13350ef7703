from typing import Any

import pytest
from PIL import Image

from sdbench.schema.base import Known, Unknown
from sdbench.schema.manifest import Protocol
from sdbench.schema.metrics import sustained_ratio
from sdbench.schema.workload_results import AllocatorEvents
from sdbench.workloads.base import WorkloadOutput
from sdbench.workloads.latency import reason_to_stop, run
from tests.records import make_launch
from tests.workloads import virtual
from tests.workloads.virtual import FakeClock, VirtualBackend, VirtualSession


def measure(
    latencies_s: list[float], protocol: Protocol | None = None, **changes: Any
) -> tuple[WorkloadOutput, VirtualBackend]:
    clock = FakeClock()
    backend = VirtualBackend(clock, latencies_s, **changes)
    chosen = protocol or Protocol(warmup_calls=2, calls_min=3, calls_max=5)
    return run(VirtualSession(backend, chosen)), backend


def test_time_of_a_call_holds_what_the_device_does_after_it_returned() -> None:
    output, _ = measure([5.0, 2.0, 1.0])
    assert output.series[0].samples[:3] == (5.0, 2.0, 1.0)


def test_warmups_are_kept_and_marked_and_the_first_call_stands_apart() -> None:
    output, _ = measure([5.0, 2.0, 1.0])
    latency = output.series[0]
    assert latency.warmup_count == 2
    assert set(latency.steady) == {1.0}
    assert output.first_call_s == 5.0


def test_device_is_idle_before_each_clock_reading() -> None:
    _, backend = measure([1.0])
    calls = [entry for entry in backend.log if entry in ("synchronize", "generate")]
    assert calls[:3] == ["synchronize", "generate", "synchronize"]


def test_last_warm_up_is_the_observed_call_and_no_further_call_is_made_for_it() -> None:
    output, backend = measure([5.0, 2.0, 1.0], Protocol(warmup_calls=3, calls_min=3, calls_max=5))
    calls = [entry for entry in backend.log if entry in ("generate", "observe")]
    assert calls == ["generate", "generate", "observe", "generate", "generate", "generate"]
    assert output.series[0].samples[:3] == (5.0, 2.0, 1.0)
    assert {series.name: series.samples for series in output.series}["phase.total"] == (1.0,)
    assert output.warnings == ()


def test_phases_of_the_only_warm_up_are_marked_as_those_of_the_first_call() -> None:
    output, backend = measure([5.0, 1.0], Protocol(warmup_calls=1, calls_min=3, calls_max=5))
    assert backend.log.index("observe") < backend.log.index("generate")
    assert output.first_call_s == 5.0
    (warning,) = output.warnings
    assert warning.code == "phases-of-first-call"
    assert "5.000 times the timed calls" in warning.message


def test_energy_covers_the_steady_calls_alone() -> None:
    output, backend = measure([5.0, 2.0, 1.0])
    between = backend.log[backend.log.index("start energy") : backend.log.index("stop energy")]
    assert not [entry for entry in between if "warm-up" in entry]
    assert output.energy.call_count == len(output.series[0].steady)
    assert output.energy.duration_s == pytest.approx(sum(output.series[0].steady))


def test_reference_operation_runs_before_and_after_the_timed_calls_outside_energy_and_memory() -> None:
    output, backend = measure([5.0, 2.0, 1.0])
    first, last = (index for index, entry in enumerate(backend.log) if entry == "reference operation")
    assert first < backend.log.index("start energy")
    ended = backend.log.index("stop energy")
    assert backend.log[ended + 1] == "read memory"
    assert ended < last
    assert backend.log[first - 1 : first + 2] == ["read memory", "reference operation", "reset memory"]
    assert isinstance(output.reference_operation, Known)
    operation = output.reference_operation.value
    assert operation.before_s[0] < operation.after_s[0]
    assert operation.name == "fixed"


def test_reference_operation_that_did_not_run_is_unknown_with_its_reason() -> None:
    output, _ = measure([1.0], reference=Unknown(reason="no memory was left"))
    assert output.reference_operation == Unknown(reason="no memory was left")


@pytest.mark.parametrize(
    ("steady_s", "elapsed_s", "reason"),
    [
        ([1.0, 1.0], 2.0, None),
        ([1.0, 1.0, 1.0], 3.0, "converged"),
        ([1.0, 2.0, 3.0], 6.0, None),
        ([1.0, 2.0, 3.0, 4.0, 5.0], 15.0, "max_calls"),
        ([1.0, 2.0, 3.0], 99.0, "budget"),
    ],
)
def test_calls_stop_when_precise_when_enough_or_when_the_next_would_exceed_the_budget(
    steady_s: list[float], elapsed_s: float, reason: str | None
) -> None:
    protocol = Protocol(calls_min=3, calls_max=5, launch_budget_s=100)
    assert reason_to_stop(steady_s, protocol, elapsed_s) == reason


def test_phases_are_series_of_their_own() -> None:
    output, _ = measure([1.0])
    by_name = {series.name: series.samples for series in output.series}
    assert by_name["phase.denoise_step"] == (0.25, 0.25)
    assert by_name["phase.vae_decode"] == (0.3,)


def test_observed_call_unlike_the_timed_calls_is_warned_of() -> None:
    output, _ = measure([5.0, 1.2, 1.0])
    assert [warning.code for warning in output.warnings] == ["phases-differ"]


def test_images_that_differ_between_calls_are_warned_of() -> None:
    output, _ = measure([1.0], pixel=lambda call: call)
    assert "images-differ" in [warning.code for warning in output.warnings]


def test_image_of_one_color_is_warned_of_as_one_that_is_not_finite(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(virtual, "draw", lambda _red: Image.new("RGB", (8, 8)))
    output, _ = measure([1.0])
    (image,) = output.images
    assert (image.finite, image.constant) == (True, True)
    (warning,) = (warning for warning in output.warnings if warning.code == "not-finite")
    assert "constant" in warning.message


def test_retries_of_timed_calls_are_recorded_and_warned_of(monkeypatch: pytest.MonkeyPatch) -> None:
    # A warm-up may fill the cache: what it retried is over. What it caught made cuDNN choose another kernel for good.
    counts = iter([(2, 1), (2, 1), (2, 1), (7, 1)])

    def count(_backend: VirtualBackend) -> Known[AllocatorEvents]:
        retries, caught = next(counts)
        return Known(value=AllocatorEvents(retries=retries, caught_out_of_memory=caught))

    monkeypatch.setattr(VirtualBackend, "read_allocator_events", count)
    output, _ = measure([1.0])
    assert output.allocator == Known(value=AllocatorEvents(retries=5, caught_out_of_memory=1))
    (warning,) = output.warnings
    assert warning.code == "allocator-retries"
    assert "asked again (5 x)" in warning.message
    assert "smaller batch" in warning.hint


def test_retries_of_warm_ups_alone_are_not_warned_of(monkeypatch: pytest.MonkeyPatch) -> None:
    events = Known(value=AllocatorEvents(retries=4, caught_out_of_memory=0))
    monkeypatch.setattr(VirtualBackend, "read_allocator_events", lambda _backend: events)
    output, _ = measure([1.0])
    assert output.allocator == Known(value=AllocatorEvents(retries=0, caught_out_of_memory=0))
    assert output.warnings == ()


def test_output_that_is_not_finite_is_warned_of_and_marked() -> None:
    output, _ = measure([1.0], finite=False)
    assert "not-finite" in [warning.code for warning in output.warnings]
    assert [image.finite for image in output.images] == [False]


@pytest.mark.parametrize(("ratio", "codes"), [(0.4, []), (0.5, []), (0.9, ["host-bound"])])
def test_gpu_that_waited_for_the_host_in_most_unet_calls_is_warned_of(ratio: float, codes: list[str]) -> None:
    output, _ = measure([1.0], host_bound=Known(value=ratio))
    assert output.host_bound_ratio == Known(value=ratio)
    assert [warning.code for warning in output.warnings] == codes


def test_attention_is_observed_after_all_that_is_timed() -> None:
    _, backend = measure([1.0])
    assert backend.log.index("observe attention") > max(
        index for index, entry in enumerate(backend.log) if entry in ("generate", "reference operation", "read memory")
    )


def test_warm_up_continues_until_its_time_has_passed_and_its_last_call_is_observed() -> None:
    protocol = Protocol(warmup_calls=2, warmup_s=10.0, calls_min=3, calls_max=3)
    output, backend = measure([5.0, 2.0, 2.0, 2.0, 1.0], protocol)
    assert output.series[0].samples == (5.0, 2.0, 2.0, 2.0, 1.0, 1.0, 1.0, 1.0)
    assert output.series[0].warmup_count == 5
    calls = [entry for entry in backend.log if entry in ("generate", "observe")]
    assert calls[:6] == ["generate", "generate", "generate", "generate", "observe", "generate"]


def test_calls_of_the_warm_up_are_made_even_if_its_time_has_passed() -> None:
    output, _ = measure([5.0, 1.0], Protocol(warmup_calls=3, warmup_s=2.0, calls_min=3, calls_max=3))
    assert output.series[0].warmup_count == 3


def test_sustained_load_is_a_series_of_its_own_after_all_that_stands_for_the_launch() -> None:
    protocol = Protocol(warmup_calls=2, calls_min=3, calls_max=3, sustained_s=4.0)
    output, backend = measure([5.0, 1.0, 1.0, 1.0, 1.0, 1.5], protocol)
    by_name = {series.name: series for series in output.series}
    assert by_name["latency"].steady == (1.0, 1.0, 1.0)
    sustained = by_name["latency.sustained"]
    assert (sustained.samples, sustained.warmup_count, sustained.steady) == ((1.5,) * 6, 3, (1.5,) * 3)
    last_reference = max(index for index, entry in enumerate(backend.log) if entry == "reference operation")
    assert last_reference < backend.log.index("sustain") < backend.log.index("verify")
    launch = make_launch(series=output.series)
    assert sustained_ratio(launch) == 1.5


def test_no_load_is_sustained_by_default() -> None:
    output, backend = measure([1.0])
    assert "sustain" not in backend.log
    assert sustained_ratio(make_launch(series=output.series)) is None
