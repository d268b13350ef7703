"""How the machine is set up: what can be changed without buying another."""

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TypeVar

from sdbench.probes.cgroup import read_cgroup_version, read_cpu_limit, read_memory_limit_bytes
from sdbench.probes.files import ROOT, list_names, read_colon_table, read_int, read_kib, read_text
from sdbench.probes.gpu import list_gpu_indices, read_gpu_configuration
from sdbench.probes.nvml import Nvml
from sdbench.probes.torch_build import NONE
from sdbench.schema.base import Known, Reading, Unknown
from sdbench.schema.fingerprint import Configuration, GpuConfiguration

_CPU = "sys/devices/system/cpu"
T = TypeVar("T")


def read_configuration(nvml: Nvml | Unknown, environ: Mapping[str, str], root: Path = ROOT) -> Configuration:
    """Return how the machine and this process's share of it are set up."""
    cpu_limit = read_cpu_limit(root)
    memory_limit = read_memory_limit_bytes(root)
    return Configuration(
        cpu_governor=read_cpu_governor(root),
        cpu_boost=_boost(root),
        cpu_clock_max_khz=_clock_max_khz(root),
        microcode=_microcode(root),
        smt=read_text(root, f"{_CPU}/smt/control"),
        affinity_cpu_count=Known(value=len(os.sched_getaffinity(0))),
        cgroup_version=read_cgroup_version(root),
        cgroup_cpu_limit=_limit_text(cpu_limit),
        cgroup_memory_limit=_limit_text(memory_limit),
        transparent_hugepage=_transparent_hugepage(root),
        swap_total_bytes=read_kib(read_text(root, "proc/meminfo"), "SwapTotal", "proc/meminfo"),
        vulnerabilities_mitigated=_mitigations(root),
        container=read_container(environ, root),
        gpus=_gpus(nvml, list_gpu_indices(nvml, root)),
    )


def _gpus(nvml: Nvml | Unknown, indices: Reading[tuple[int, ...]]) -> Reading[tuple[GpuConfiguration, ...]]:
    if isinstance(indices, Unknown):
        return indices
    if isinstance(nvml, Unknown):
        return Known(value=())
    return Known(value=tuple(read_gpu_configuration(nvml, index) for index in indices.value))


def _limit_text(limit: Reading[T | None]) -> Reading[str]:
    """Return a limit as text, ``none`` where there is none."""
    if isinstance(limit, Unknown):
        return limit
    return Known(value=NONE if limit.value is None else str(limit.value))


def _cpu_folders(root: Path) -> list[str]:
    names = list_names(root, _CPU)
    found = () if isinstance(names, Unknown) else names.value
    return [f"{_CPU}/{name}" for name in found if re.fullmatch(r"cpu\d+", name)]


def read_cpu_governor(root: Path = ROOT) -> Reading[str]:
    """Return the frequency governor; several, joined by commas, where the CPUs differ."""
    readings = [read_text(root, f"{folder}/cpufreq/scaling_governor") for folder in _cpu_folders(root)]
    governors = {reading.value for reading in readings if isinstance(reading, Known)}
    if not governors:
        return Unknown(reason=f"/{_CPU}/cpu*/cpufreq/scaling_governor: not there (usual on virtual machines)")
    return Known(value=",".join(sorted(governors)))


def _boost(root: Path) -> Reading[str]:
    boost = read_int(root, f"{_CPU}/cpufreq/boost")
    if isinstance(boost, Known):
        return Known(value="on" if boost.value else "off")
    no_turbo = read_int(root, f"{_CPU}/intel_pstate/no_turbo")
    if isinstance(no_turbo, Known):
        return Known(value="off" if no_turbo.value else "on")
    return Unknown(reason=f"/{_CPU}: neither cpufreq/boost nor intel_pstate/no_turbo is there")


def _clock_max_khz(root: Path) -> Reading[int]:
    readings = [read_int(root, f"{folder}/cpufreq/scaling_max_freq") for folder in _cpu_folders(root)]
    clocks = [reading.value for reading in readings if isinstance(reading, Known)]
    return Known(value=max(clocks)) if clocks else Unknown(reason=f"/{_CPU}/cpu*/cpufreq/scaling_max_freq: not there")


def _microcode(root: Path) -> Reading[str]:
    cpuinfo = read_text(root, "proc/cpuinfo")
    if isinstance(cpuinfo, Unknown):
        return cpuinfo
    microcode = read_colon_table(cpuinfo.value).get("microcode")
    return Known(value=microcode) if microcode else Unknown(reason="/proc/cpuinfo: no line microcode")


def _transparent_hugepage(root: Path) -> Reading[str]:
    text = read_text(root, "sys/kernel/mm/transparent_hugepage/enabled")
    if isinstance(text, Unknown):
        return text
    chosen = re.search(r"\[(\w+)\]", text.value)
    return Known(value=chosen[1]) if chosen else Unknown(reason="transparent_hugepage/enabled marks no choice")


def _mitigations(root: Path) -> Reading[tuple[str, ...]]:
    """Return each mitigation in force, as ``retbleed: Enhanced IBRS``: some cost speed."""
    folder = f"{_CPU}/vulnerabilities"
    names = list_names(root, folder)
    if isinstance(names, Unknown):
        return names
    texts = ((name, read_text(root, f"{folder}/{name}")) for name in names.value)
    found = ((name, text.value) for name, text in texts if isinstance(text, Known))
    return Known(value=tuple(f"{name}: {text[12:]}" for name, text in found if text.startswith("Mitigation: ")))


def read_container(environ: Mapping[str, str], root: Path = ROOT) -> Reading[str]:
    """Return the kind of container by the marks it leaves, ``none`` without any."""
    marks = {
        "kubernetes": "KUBERNETES_SERVICE_HOST" in environ,
        "podman": (root / "run/.containerenv").exists(),
        "docker": (root / ".dockerenv").exists(),
        "apptainer": "APPTAINER_CONTAINER" in environ or "SINGULARITY_CONTAINER" in environ,
    }
    if found := next((name for name, present in marks.items() if present), None):
        return Known(value=found)
    declared = read_text(root, "run/systemd/container")
    return declared if isinstance(declared, Known) else Known(value=environ.get("container") or NONE)
