"""What this machine has for measuring, and what is missing, with a hint."""

import os
import platform
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

from sdbench.errors import UserError
from sdbench.probes.cgroup import count_usable_cpus, read_cpu_limit, read_memory_left_bytes
from sdbench.probes.clocks_and_load import BUSY_RATIO, read_load
from sdbench.probes.configuration import read_cpu_governor
from sdbench.probes.energy import find_rapl_zones
from sdbench.probes.gpu import count_foreign_processes
from sdbench.probes.gpu_checks import Finding, check_gpu, check_system
from sdbench.probes.identity import load_salt
from sdbench.probes.memory import HostMemoryProbe
from sdbench.probes.nvml import Nvml, open_nvml
from sdbench.probes.nvml_library import Address
from sdbench.probes.readings import ReadingFailed, value_of, value_or
from sdbench.probes.sysfs import ROOT, read_kib
from sdbench.probes.torch_build import installed_versions, read_torch_cuda
from sdbench.probes.visible_gpus import list_visible_gpus
from sdbench.schema.base import Known, Model, Reading, Unknown
from sdbench.store.cache_folder import cache_folder, measure_weights, nearest_folder, weights_limit_bytes
from sdbench.units import format_bytes, format_count

_GIB = 1024**3
# The full-size model: 4.4 GiB to build in fp32 (measured), a copy of the largest part while it is filled, and
# 1 to 2 GiB of activations at 512x512.
_MEMORY_FULL_SIZE_BYTES = 8 * _GIB
# A bundle with its images takes a few MB; pretrained weights of SD v1.4 take 5 GiB.
_DISK_MIN_BYTES = 1 * _GIB
_DISK_PRETRAINED_BYTES = 6 * _GIB
_LIBRARIES = ("torch", "diffusers", "transformers")
_NOT_INSTALLED = Unknown(reason="not installed")
# What to do where a value cannot be read.
_NO_ENERGY = (
    "energy stays unknown; where the machine has RAPL: sudo chmod a+r /sys/class/powercap/intel-rapl:*/energy_uj"
)
_NO_MEMORY = "make sure that 8 GiB are free for the full-size model in fp32"
_NO_GOVERNOR = "the host controls the clocks here"
_NO_PEAK = "the host's peak stays unknown; allow writing /proc/self/clear_refs"
_NO_SALT = "set XDG_STATE_HOME to a folder that can be written and lasts"
_NO_GPU_USERS = "make sure that nobody else uses the GPU while it is measured"

Level = Literal["ok", "warning", "missing"]


class Diagnosis(Model):
    """One thing that was checked: its value, and what to do about it (empty where nothing is to be done)."""

    name: str
    level: Level
    value: str
    hint: str


# What a check returns: what it read, and what to do about it (empty where nothing is to be done).
Checked = tuple[str, str]


def diagnose(
    *, nvml: Nvml | None = None, root: Path = ROOT, environ: Mapping[str, str] | None = None
) -> tuple[Diagnosis, ...]:
    """Return what this machine has and what is missing; the keywords are for tests."""
    environ = os.environ if environ is None else environ
    nvml = open_nvml() if nvml is None else nvml
    versions, free_bytes = installed_versions(), shutil.disk_usage(".").free
    return (
        Diagnosis(name="python", level="ok", value=platform.python_version(), hint=""),
        *(_diagnose(name, partial(_library, name, versions), problem="missing") for name in _LIBRARIES),
        _diagnose("CLIP vocabulary", partial(_vocabulary, environ), problem="missing"),
        *_diagnose_gpu(nvml, environ, root),
        _diagnose("memory", partial(_memory, root), hint=_NO_MEMORY),
        _diagnose("disk", partial(_disk, free_bytes), problem="missing" if free_bytes < _DISK_MIN_BYTES else "warning"),
        _diagnose("weights cache", partial(_weights_cache, environ)),
        _diagnose("CPU governor", partial(_governor, root), hint=_NO_GOVERNOR),
        _diagnose("other load", partial(_load, root), hint="make sure that nothing else runs"),
        _diagnose("CPUs", partial(_cpus, root)),
        _diagnose("energy counters", partial(_energy, nvml, environ, root), hint=_NO_ENERGY),
        _diagnose("memory peak", partial(_measure_peak, root), hint=_NO_PEAK),
        _diagnose("salt for GPU ids", partial(_salt, environ), hint=_NO_SALT),
        _diagnose("docker (optional)", partial(_docker, environ)),
        _diagnose("report", partial(_report, versions), problem="missing"),
    )


def _diagnose(name: str, check: Callable[[], Checked], *, problem: Level = "warning", hint: str = "") -> Diagnosis:
    """Return the result of a check; ``hint`` is what to do where its value cannot be read."""
    try:
        value, hint = check()
    except ReadingFailed as failure:
        value = str(failure)
    return Diagnosis(name=name, level=problem if hint else "ok", value=value, hint=hint)


def _salt(environ: Mapping[str, str]) -> Checked:
    value_of(load_salt(environ))
    return "kept in the state folder", ""


def _library(name: str, versions: Mapping[str, Reading[str]]) -> Checked:
    version = value_or(versions.get(name, _NOT_INSTALLED), "")
    hint = "" if version else "run 'make bench', or install the extra: pip install 'sdbench[cpu]'"
    return version or "not installed", hint


def _vocabulary(environ: Mapping[str, str]) -> Checked:
    """Look for the CLIP vocabulary without importing open_clip, which would import torch."""
    if path := environ.get("SDBENCH_CLIP_VOCABULARY"):
        file, place = Path(path), "in $SDBENCH_CLIP_VOCABULARY"
    else:
        spec = find_spec("open_clip")
        folder = Path(spec.origin).parent if spec is not None and spec.origin is not None else Path()
        file, place = folder / "bpe_simple_vocab_16e6.txt.gz", "in open_clip_torch"
    if file.is_file():
        return place, ""
    return "not installed", "run 'make bench', or pip install --no-deps open_clip_torch"


def _diagnose_gpu(nvml: Nvml, environ: Mapping[str, str], root: Path) -> Iterator[Diagnosis]:
    torch_cuda, gpus = read_torch_cuda(), list_visible_gpus(nvml, environ)
    yield from map(_as_diagnosis, check_system(nvml, torch_cuda, environ, root))
    for number, gpu in enumerate(gpus):
        where = f"cuda:{number} " if len(gpus) > 1 else ""
        for finding in check_gpu(nvml, gpu, torch_cuda):
            yield _as_diagnosis(finding.model_copy(update={"name": where + finding.name}))
    if gpus:
        users = partial(_gpu_users, nvml, [gpu.address for gpu in gpus], root)
        yield _diagnose("GPU to itself", users, hint=_NO_GPU_USERS)


def _as_diagnosis(finding: Finding) -> Diagnosis:
    level: Level = "missing" if finding.prevents else "warning" if finding.hint else "ok"
    return Diagnosis(name=finding.name, level=level, value=finding.value, hint=finding.hint)


def _gpu_users(nvml: Nvml, addresses: Iterable[Address], root: Path) -> Checked:
    foreign_count = sum(value_of(count_foreign_processes(nvml, address, frozenset(), root)) for address in addresses)
    if foreign_count:
        return f"{format_count(foreign_count, 'process')} computing on the GPU", "stop them (nvidia-smi lists them)"
    return "nothing else computes on it", ""


def _memory(root: Path) -> Checked:
    available_bytes = value_of(read_kib(root, "proc/meminfo", "MemAvailable"))
    left_bytes = value_or(read_memory_left_bytes(root), None)
    free_bytes = available_bytes if left_bytes is None else min(available_bytes, left_bytes)
    hint = "the full-size model in fp32 needs about 8 GiB: free some, raise the limit, or use bf16"
    return f"{format_bytes(free_bytes)} free", hint if free_bytes < _MEMORY_FULL_SIZE_BYTES else ""


def _disk(free_bytes: int) -> Checked:
    hint = ""
    if free_bytes < _DISK_MIN_BYTES:
        hint = "free at least 1 GiB, or choose another folder with --out"
    elif free_bytes < _DISK_PRETRAINED_BYTES:
        hint = "pretrained weights need about 6 GiB; synthetic ones need none"
    return f"{format_bytes(free_bytes)} free here", hint


def _weights_cache(environ: Mapping[str, str]) -> Checked:
    folder = cache_folder(environ)
    size = format_bytes(measure_weights(folder))
    try:
        limit = format_bytes(weights_limit_bytes(environ))
    except UserError as error:
        return str(error), "set it to a number of GiB, or unset it"
    value = f"synthetic weights take {size} of at most {limit} in {folder}"
    writable = os.access(nearest_folder(folder), os.W_OK | os.X_OK)
    return value, "" if writable else "set SDBENCH_CACHE to a folder that can be written"


def _governor(root: Path) -> Checked:
    governor = value_of(read_cpu_governor(root))
    hint = "for steadier results: sudo cpupower frequency-set -g performance"
    return governor, "" if governor == "performance" else hint


def _load(root: Path) -> Checked:
    load, cpu_count = value_of(read_load(root)), os.cpu_count() or 1
    hint = "stop other programs, or wait: the average looks back one minute"
    return f"load average {load:.2f} on {cpu_count} CPUs", hint if load > BUSY_RATIO * cpu_count else ""


def _cpus(root: Path) -> Checked:
    usable, present = len(os.sched_getaffinity(0)), os.cpu_count() or 1
    quota = value_or(read_cpu_limit(root), None)
    value = f"{usable} of {present} CPUs"
    if quota is None:
        return value, ""
    value += f", limited to {quota:g} CPUs' time: {count_usable_cpus(root)} threads by default"
    return value, "raise the limit to at least 1: it throttles even a single thread" if quota < 1 else ""


def _energy(nvml: Nvml, environ: Mapping[str, str], root: Path) -> Checked:
    zones = find_rapl_zones(root)
    gpus = [gpu for gpu in list_visible_gpus(nvml, environ) if isinstance(nvml.energy_j(gpu.address), Known)]
    processor = zones.reason if isinstance(zones, Unknown) and not gpus else "none for the CPU"
    if isinstance(zones, Known):
        processor = f"RAPL, {len(zones.value)} packages"
    return "; ".join(["NVML for the GPU"] * bool(gpus) + [processor]), "" if gpus or isinstance(
        zones, Known
    ) else _NO_ENERGY


def _measure_peak(root: Path) -> Checked:
    probe = HostMemoryProbe(root)
    probe.reset()
    value_of(probe.read()[0])
    return "the kernel can reset and report it", ""


def _docker(environ: Mapping[str, str]) -> Checked:
    if shutil.which("docker", path=environ.get("PATH")):
        return "client installed", ""
    return "no client on the PATH", "only needed to run from an image; install docker for that"


def _report(versions: Mapping[str, Reading[str]]) -> Checked:
    packages = ("jinja2", "altair", "vl-convert-python")
    missing = [name for name in packages if name not in versions]
    if missing:
        return f"missing: {', '.join(missing)}", "run 'make bench', or pip install 'sdbench[report]'"
    return ", ".join(packages), ""
