from typing import Any

import pytest

from sdbench.schema.manifest import Protocol
from sdbench.workloads.base import Findings
from sdbench.workloads.latency import reason_to_stop, run
from tests.workloads.virtual import FakeClock, VirtualBackend, VirtualSession


def measure(
    latencies_s: list[float], protocol: Protocol | None = None, **changes: Any
) -> tuple[Findings, VirtualBackend]:
    clock = FakeClock()
    backend = VirtualBackend(clock, latencies_s, **changes)
    chosen = protocol or Protocol(warmup_calls=2, calls_min=3, calls_max=5)
    return run(VirtualSession(backend, chosen)), backend


def test_time_of_a_call_holds_what_the_device_does_after_it_returned() -> None:
    findings, _ = measure([5.0, 2.0, 1.0])
    assert findings.series[0].samples[:3] == (5.0, 2.0, 1.0)


def test_warmups_are_kept_and_marked_and_the_first_call_stands_apart() -> None:
    findings, _ = measure([5.0, 2.0, 1.0])
    latency = findings.series[0]
    assert latency.warmup_count == 2
    assert set(latency.steady) == {1.0}
    assert findings.first_call_s == 5.0


def test_device_is_idle_before_each_clock_reading() -> None:
    _, backend = measure([1.0])
    calls = [entry for entry in backend.log if entry in ("synchronize", "generate")]
    assert calls[:3] == ["synchronize", "generate", "synchronize"]


def test_nothing_is_observed_before_the_last_timed_call_and_the_memory_reading() -> None:
    _, backend = measure([1.0])
    assert backend.log.index("read memory") < backend.log.index("observe")
    assert "generate" not in backend.log[backend.log.index("read memory") :]


def test_energy_covers_the_steady_calls_alone() -> None:
    findings, backend = measure([5.0, 2.0, 1.0])
    between = backend.log[backend.log.index("start energy") : backend.log.index("stop energy")]
    assert not [entry for entry in between if "warm-up" in entry]
    assert findings.energy.call_count == len(findings.series[0].steady)
    assert findings.energy.duration_s == pytest.approx(sum(findings.series[0].steady))


@pytest.mark.parametrize(
    ("steady_s", "elapsed_s", "reason"),
    [
        ([1.0, 1.0], 2.0, None),
        ([1.0, 1.0, 1.0], 3.0, "precise enough"),
        ([1.0, 2.0, 3.0], 6.0, None),
        ([1.0, 2.0, 3.0, 4.0, 5.0], 15.0, "most allowed"),
        ([1.0, 2.0, 3.0], 99.0, "budget"),
    ],
)
def test_calls_stop_when_precise_when_enough_or_when_the_next_would_exceed_the_budget(
    steady_s: list[float], elapsed_s: float, reason: str | None
) -> None:
    protocol = Protocol(calls_min=3, calls_max=5, launch_budget_s=100)
    assert reason_to_stop(steady_s, protocol, elapsed_s) == reason


def test_phases_are_series_of_their_own() -> None:
    findings, _ = measure([1.0])
    by_name = {series.name: series.samples for series in findings.series}
    assert by_name["phase.denoise_step"] == (0.25, 0.25)
    assert by_name["phase.vae_decode"] == (0.3,)


def test_phase_calls_unlike_the_timed_calls_are_told() -> None:
    findings, _ = measure([1.0], observed_s=1.2)
    assert [notice.code for notice in findings.notices] == ["phases-differ"]


def test_images_that_differ_between_calls_are_told() -> None:
    findings, _ = measure([1.0], pixel=lambda call: call)
    assert "images-differ" in [notice.code for notice in findings.notices]


def test_output_that_is_not_finite_is_told_and_marked() -> None:
    findings, _ = measure([1.0], finite=False)
    assert "not-finite" in [notice.code for notice in findings.notices]
    assert [image.finite for image in findings.images] == [False]
