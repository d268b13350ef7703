"""Every way in which memory of a GPU runs out is understood as that, and leaves nothing behind.

Processes of their own: libraries make their handles in what is left of the memory, and keep them.
"""

import json
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest

LEFT_MIB = (0, 8, 32, 128, 300, 600)
# Fills the GPU but for some MiB, makes the first product or convolution of the process, and prints how it ended.
FIRST_CALL = """
import json, sys, torch
from sdbench.backends.base import where_memory_ran_out
left, operation = int(sys.argv[1]), sys.argv[2]
end = {"where": None}
try:
    torch.cuda.init()
    free, _ = torch.cuda.mem_get_info()
    held = torch.empty(max(0, free - left * 2**20), dtype=torch.uint8, device="cuda:0")
    ones = torch.ones(64, 64, device="cuda:0", dtype=torch.float16)
    if operation == "matmul":
        ones @ ones
    else:
        image = torch.ones(1, 4, 64, 64, device="cuda:0", dtype=torch.float16)
        torch.nn.functional.conv2d(image, torch.ones(320, 4, 3, 3, device="cuda:0", dtype=torch.float16), padding=1)
    torch.cuda.synchronize()
except Exception as error:
    end = {"type": type(error).__name__, "message": str(error)[:300], "where": where_memory_ran_out(error)}
print(json.dumps(end))
"""


@pytest.mark.parametrize("operation", ["matmul", "convolution"])
def test_library_that_gets_no_memory_for_its_handle_is_out_of_memory(
    operation: str, observe: Callable[..., None]
) -> None:
    ends = {}
    for left in LEFT_MIB:
        command = [sys.executable, "-c", FIRST_CALL, str(left), operation]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120)
        assert done.stdout, done.stderr[-500:]
        ends[left] = json.loads(done.stdout.splitlines()[-1])
    observe(ends=ends)
    failed = [end for end in ends.values() if "type" in end]
    assert failed  # none is left for anything with 0 MiB
    assert [end for end in failed if end["where"] != "device"] == []


@pytest.mark.parametrize(("precision", "batch"), [("fp16", 8), ("fp32", 4)])
def test_pipeline_runs_out_of_memory_as_that_and_runs_again(
    precision: str, batch: int, backend_of: Callable[..., Any], observe: Callable[..., None]
) -> None:
    import torch

    from sdbench.backends.base import where_memory_ran_out

    backend = backend_of(precision=precision, batch=batch, steps=2)
    backend.generate()
    peak, loaded = torch.cuda.max_memory_reserved(), torch.cuda.memory_allocated()
    ends = {}
    for share in (0.75, 0.45, 0.2, 0.1, 0.0):
        backend.recover()
        free, _ = torch.cuda.mem_get_info()
        left = int((peak - loaded) * share)
        held = torch.empty(max(0, free - left), dtype=torch.uint8, device="cuda:0")
        try:
            backend.generate()
            torch.cuda.synchronize()
            ends[share] = "ran"
        except Exception as error:  # noqa: BLE001 - any error is what is looked at
            ends[share] = f"{where_memory_ran_out(error)}: {type(error).__name__}: {str(error)[:200]}"
        del held
    backend.recover()
    leaked = torch.cuda.memory_allocated() - loaded
    backend.generate()
    observe(ends=ends, leaked_bytes=leaked)
    assert ends[0.0] != "ran"
    assert [end for end in ends.values() if end != "ran" and not end.startswith("device")] == []
    assert leaked == 0
