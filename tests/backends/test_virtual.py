import os
from itertools import pairwise
from typing import Any

import pytest

from sdbench.backends.virtual import CLOCK, VirtualBackend
from sdbench.errors import ManifestError, UserError
from sdbench.plan.expand import expand, parse_settings
from sdbench.plan.manifest_file import LoadedManifest, check_manifest
from sdbench.probes.virtual import (
    THROTTLED_FACTOR,
    VARIABLE,
    VirtualMachine,
    pretend,
    read_pace,
    read_virtual_machine,
    virtual_conditions,
)
from sdbench.schema.base import Known
from sdbench.schema.document import parse_yaml
from sdbench.schema.experiment import Experiment, VirtualOptions
from sdbench.workloads.latency import time_call
from tests.fingerprints import make_fingerprint


def experiment_of(**options: Any) -> Experiment:
    return Experiment(pipeline="tiny-sd", backend="virtual", virtual=VirtualOptions(**options))


def paces(experiment: Experiment, count: int = 400, seed: int = 1, factor: float = 1.0) -> list[float]:
    return [read_pace(VirtualMachine(seed, factor, position=position), experiment) for position in range(count)]


def deviation(values: list[float]) -> float:
    center = sum(values) / len(values)
    return float((sum((value - center) ** 2 for value in values) / (len(values) - 1)) ** 0.5)


def test_a_seed_replays_and_another_does_not() -> None:
    plain = experiment_of()
    assert paces(plain, 5) == paces(plain, 5)
    assert paces(plain, 5) != paces(plain, 5, seed=2)


def test_launches_vary_as_configured_and_a_factor_slows_all_of_them() -> None:
    plain = experiment_of(launch_noise=0.02)
    assert deviation(paces(plain)) == pytest.approx(0.02, rel=0.15)
    assert paces(plain, 5, factor=1.5) == pytest.approx([1.5 * pace for pace in paces(plain, 5)])


def test_correlated_launches_resemble_their_neighbours_and_keep_their_deviation() -> None:
    values = paces(experiment_of(launch_noise=0.02, correlation=0.8))
    center = sum(values) / len(values)
    products = [(a - center) * (b - center) for a, b in pairwise(values)]
    assert sum(products) / len(products) / deviation(values) ** 2 == pytest.approx(0.8, abs=0.1)
    assert deviation(values) == pytest.approx(0.02, rel=0.3)


def test_drift_modes_and_throttling_come_as_configured() -> None:
    still: dict[str, Any] = {"launch_noise": 0.0}
    assert paces(experiment_of(**still, drift=0.01), 4) == pytest.approx([1.0, 1.01, 1.02, 1.03])
    modes = paces(experiment_of(**still, mode_gap=0.1))
    assert set(modes) == {1.0, 1.1}
    assert sum(modes) / len(modes) == pytest.approx(1.05, abs=0.01)
    throttled = experiment_of(**still, throttle=0.25)
    slow = [pace == THROTTLED_FACTOR for pace in paces(throttled)]
    assert sum(slow) / len(slow) == pytest.approx(0.25, abs=0.07)
    for position in range(20):
        shares = virtual_conditions(VirtualMachine(1, position=position), throttled).throttle_shares
        assert isinstance(shares, Known)
        assert bool(shares.value) == slow[position]


def test_a_call_moves_the_virtual_clock_and_nothing_else() -> None:
    still = experiment_of(latency_s=3600.0, launch_noise=0.0, call_noise=0.0)
    backend = VirtualBackend(still, VirtualMachine(1))
    latencies = [time_call(backend, CLOCK)[1] for _ in range(3)]
    assert latencies == pytest.approx([7200.0, 3600.0, 3600.0])
    observation = backend.observe(CLOCK)
    parts = sum(observation.phases_s[name] for name in ("text_encoder", "vae_decode", "rest")) + sum(
        observation.denoise_steps_s
    )
    assert parts == pytest.approx(observation.phases_s["total"]) == pytest.approx(3600.0)


def test_reference_operation_sees_the_pace_of_the_machine_and_not_the_length_of_a_call() -> None:
    still: dict[str, Any] = {"launch_noise": 0.0, "call_noise": 0.0}
    times_s = {}
    for latency_s, factor in ((1.0, 1.0), (9.0, 1.0), (1.0, 1.25)):
        backend = VirtualBackend(experiment_of(latency_s=latency_s, **still), VirtualMachine(1, factor))
        reading = backend.time_reference_operation(CLOCK)
        assert isinstance(reading, Known)
        times_s[latency_s, factor] = reading.value.samples_s[0]
    assert times_s[9.0, 1.0] == pytest.approx(times_s[1.0, 1.0])
    assert times_s[1.0, 1.25] == pytest.approx(1.25 * times_s[1.0, 1.0])


def test_reference_operation_does_not_change_the_noise_of_the_calls() -> None:
    with_it, without = (VirtualBackend(experiment_of(), VirtualMachine(1)) for _ in range(2))
    with_it.time_reference_operation(CLOCK)
    assert time_call(with_it, CLOCK)[1] == pytest.approx(time_call(without, CLOCK)[1])


def test_the_same_seed_gives_the_same_picture() -> None:
    first, again = (VirtualBackend(experiment_of(), VirtualMachine(seed)).generate()[0].tobytes() for seed in (1, 2))
    assert first == again
    other = VirtualBackend(Experiment(pipeline="tiny-sd", backend="virtual", seed=43), VirtualMachine(1))
    assert other.generate()[0].tobytes() != first


def test_picture_has_more_than_one_color() -> None:
    (picture,) = VirtualBackend(experiment_of(), VirtualMachine(1)).generate()
    assert any(low != high for low, high in picture.getextrema())


def test_memory_runs_out_at_the_launch_that_was_configured() -> None:
    failing = experiment_of(fault="out-of-memory", fault_launch=2)
    VirtualBackend(failing, VirtualMachine(1, position=1)).generate()
    with pytest.raises(MemoryError):
        VirtualBackend(failing, VirtualMachine(1, position=2)).generate()


def test_a_machine_is_handed_on_to_its_workers() -> None:
    machine = VirtualMachine(7, 1.25, "580.65.06", 12)
    assert read_virtual_machine(machine.environment()) == machine
    assert read_virtual_machine({}).seed != read_virtual_machine({}).seed


@pytest.mark.parametrize("text", ["seed=x", "factor=0", "factor=nan", "speed=2", "driver=latest", "seed=-1"])
def test_a_machine_that_is_not_described_right_is_one_line(text: str) -> None:
    with pytest.raises(UserError, match="expected any of seed=7 factor"):
        read_virtual_machine({VARIABLE: text})


def test_the_fingerprint_has_the_driver_that_is_claimed() -> None:
    plain = make_fingerprint("cuda:0")
    assert pretend(plain, VirtualMachine(1)) == plain
    other = pretend(plain, VirtualMachine(1, driver="590.10"))
    assert other.software.gpu_kernel_driver == Known(value="590.10")
    assert other.software_sha256 != plain.software_sha256
    assert other.hardware_sha256 == plain.hardware_sha256


def test_virtual_and_real_experiments_do_not_share_a_record() -> None:
    text = """\
schema: sdbench/manifest/v1
title: Mixed
experiments:
  - {id: any, title: Any, options: {pipeline: tiny-sd}, matrix: {backend: [pytorch, virtual]}}
"""
    parsed = parse_yaml(text, "mixed.yaml")
    with pytest.raises(ManifestError, match=r"mixed\.yaml:4:5: virtual and real experiments cannot share a record"):
        expand(LoadedManifest(check_manifest(parsed), parsed, text, "0" * 64), parse_settings(()))


def test_virtual_options_mean_nothing_to_a_real_backend() -> None:
    with pytest.raises(ValueError, match="'virtual' applies only to backend: virtual"):
        Experiment(pipeline="tiny-sd", virtual=VirtualOptions(drift=0.01))
    with pytest.raises(ValueError, match="latency only"):
        Experiment(pipeline="tiny-sd", backend="virtual", workload="precision")


def test_the_environment_of_this_process_is_left_alone() -> None:
    assert VARIABLE not in os.environ
