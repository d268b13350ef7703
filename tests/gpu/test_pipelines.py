"""Every pipeline class on the GPU: the same picture as on the CPU, and full width in half precision."""

from math import fsum
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sdbench.backends import pytorch
from sdbench.models.pipeline_folders import load_shipped, shipped_pipelines
from sdbench.plan.families import native_options
from sdbench.schema.base import Known
from sdbench.schema.experiment import Experiment
from sdbench.worker.clock import MonotonicClock
from tests.gpu.machine import DEVICE

TINY = [name for name in shipped_pipelines() if name.startswith("tiny-")]
TINY_SIZE = {"height": 64, "width": 64, "steps": 2}
CUT_FLUX = {"config": {"transformer.num_layers": 1, "transformer.num_single_layers": 2}, "height": 512, "width": 512}
pytestmark = [
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:`upcast_vae` is deprecated:FutureWarning"),
]


def open_backend(name: str, device: str, **options: Any) -> pytorch.PytorchBackend:
    experiment = Experiment(**{"pipeline": name, **native_options(load_shipped(name)), **options})
    return pytorch.open_backend(experiment, device, Path("/nonexistent"), 2)


@pytest.mark.parametrize("name", TINY)
def test_picture_on_the_gpu_is_that_of_the_cpu(name: str) -> None:
    images = [open_backend(name, device, **TINY_SIZE).generate()[0] for device in (DEVICE, "cpu")]
    difference = np.abs(np.asarray(images[0], np.int16) - np.asarray(images[1], np.int16))
    # TF32 is off: what differs is the order of sums.
    assert difference.max() <= 4
    assert difference.mean() < 0.5


@pytest.mark.parametrize(
    ("name", "options"),
    [("sdxl", {}), ("sd-3.5-medium", {}), ("flux.1-schnell", CUT_FLUX), ("z-image-turbo", {})],
)
@pytest.mark.parametrize("precision", ["fp16", "bf16"])
def test_full_width_in_half_precision_is_finite_and_runs_as_requested(
    name: str, options: dict[str, Any], precision: str
) -> None:
    backend = open_backend(name, DEVICE, precision=precision, **{"steps": 1, **options})
    observation = backend.observe(MonotonicClock())
    assert observation.finite == (True,)
    assert all(low < high for image in observation.images for low, high in image.getextrema())


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
@pytest.mark.parametrize("name", TINY)
def test_kernels_add_up_to_the_call_and_their_flop_to_those_of_the_shapes(name: str, precision: str) -> None:
    backend = open_backend(name, DEVICE, precision=precision, **TINY_SIZE)
    profile = backend.profile_operators(MonotonicClock())
    assert isinstance(profile.operators, Known)
    table = profile.operators.value
    assert 0.95 < fsum(row.self_s for row in table.rows) / table.call_s < 1.05
    assert sum(row.flop or 0 for row in table.rows) == pytest.approx(backend.work.flop, rel=0.01)
    assert {"attention", "convolution", "gemm", "gemm precision"} <= table.ran.keys()
    assert "unknown" not in table.ran["gemm precision"]
    assert table.host_wait_count
