"""Where this process and its GPU are: the NUMA nodes of CPUs, memory and card."""

import os
import re
from collections.abc import Iterator
from pathlib import Path

from sdbench.probes.readings import ReadingFailed, as_reading, value_of, value_or
from sdbench.probes.sysfs import ROOT, list_names, read_int, read_text
from sdbench.schema.base import Reading

_NODES = "sys/devices/system/node"


@as_reading
def list_nodes(root: Path = ROOT) -> tuple[int, ...]:
    """Return the numbers of the machine's NUMA nodes."""
    numbers = tuple(int(name[4:]) for name in value_of(list_names(root, _NODES)) if re.fullmatch(r"node\d+", name))
    if not numbers:
        raise ReadingFailed(f"/{_NODES}: no nodes")
    return tuple(sorted(numbers))


@as_reading
def read_affinity_nodes(root: Path = ROOT) -> tuple[int, ...]:
    """Return the nodes of the CPUs that this process may use."""
    own = os.sched_getaffinity(0)
    lists = {node: value_of(read_text(root, f"{_NODES}/node{node}/cpulist")) for node in value_of(list_nodes(root))}
    return tuple(node for node, text in lists.items() if own.intersection(_parse_list(text)))


@as_reading
def read_memory_policy(root: Path = ROOT) -> str:
    """Return the policy by which this process gets memory, and so its workers: ``default``, ``bind:0``, ..."""
    # numa(7): address, policy, details; a mapping without a policy of its own shows the process's. The first is the
    # program's.
    words = value_of(read_text(root, "proc/self/numa_maps")).split(maxsplit=2)
    if len(words) < 2:  # noqa: PLR2004 - address and policy
        raise ReadingFailed("/proc/self/numa_maps: unexpected format")
    return words[1]


@as_reading
def read_gpu_node(pci_address: Reading[str], root: Path = ROOT) -> int:
    """Return the node that a GPU is connected to; the reason why not does not contain its address."""
    node = value_or(read_int(root, f"sys/bus/pci/devices/{value_of(pci_address)}/numa_node"), -1)
    if node < 0:
        raise ReadingFailed("sysfs names no NUMA node of the GPU (usual where there is only one)")
    return node


def _parse_list(text: str) -> Iterator[int]:
    """Yield the numbers of a list as ``0-3,8``; an empty one of a node without CPUs has none."""
    for part in filter(None, text.split(",")):
        first, _, last = part.partition("-")
        yield from range(int(first), int(last or first) + 1)
