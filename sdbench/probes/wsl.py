"""Linux on Windows (WSL2): its GPUs are Windows' own, which shows no processes on them and pages their memory."""

from pathlib import Path

from sdbench.probes.readings import value_or
from sdbench.probes.sysfs import ROOT, read_text

# NVIDIA, "CUDA on WSL User Guide", known limitations of NVML: its list of processes is empty.
NO_PROCESSES = "WSL2 shows no processes on the GPU"


def is_wsl(root: Path = ROOT) -> bool:
    """Return whether the kernel is that of WSL2."""
    # Microsoft's WSL2-Linux-Kernel: its release ends in "microsoft-standard-WSL2", and dxgkrnl makes /dev/dxg.
    return (root / "dev/dxg").exists() or "microsoft" in value_or(read_text(root, "proc/version"), "").lower()
