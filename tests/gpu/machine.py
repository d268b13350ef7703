"""What the tests of this folder run on: a GPU and the full-size model.

``SDBENCH_GPU_TESTS_ON=cpu`` tries those that can do without a GPU on the CPU, with the tiny model: it shows that the
tests themselves work, and nothing about a GPU.
"""

import os
from typing import Any

from sdbench.probes.devices import choose_device
from sdbench.probes.nvml_library import Address

DEVICE = os.environ.get("SDBENCH_GPU_TESTS_ON", "cuda:0")
ON_GPU = DEVICE != "cpu"
_FULL_SIZE = {"pipeline": "sd-1.4", "height": 512, "width": 512, "precision": "fp16", "steps": 10}
_TINY = {"pipeline": "tiny-sd", "height": 64, "width": 64, "precision": "fp32", "steps": 4}
MODEL: dict[str, Any] = _FULL_SIZE if ON_GPU else _TINY


def gpu_address() -> Address:
    """Return what NVML is asked by for the GPU of these tests."""
    address = choose_device(DEVICE).address
    if address is None:
        raise RuntimeError("the device is the CPU")
    return address
