"""What this machine has and lacks for measuring, each lack with its remedy."""

import os
import shutil
import sys
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

from sdbench.probes.cgroup import read_cpu_limit, read_memory_left_bytes
from sdbench.probes.configuration import read_cpu_governor
from sdbench.probes.energy import find_rapl_zones
from sdbench.probes.files import ROOT, read_kib, read_text
from sdbench.probes.gpu import count_foreign_processes, has_nvidia_hardware
from sdbench.probes.memory import HostMemoryProbe
from sdbench.probes.nvml import Nvml, open_nvml
from sdbench.probes.privacy import load_salt
from sdbench.probes.state import read_load
from sdbench.probes.torch_build import NONE, installed_versions, read_torch_cuda
from sdbench.schema.base import Known, Model, Reading, Unknown
from sdbench.units import format_bytes

_GIB = 1024**3
# The full-size model: 4.4 GiB to build in fp32 (measured), a copy of the largest part while it is filled, and
# 1 to 2 GiB of activations at 512x512.
_MEMORY_FULL_SIZE_BYTES = 8 * _GIB
# A bundle with its images takes a few MB; pretrained weights of SD v1.4 take 5 GiB.
_DISK_MIN_BYTES = 1 * _GIB
_DISK_PRETRAINED_BYTES = 6 * _GIB
# Others that keep a tenth of the CPUs busy show in the figures.
_LOAD_MAX_RATIO = 0.1

Level = Literal["ok", "warning", "lacking"]


class Finding(Model):
    """One thing looked at: what was found, and what to do about it (empty where nothing is to be done)."""

    name: str
    level: Level
    found: str
    remedy: str


def diagnose(
    *, nvml: Nvml | Unknown | None = None, root: Path = ROOT, environ: Mapping[str, str] | None = None
) -> tuple[Finding, ...]:
    """Return what this machine has and lacks; the keywords are for tests."""
    environ = os.environ if environ is None else environ
    nvml = open_nvml() if nvml is None else nvml
    versions = installed_versions()
    return (
        _python(),
        *_libraries(versions),
        _vocabulary(),
        *_gpu(nvml, root),
        _memory(root),
        _disk(),
        _governor(root),
        _load(root),
        _cpus(root),
        _energy(nvml, root),
        _peak(root),
        _salt(environ),
        _docker(environ),
        _report(versions),
    )


def _ok(name: str, found: str) -> Finding:
    return Finding(name=name, level="ok", found=found, remedy="")


def _warn(name: str, found: str, remedy: str) -> Finding:
    return Finding(name=name, level="warning", found=found, remedy=remedy)


def _lack(name: str, found: str, remedy: str) -> Finding:
    return Finding(name=name, level="lacking", found=found, remedy=remedy)


def _python() -> Finding:
    found = ".".join(map(str, sys.version_info[:3]))
    if sys.version_info[:2] == (3, 11):
        return _ok("python", found)
    return _lack("python", found, "run sdbench under Python 3.11, for which its versions are locked")


def _libraries(versions: Mapping[str, Reading[str]]) -> list[Finding]:
    return [_library(name, versions) for name in ("torch", "diffusers", "transformers")]


def _library(name: str, versions: Mapping[str, Reading[str]]) -> Finding:
    version = versions.get(name)
    if isinstance(version, Known):
        return _ok(name, version.value)
    return _lack(name, "not installed", "run 'make setup', or install the extra: pip install 'sdbench[cpu]'")


def _vocabulary() -> Finding:
    """Look for the CLIP vocabulary without importing open_clip, which would import torch."""
    spec = find_spec("open_clip")
    folder = Path(spec.origin).parent if spec is not None and spec.origin is not None else None
    if folder is not None and (folder / "bpe_simple_vocab_16e6.txt.gz").is_file():
        return _ok("CLIP vocabulary", "in open_clip_torch")
    return _lack("CLIP vocabulary", "not installed", "run 'make setup', or pip install --no-deps open_clip_torch")


def _gpu(nvml: Nvml | Unknown, root: Path) -> list[Finding]:
    torch_cuda = read_torch_cuda()
    if isinstance(nvml, Unknown):
        if has_nvidia_hardware(root):
            remedy = "install the NVIDIA driver, or in a container pass the GPU through (docker run --gpus all)"
            return [_lack("NVIDIA driver", nvml.reason, remedy)]
        return [_ok("NVIDIA driver", f"no NVIDIA GPU ({nvml.reason}); runs measure the CPU")]
    count, driver = nvml.device_count(), nvml.driver_version()
    version = f"driver {driver.value}" if isinstance(driver, Known) else driver.reason
    if isinstance(count, Unknown) or count.value == 0:
        return [
            _lack("NVIDIA driver", f"{version}, no GPU shown", "see 'nvidia-smi'; in a container pass the GPU through")
        ]
    names = [name.value if isinstance(name := nvml.name(index), Known) else name.reason for index in range(count.value)]
    return [
        _ok("NVIDIA driver", f"{version}: {', '.join(names)}"),
        _torch_cuda(torch_cuda),
        _gpu_users(nvml, count.value, root),
    ]


def _torch_cuda(torch_cuda: Reading[str]) -> Finding:
    if isinstance(torch_cuda, Known) and torch_cuda.value != NONE:
        return _ok("torch with CUDA", f"CUDA {torch_cuda.value}")
    found = torch_cuda.reason if isinstance(torch_cuda, Unknown) else "torch is built without CUDA"
    return _lack("torch with CUDA", found, "install from the CUDA lock file, or measure the CPU with --device cpu")


def _gpu_users(nvml: Nvml, gpu_count: int, root: Path) -> Finding:
    counts = [count_foreign_processes(nvml, index, frozenset(), root) for index in range(gpu_count)]
    unknown = next((count for count in counts if isinstance(count, Unknown)), None)
    if unknown is not None:
        return _warn("GPU to itself", unknown.reason, "make sure that nobody else uses the GPU while it is measured")
    foreign_count = sum(count.value for count in counts if isinstance(count, Known))
    if foreign_count:
        return _warn("GPU to itself", f"{foreign_count} processes on the GPU", "stop them (nvidia-smi lists them)")
    return _ok("GPU to itself", "no other process")


def _memory(root: Path) -> Finding:
    available = read_kib(read_text(root, "proc/meminfo"), "MemAvailable", "proc/meminfo")
    if isinstance(available, Unknown):
        return _warn("memory", available.reason, "make sure that 8 GiB are free for the full-size model in fp32")
    left = read_memory_left_bytes(root)
    limit_bytes = left.value if isinstance(left, Known) else None
    free_bytes = available.value if limit_bytes is None else min(available.value, limit_bytes)
    found = f"{format_bytes(free_bytes)} free"
    if free_bytes < _MEMORY_FULL_SIZE_BYTES:
        return _warn(
            "memory", found, "the full-size model in fp32 needs about 8 GiB: free some, raise the limit, or use bf16"
        )
    return _ok("memory", found)


def _disk() -> Finding:
    free_bytes = shutil.disk_usage(".").free
    found = f"{format_bytes(free_bytes)} free here"
    if free_bytes < _DISK_MIN_BYTES:
        return _lack("disk", found, "free at least 1 GiB, or choose another folder with --out")
    if free_bytes < _DISK_PRETRAINED_BYTES:
        return _warn("disk", found, "pretrained weights need about 6 GiB; synthetic ones need none")
    return _ok("disk", found)


def _governor(root: Path) -> Finding:
    governor = read_cpu_governor(root)
    if isinstance(governor, Unknown):
        return _warn("CPU governor", governor.reason, "nothing can be set here; expect the host to decide on clocks")
    if governor.value == "performance":
        return _ok("CPU governor", governor.value)
    return _warn("CPU governor", governor.value, "for steadier figures: sudo cpupower frequency-set -g performance")


def _load(root: Path) -> Finding:
    load = read_load(root)
    if isinstance(load, Unknown):
        return _warn("other load", load.reason, "make sure that nothing else runs")
    found = f"load average {load.value:.2f} on {os.cpu_count() or 1} CPUs"
    if load.value > _LOAD_MAX_RATIO * (os.cpu_count() or 1):
        return _warn("other load", found, "stop other programs, or wait: the average looks back one minute")
    return _ok("other load", found)


def _cpus(root: Path) -> Finding:
    usable, present = len(os.sched_getaffinity(0)), os.cpu_count() or 1
    limit = read_cpu_limit(root)
    quota = limit.value if isinstance(limit, Known) else None
    found = f"{usable} of {present} CPUs" + ("" if quota is None else f", limited to {quota:g} CPUs' time")
    if quota is not None and quota < usable:
        return _warn(
            "CPUs", found, f"set threads to {max(1, int(quota))}, or raise the limit: more threads than time stall"
        )
    return _ok("CPUs", found)


def _energy(nvml: Nvml | Unknown, root: Path) -> Finding:
    zones = find_rapl_zones(root)
    if isinstance(zones, Known):
        return _ok("energy counters", f"RAPL, {len(zones.value)} packages")
    if isinstance(nvml, Nvml) and isinstance(nvml.energy_j(0), Known):
        return _ok("energy counters", "NVML for the GPU; none for the CPU")
    remedy = (
        "energy stays unknown; where the machine has RAPL: sudo chmod a+r /sys/class/powercap/intel-rapl:*/energy_uj"
    )
    return _warn("energy counters", zones.reason, remedy)


def _peak(root: Path) -> Finding:
    probe = HostMemoryProbe(root)
    probe.reset()
    peak = probe.read()[0]
    if isinstance(peak, Known):
        return _ok("memory peak", "the kernel resets and keeps it")
    return _warn("memory peak", peak.reason, "the host's peak stays unknown; allow writing /proc/self/clear_refs")


def _salt(environ: Mapping[str, str]) -> Finding:
    salt = load_salt(environ)
    if isinstance(salt, Known):
        return _ok("salt for GPU ids", "kept in the state folder")
    return _warn("salt for GPU ids", salt.reason, "set XDG_STATE_HOME to a folder that can be written and lasts")


def _docker(environ: Mapping[str, str]) -> Finding:
    if shutil.which("docker", path=environ.get("PATH")):
        return _ok("docker (optional)", "client found")
    return _warn(
        "docker (optional)", "no client on the PATH", "only needed to run from an image; install docker for that"
    )


def _report(versions: Mapping[str, Reading[str]]) -> Finding:
    missing = [name for name in ("jinja2", "altair", "vl-convert-python") if name not in versions]
    if missing:
        return _lack("report", f"missing: {', '.join(missing)}", "run 'make setup', or pip install 'sdbench[report]'")
    return _ok("report", "jinja2, altair, vl-convert-python")
