"""Memory of this process on the host, exactly; and on the GPU, through NVML.

The kernel keeps the high-water mark of resident memory itself. Sampling every 100 ms caught 24 of 100 MiB of a short
peak, and ru_maxrss of a child starts at its parent's size.
"""

import os
from pathlib import Path

from sdbench.probes.devices import Device
from sdbench.probes.files import ROOT, explain_os_error, read_kib, read_text
from sdbench.probes.gpu import read_process_memory
from sdbench.probes.nvml import Nvml, open_nvml
from sdbench.schema.base import Known, Reading, Unknown
from sdbench.schema.outcome import MemoryFigures

_STATUS = "proc/self/status"
# Documentation/filesystems/proc.rst: writing 5 resets the peak resident set size to the present one.
_RESET_PEAK = "5"
# The kernel counts pages per CPU and adds them up late: at 2 * CPUs pages on each of 128 CPUs the sum is 128 MiB off.
# A peak that stays further above the present size has not been reset.
_RESET_SLACK_BYTES = 128 * 1024**2


class HostMemoryProbe:
    """Peak resident memory of this process since ``reset``."""

    def __init__(self, root: Path = ROOT) -> None:
        self._root = root
        self._failure: Unknown | None = Unknown(reason="the peak was not reset before the measurement")

    def reset(self) -> None:
        """Start a new peak at the present size. Where that cannot be done the peak stays unknown."""
        self._failure = self._reset()

    def _reset(self) -> Unknown | None:
        try:
            with (self._root / "proc/self/clear_refs").open("w", encoding="ascii") as file:
                file.write(_RESET_PEAK)
        except OSError as error:
            return explain_os_error(error, "/proc/self/clear_refs")
        peak, now = self._figure("VmHWM"), self._figure("VmRSS")
        if isinstance(peak, Known) and isinstance(now, Known) and peak.value - now.value > _RESET_SLACK_BYTES:
            return Unknown(reason="/proc/self/clear_refs: the kernel took the request and did not reset the peak")
        return None

    def read(self) -> tuple[Reading[int], Reading[int], Reading[int]]:
        """Return the peak since ``reset``, and what is anonymous and what file-backed of the present size (bytes)."""
        peak = self._figure("VmHWM") if self._failure is None else self._failure
        return peak, self._figure("RssAnon"), self._figure("RssFile")

    def _figure(self, key: str) -> Reading[int]:
        return read_kib(read_text(self._root, _STATUS), key, _STATUS)


def read_memory_figures(
    host: HostMemoryProbe,
    torch_allocated_peak: Reading[int],
    torch_reserved_peak: Reading[int],
    device_process: Reading[int],
    device_total_used: Reading[int],
) -> MemoryFigures:
    """Return the figures side by side (bytes); the host's are read now."""
    peak, anonymous, file_backed = host.read()
    return MemoryFigures(
        torch_allocated_peak_bytes=torch_allocated_peak,
        torch_reserved_peak_bytes=torch_reserved_peak,
        device_process_bytes=device_process,
        device_total_used_bytes=device_total_used,
        host_rss_peak_bytes=peak,
        host_rss_anon_bytes=anonymous,
        host_rss_file_bytes=file_backed,
    )


def read_device_memory(
    device: Device, pid: int | None = None, *, nvml: Nvml | Unknown | None = None, root: Path = ROOT
) -> tuple[Reading[int], Reading[int]]:
    """Return the GPU memory used by one process (default: this one) and by all together (bytes), through NVML."""
    if device.index is None:
        unknown = Unknown(reason="the device is the CPU: its memory is the host's")
        return unknown, unknown
    nvml = open_nvml() if nvml is None else nvml
    if isinstance(nvml, Unknown):
        return nvml, nvml
    total = nvml.memory(device.index)
    used = total if isinstance(total, Unknown) else Known(value=total.value.used_bytes)
    return read_process_memory(nvml, device.index, os.getpid() if pid is None else pid, root), used
