import subprocess
import sys
from pathlib import Path

import pytest

from sdbench.probes.memory import HOST_SHARE, choose_host_limit, host_memory_bounded
from tests.probes.replay import plant

GIB = 2**30
STATUS = "VmRSS:\t 1048576 kB\nVmData:\t 2097152 kB\n"
MEMINFO = "MemTotal: 16777216 kB\nMemAvailable: 8388608 kB\n"

ALLOCATE = """
from sdbench.probes.memory import host_memory_bounded
from sdbench.probes.sysfs import ROOT, read_kib
rss = read_kib(ROOT, "proc/self/status", "VmRSS").value
with host_memory_bounded(rss + 256 * 2**20):
    held = bytearray(128 * 2**20)
    try:
        more = bytearray(512 * 2**20)
        print("allocated")
    except MemoryError:
        print("refused")
after = bytearray(512 * 2**20)
print("free again")
"""


def machine(tmp_path: Path, **files: str) -> Path:
    return plant(tmp_path, {"proc/self/status": STATUS, "proc/meminfo": MEMINFO, **files})


def test_limit_leaves_a_share_of_what_is_free_to_the_rest_of_the_machine(tmp_path: Path) -> None:
    limit = choose_host_limit(None, machine(tmp_path))
    assert limit.limit_bytes == GIB + int(HOST_SHARE * 8 * GIB)
    assert limit.source == "80% of the free host memory"


def test_weights_mapped_from_a_file_do_not_count_as_free_memory(tmp_path: Path) -> None:
    mapped = {"proc/self/status": STATUS.replace("VmRSS:\t 1048576", "VmRSS:\t 5242880") + "RssFile:\t 4194304 kB\n"}
    limit = choose_host_limit(None, machine(tmp_path, **mapped))
    assert limit.limit_bytes == 5 * GIB + int(HOST_SHARE * 4 * GIB)


def test_smaller_limit_that_was_asked_for_holds(tmp_path: Path) -> None:
    limit = choose_host_limit(3 * GIB, machine(tmp_path))
    assert (limit.limit_bytes, limit.source) == (3 * GIB, "memory_limit_bytes")


def test_larger_limit_than_is_safe_is_not_granted(tmp_path: Path) -> None:
    limit = choose_host_limit(64 * GIB, machine(tmp_path))
    assert limit.limit_bytes == GIB + int(HOST_SHARE * 8 * GIB)
    assert "below memory_limit_bytes" in limit.source


def test_control_group_with_less_left_decides(tmp_path: Path) -> None:
    files = {
        "proc/self/cgroup": "0::/job\n",
        "sys/fs/cgroup/cgroup.controllers": "memory\n",
        "sys/fs/cgroup/job/memory.max": str(3 * GIB),
        "sys/fs/cgroup/job/memory.current": str(GIB),
        "sys/fs/cgroup/job/memory.stat": "inactive_file 0\n",
    }
    limit = choose_host_limit(None, machine(tmp_path, **files))
    assert limit.limit_bytes == GIB + int(HOST_SHARE * 2 * GIB)


def test_allocation_beyond_the_bound_fails_inside_and_works_again_after() -> None:
    done = subprocess.run([sys.executable, "-c", ALLOCATE], capture_output=True, text=True, check=True)
    assert done.stdout.split("\n")[:2] == ["refused", "free again"]


def test_process_whose_size_is_unknown_is_not_bounded(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="cannot be bounded"), host_memory_bounded(GIB, tmp_path):
        pass
