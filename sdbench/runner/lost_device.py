"""Whether a launch failed because the GPU is gone, and what to do then."""

import re

from sdbench.errors import EnvironmentLost
from sdbench.probes.torch_build import NONE
from sdbench.schema.outcome import Failed

# The driver's user-mode side finds no device: "systemctl daemon-reload" on the host takes a running container's device
# nodes away (NVIDIA/nvidia-container-toolkit#48, NVIDIA/nvidia-docker#1730). The first is of our own workers.
_NO_DEVICE = re.compile(
    r"finds no CUDA device|no CUDA-capable device is detected|Failed to initialize NVML: Unknown Error"
)
# NVML, and the runtime's strings for cudaErrorDevicesUnavailable and cudaErrorLaunchFailure: what remains of a GPU
# after an Xid.
_BROKEN = re.compile(r"GPU is lost|fallen off the bus|busy or unavailable|unspecified launch failure|\bXid\b")


def find_loss(failure: Failed, container: str) -> EnvironmentLost | None:
    """Return why a launch failed, if the GPU is gone; ``container`` is the kind that this is in, ``none`` outside."""
    lost = _NO_DEVICE.search(failure.message) or _BROKEN.search(failure.message)
    if lost is None:
        return None
    if container != NONE and lost.re is _NO_DEVICE:
        hint = (
            "'systemctl daemon-reload' on the host takes the GPU from running containers: start it again, and pass "
            "--device=/dev/nvidia0 and the other /dev/nvidia* next to --gpus, or use CDI"
        )
    else:
        hint = "look for Xid in the host's dmesg and at nvidia-smi, reset the GPU or restart the machine"
    return EnvironmentLost(f"the GPU worked and is gone ({lost[0]!r}); {hint}; the same command then resumes")
