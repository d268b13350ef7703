"""How the machine is set up: what can be changed without buying another."""

import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeVar

from sdbench.probes.cgroup import read_cgroup_version, read_cpu_limit, read_memory_limit_bytes
from sdbench.probes.gpu import read_gpu_configuration
from sdbench.probes.numa import read_affinity_nodes, read_memory_policy
from sdbench.probes.nvml import Nvml
from sdbench.probes.nvml_library import Address
from sdbench.probes.readings import ReadingFailed, as_reading, known_values, value_of, value_or
from sdbench.probes.sysfs import CPU, ROOT, find_cpuinfo, list_cpus, list_names, read_int, read_kib, read_text
from sdbench.probes.torch_build import NONE
from sdbench.schema.base import Known, Reading
from sdbench.schema.fingerprint import Configuration

T = TypeVar("T")


def read_configuration(nvml: Nvml, gpu: Address | None, environ: Mapping[str, str], root: Path = ROOT) -> Configuration:
    """Return how the machine and this process's share of it are set up."""
    return Configuration(
        cpu_governor=read_cpu_governor(root),
        cpu_scaling_driver=_join_cpus("cpufreq/scaling_driver", root),
        cpu_energy_preference=_join_cpus("cpufreq/energy_performance_preference", root),
        cpu_boost=_boost(root),
        cpu_clock_max_khz=_clock_max_khz(root),
        microcode=find_cpuinfo(read_text(root, "proc/cpuinfo"), "microcode"),
        smt=read_text(root, f"{CPU}/smt/control"),
        affinity_cpu_count=Known(value=len(os.sched_getaffinity(0))),
        cgroup_version=read_cgroup_version(root),
        cgroup_cpu_limit=_limit_text(read_cpu_limit(root)),
        cgroup_memory_limit=_limit_text(read_memory_limit_bytes(root)),
        transparent_hugepage=_transparent_hugepage(root),
        swap_total_bytes=read_kib(root, "proc/meminfo", "SwapTotal"),
        numa_balancing=read_int(root, "proc/sys/kernel/numa_balancing"),
        memory_policy=read_memory_policy(root),
        affinity_numa_nodes=read_affinity_nodes(root),
        vulnerabilities_mitigated=_mitigations(root),
        container=read_container(environ, root),
        gpus=Known(value=() if gpu is None else (read_gpu_configuration(nvml, gpu, root),)),
    )


@as_reading
def _limit_text(limit: Reading[T]) -> str:
    bound = value_of(limit)
    return NONE if bound is None else str(bound)


def read_cpu_governor(root: Path = ROOT) -> Reading[str]:
    """Return the frequency governor; several, joined by commas, where the CPUs differ."""
    return _join_cpus("cpufreq/scaling_governor", root)


@as_reading
def _join_cpus(name: str, root: Path) -> str:
    return ",".join(sorted(set(_read_all_cpus(read_text, name, root))))


@as_reading
def _clock_max_khz(root: Path) -> int:
    return max(_read_all_cpus(read_int, "cpufreq/scaling_max_freq", root))


def _read_all_cpus(read: Callable[[Path, str], Reading[T]], name: str, root: Path) -> list[T]:
    values = known_values(read(root, f"{folder}/{name}") for folder in list_cpus(root))
    if not values:
        raise ReadingFailed(f"/{CPU}/cpu*/{name}: not there (usual on virtual machines)")
    return values


@as_reading
def _boost(root: Path) -> str:
    for name, on in (("cpufreq/boost", True), ("intel_pstate/no_turbo", False)):
        switch = read_int(root, f"{CPU}/{name}")
        if isinstance(switch, Known):
            return "on" if bool(switch.value) == on else "off"
    raise ReadingFailed(f"/{CPU}: neither cpufreq/boost nor intel_pstate/no_turbo is there")


@as_reading
def _transparent_hugepage(root: Path) -> str:
    chosen = re.search(r"\[(\w+)\]", value_of(read_text(root, "sys/kernel/mm/transparent_hugepage/enabled")))
    if chosen is None:
        raise ReadingFailed("transparent_hugepage/enabled has no selected value")
    return chosen[1]


@as_reading
def _mitigations(root: Path) -> tuple[str, ...]:
    """Return each mitigation in force, as ``retbleed: Enhanced IBRS``: some cost speed."""
    folder = f"{CPU}/vulnerabilities"
    texts = ((name, value_or(read_text(root, f"{folder}/{name}"), "")) for name in value_of(list_names(root, folder)))
    return tuple(f"{name}: {text[12:]}" for name, text in texts if text.startswith("Mitigation: "))


@as_reading
def read_container(environ: Mapping[str, str], root: Path = ROOT) -> str:
    """Return the kind of container by its marks, ``none`` without any."""
    marks = {
        "kubernetes": "KUBERNETES_SERVICE_HOST" in environ,
        "podman": (root / "run/.containerenv").exists(),
        "docker": (root / ".dockerenv").exists(),
        "apptainer": "APPTAINER_CONTAINER" in environ or "SINGULARITY_CONTAINER" in environ,
    }
    marked = next((name for name, present in marks.items() if present), None)
    return marked or value_or(read_text(root, "run/systemd/container"), environ.get("container") or NONE)
