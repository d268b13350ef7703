"""One full-size UNet call (512x512, guidance, fp32) on the CPU: onnxruntime against PyTorch, each at its best."""

import copy
import os
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

from sdbench.schema.experiment import Experiment
from tests.benchmarks.bars import Bar

NAME = "full-size UNet on the CPU: onnxruntime / PyTorch, best settings of each"
ROUNDS = 3
# fp32 at full size: two sets of weights, the workspace of both, and the child that exports.
NEEDED_BYTES = 14 * 2**30


def measure_unet(cache_folder: Path) -> list[Bar]:
    """Return the ratio of the fastest medians, and every setting's median call (s)."""
    available = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    if available < NEEDED_BYTES:
        return [Bar(NAME, f"not measured: needs {NEEDED_BYTES / 2**30:.0f} GiB of free memory")]
    calls = _make_calls(cache_folder)
    times_s: dict[str, list[float]] = {name: [] for name in calls}
    for number in range(ROUNDS + 1):
        # Round by round, so that a drift of the machine affects all equally; the first is a warm-up.
        for name, call in calls.items():
            start_s = time.monotonic()
            call()
            if number:
                times_s[name].append(time.monotonic() - start_s)
    medians_s = {name: median(values) for name, values in times_s.items()}
    best = {
        backend: min(value for name, value in medians_s.items() if name.startswith(backend))
        for backend in ("onnxruntime", "PyTorch")
    }
    ratio = best["onnxruntime"] / best["PyTorch"]
    return [
        Bar(NAME, f"{ratio:.2f} ({best['onnxruntime']:.2f} s of {best['PyTorch']:.2f} s)"),
        *(Bar(f"  {name}", f"{value:.2f} s") for name, value in medians_s.items()),
    ]


def _make_calls(cache_folder: Path) -> dict[str, Callable[[], Any]]:
    import torch

    from sdbench.backends import onnxruntime, pytorch

    threads = len(os.sched_getaffinity(0))
    plain = Experiment(pipeline="sd-1.4", steps=1)
    exported = Experiment(pipeline="sd-1.4", steps=1, backend="onnxruntime")
    extended = Experiment(pipeline="sd-1.4", steps=1, backend="onnxruntime", graph_optimization="extended")
    eager = pytorch.open_backend(plain, "cpu", cache_folder, threads).pipeline.unet
    optimized, milder = (
        onnxruntime.open_backend(experiment, "cpu", cache_folder, threads).pipeline.unet
        for experiment in (exported, extended)
    )
    networks = {
        "PyTorch, contiguous": eager,
        "PyTorch, channels last": copy.deepcopy(eager).to(memory_format=torch.channels_last),
        "onnxruntime, all optimizations": optimized,
        "onnxruntime, extended": milder,
    }
    generator = torch.Generator("cpu").manual_seed(0)
    latents = torch.randn((2, 4, 64, 64), generator=generator)
    states = torch.randn((2, 77, 768), generator=generator)

    def call(network: Any) -> Callable[[], Any]:
        def run() -> Any:
            with torch.no_grad():
                return network(latents, torch.tensor(500), encoder_hidden_states=states, return_dict=False)

        return run

    return {name: call(network) for name, network in networks.items()}
