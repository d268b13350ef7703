"""Clocks, memory, energy, TF32 and attention of a GPU, against answers that are known without sdbench."""

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from statistics import fmean, median
from typing import Any

import pytest
import torch

from sdbench.backends.pytorch import set_tf32
from sdbench.probes.devices import choose_device
from sdbench.probes.energy import EnergyMeter
from sdbench.probes.memory import read_device_memory
from sdbench.probes.nvml import open_nvml
from sdbench.probes.readings import value_of, value_or
from sdbench.probes.telemetry import open_telemetry
from sdbench.schema.base import Known
from sdbench.schema.experiment import Tf32
from sdbench.worker.clock import MonotonicClock
from tests.gpu.machine import DEVICE, gpu_address

GIB = 2**30
# The context grows with the first kernels of a library, and cudaMalloc rounds up to 2 MiB.
SLACK_BYTES = 32 * 2**20
# Parts of the names of the kernels that attend: flash-attention's, CUTLASS's in torch, cuDNN's, torch's softmax.
KERNELS = {
    "sdpa-flash": ("flash_fwd",),
    "sdpa-efficient": ("fmha_cutlass",),
    "sdpa-cudnn": ("native_sdpa",),
    "eager": ("softmax",),
}


@contextmanager
def load() -> Iterator[None]:
    """Keep the GPU busy with matrix products from another thread."""
    ended = threading.Event()
    left = torch.randn(8192, 8192, device=DEVICE, dtype=torch.float16)

    def multiply() -> None:
        while not ended.is_set():
            for _ in range(8):
                torch.mm(left, left)
            torch.cuda.synchronize()

    thread = threading.Thread(target=multiply)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def spin(cycles: int) -> tuple[float, float]:
    """Return how long (s) a kernel that spins for a number of SM cycles took, by events and by the host's clock."""
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
    torch.cuda.synchronize()
    start_s = time.monotonic()
    start.record()
    torch.cuda._sleep(cycles)  # type: ignore[no-untyped-call]
    end.record()
    torch.cuda.synchronize()
    return start.elapsed_time(end) / 1e3, time.monotonic() - start_s


def test_events_agree_with_the_clock_of_the_host(observe: Callable[..., None]) -> None:
    spin(10**8)
    by_events_s, by_clock_s = spin(10**9)
    observe(by_events_s=by_events_s, by_clock_s=by_clock_s)
    assert by_events_s == pytest.approx(by_clock_s, rel=0.02)


def test_spinning_for_cycles_takes_as_long_as_the_clock_that_nvml_reports_says(observe: Callable[..., None]) -> None:
    nvml = open_nvml()
    spin(2 * 10**9)
    clocks_mhz: list[int] = []
    ended = threading.Event()

    def sample() -> None:
        while not ended.wait(0.05):
            clocks_mhz.append(value_of(nvml.clock_sm_mhz(gpu_address())))

    thread = threading.Thread(target=sample)
    thread.start()
    duration_s, _ = spin(2 * 10**9)
    ended.set()
    thread.join()
    by_cycles_mhz = 2e9 / duration_s / 1e6
    observe(by_cycles_mhz=by_cycles_mhz, nvml_mhz=clocks_mhz)
    assert by_cycles_mhz == pytest.approx(median(clocks_mhz), rel=0.02)


def test_one_gibibyte_counts_as_one_gibibyte(observe: Callable[..., None]) -> None:
    device = choose_device(DEVICE)
    torch.zeros(1, device=DEVICE)
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated(), torch.cuda.memory_reserved(), *read_device_memory(device)
    held = torch.empty(GIB, dtype=torch.uint8, device=DEVICE)
    after = torch.cuda.max_memory_allocated(), torch.cuda.max_memory_reserved(), *read_device_memory(device)
    grown = [
        value_or(late, 0) - value_or(early, 0) if isinstance(late, Known) else str(late)
        for early, late in ((before[2], after[2]), (before[3], after[3]))
    ]
    observe(allocated=after[0] - before[0], reserved=after[1] - before[1], process=grown[0], total=grown[1])
    del held
    assert after[0] - before[0] == GIB
    assert after[1] - before[1] == GIB
    for bytes_grown in grown:
        # Unknown in a container, where the driver lists nothing of this process.
        assert isinstance(bytes_grown, str) or bytes_grown == pytest.approx(GIB, abs=SLACK_BYTES)


def test_energy_counter_agrees_with_the_power_over_time(observe: Callable[..., None]) -> None:
    nvml, address = open_nvml(), gpu_address()
    is_instant = isinstance(nvml.power_instant_w(address), Known)
    read_power_w = nvml.power_instant_w if is_instant else nvml.power_w
    meter = EnergyMeter(choose_device(DEVICE))
    with load():
        time.sleep(2)
        meter.start()
        start_s, powers_w = time.monotonic(), []
        while time.monotonic() - start_s < 5:
            powers_w.append((time.monotonic(), value_of(read_power_w(address))))
            time.sleep(0.01)
        duration_s = time.monotonic() - start_s
        energy = meter.stop(1, duration_s)
    integral_j = sum((b[0] - a[0]) * (a[1] + b[1]) / 2 for a, b in pairwise(powers_w))
    integral_j *= duration_s / (powers_w[-1][0] - powers_w[0][0])
    observe(energy=energy.model_dump(mode="json"), integral_j=integral_j, mean_w=fmean(w for _, w in powers_w))
    assert value_of(energy.energy_j) == pytest.approx(integral_j, rel=0.1)


@pytest.mark.parametrize("tf32", [False, "convolutions", True])
def test_tf32_is_where_it_was_requested_by_its_error(tf32: Tf32, observe: Callable[..., None]) -> None:
    if torch.cuda.get_device_capability(0) < (8, 0):
        pytest.skip("TF32 came with compute capability 8.0")
    set_tf32(torch, tf32)
    generator = torch.Generator("cpu").manual_seed(0)
    square = torch.randn(1024, 1024, generator=generator)
    image, kernel = torch.randn(4, 256, 32, 32, generator=generator), torch.randn(256, 256, 3, 3, generator=generator)
    product = torch.mm(square.to(DEVICE), square.to(DEVICE)).cpu()
    folded = torch.nn.functional.conv2d(image.to(DEVICE), kernel.to(DEVICE)).cpu()
    errors = {
        "matmul": relative_error(product, square.double() @ square.double()),
        "convolutions": relative_error(folded, torch.nn.functional.conv2d(image.double(), kernel.double())),
    }
    set_tf32(torch, False)
    observe(**errors)
    # fp32 keeps 24 bits of each factor and TF32 11: 6e-8 and 5e-4.
    assert (errors["matmul"] > 5e-5) == (tf32 is True)
    assert (errors["convolutions"] > 5e-5) == (tf32 is not False)


def relative_error(computed: Any, exact: Any) -> float:
    """Return the root mean square of the difference over that of the exact values."""
    return float((computed.double() - exact).square().mean().sqrt() / exact.square().mean().sqrt())


@pytest.mark.parametrize("attention", sorted(KERNELS))
def test_forced_attention_runs_kernels_of_its_name_alone(
    attention: str, backend_of: Callable[..., Any], observe: Callable[..., None]
) -> None:
    backend = backend_of(attention=attention, steps=1)
    calls: list[Any] = []
    handle = backend.pipeline.unet.register_forward_pre_hook(lambda *call: calls.append(call[1:]), with_kwargs=True)
    try:
        backend.generate()
    except RuntimeError as error:
        observe(error=str(error)[:300])
        pytest.skip("this GPU has no such kernel for heads of 40 to 160 channels")
    handle.remove()
    arguments, options = calls[0]
    with torch.no_grad(), torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profile:
        backend.pipeline.unet(*arguments, **options)
    names = sorted({event.name for event in profile.events() or () if event.device_type.name == "CUDA"})
    attending = {
        kind: [name[:120] for name in names if any(part in name.lower() for part in parts)]
        for kind, parts in KERNELS.items()
    }
    checks = backend.observe(MonotonicClock()).checks
    observe(kernels=attending, checks=[check.model_dump() for check in checks if "attention" in check.name])
    assert {kind for kind, found in attending.items() if found} == {attention}


def test_phases_of_a_call_add_up_to_it(backend_of: Callable[..., Any], observe: Callable[..., None]) -> None:
    backend = backend_of(steps=20)
    backend.generate()
    observation = backend.observe(MonotonicClock())
    parts_s = sum(observation.denoise_steps_s) + sum(
        observation.phases_s[name] for name in ("text_encoder", "vae_decode", "rest")
    )
    observe(phases_s=observation.phases_s, steps_s=observation.denoise_steps_s)
    assert parts_s == pytest.approx(observation.phases_s["total"], rel=1e-6)
    assert observation.phases_s["rest"] >= 0


def test_telemetry_follows_load(observe: Callable[..., None]) -> None:
    telemetry = open_telemetry(choose_device(DEVICE), os.getpid())
    try:
        with load():
            time.sleep(1)
            for _ in range(30):
                telemetry.sample()
                time.sleep(0.1)
        read = {series.name: series.samples for series in telemetry.series()}
        observe(unknown=telemetry.unknown(), **{name: values[-3:] for name, values in read.items()})
    finally:
        telemetry.close()
    assert median(read["gpu_utilization_ratio"]) > 0.9
