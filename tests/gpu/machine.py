"""What the tests of this folder run on: a GPU and the full-size model.

``SDBENCH_GPU_TESTS_ON=cpu`` tries those that can do without a GPU on the CPU, with the tiny model: it shows that the
tests themselves work, and nothing about a GPU.
"""

import os
from typing import Any

DEVICE = os.environ.get("SDBENCH_GPU_TESTS_ON", "cuda:0")
ON_GPU = DEVICE != "cpu"
_FULL_SIZE = {"architecture": "sd-v1-4", "height": 512, "width": 512, "precision": "fp16", "steps": 10}
_TINY = {"architecture": "tiny", "height": 64, "width": 64, "precision": "fp32", "steps": 4}
MODEL: dict[str, Any] = _FULL_SIZE if ON_GPU else _TINY
