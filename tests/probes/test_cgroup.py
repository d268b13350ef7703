from pathlib import Path

import pytest

from sdbench.probes.cgroup import (
    count_usable_cpus,
    read_cgroup_version,
    read_cpu_limit,
    read_memory_left_bytes,
    read_memory_limit_bytes,
    read_quota_throttling,
)
from sdbench.schema.base import Known, Unknown
from tests.probes.replay import BARE_METAL, plant

V1 = {
    "proc/self/cgroup": "4:memory:/jobs/a\n3:cpuset:/\n1:cpu,cpuacct:/jobs/a\n",
    "sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n",
    "sys/fs/cgroup/memory/jobs/memory.limit_in_bytes": "5000\n",
    "sys/fs/cgroup/memory/jobs/memory.usage_in_bytes": "4000\n",
    "sys/fs/cgroup/memory/jobs/memory.stat": "cache 7\ntotal_inactive_file 500\n",
    "sys/fs/cgroup/memory/jobs/a/memory.limit_in_bytes": "9000\n",
    "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us": "-1\n",
    "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us": "100000\n",
    "sys/fs/cgroup/cpu,cpuacct/jobs/a/cpu.cfs_quota_us": "150000\n",
    "sys/fs/cgroup/cpu,cpuacct/jobs/a/cpu.cfs_period_us": "100000\n",
}


def test_the_tightest_limit_on_the_way_up_counts_under_version_2(tmp_path: Path) -> None:
    root = plant(tmp_path, BARE_METAL)

    assert read_cgroup_version(root) == Known(value="v2")
    assert read_cpu_limit(root) == Known(value=3.0)
    assert read_memory_limit_bytes(root) == Known(value=8_000_000)
    assert read_memory_left_bytes(root) == Known(value=6_000_000)


def test_the_tightest_limit_on_the_way_up_counts_under_version_1(tmp_path: Path) -> None:
    root = plant(tmp_path, V1)

    assert read_cgroup_version(root) == Known(value="v1")
    assert read_cpu_limit(root) == Known(value=1.5)
    assert read_memory_limit_bytes(root) == Known(value=5000)
    assert read_memory_left_bytes(root) == Known(value=1500)


@pytest.mark.parametrize("path", ["/docker/0123abcd", "/../../outside"])
def test_a_container_that_sees_only_its_own_group_reads_the_mounts_root(tmp_path: Path, path: str) -> None:
    root = plant(
        tmp_path,
        {
            "proc/self/cgroup": f"0::{path}\n",
            "sys/fs/cgroup/cgroup.controllers": "cpu memory\n",
            "sys/outside/cpu.max": "10000 100000\n",
            "sys/fs/cgroup/cpu.max": "50000 100000\n",
            "sys/fs/cgroup/memory.max": "1000\n",
        },
    )

    assert read_cpu_limit(root) == Known(value=0.5)
    assert read_memory_limit_bytes(root) == Known(value=1000)


def test_no_limit_is_known_to_be_none(tmp_path: Path) -> None:
    root = plant(
        tmp_path,
        {
            "proc/self/cgroup": "0::/\n",
            "sys/fs/cgroup/cgroup.controllers": "cpu memory\n",
        },
    )

    assert read_cpu_limit(root) == Known(value=None)
    assert read_memory_limit_bytes(root) == Known(value=None)
    assert read_memory_left_bytes(root) == Known(value=None)


def test_version_1_controllers_beside_a_version_2_tree_are_hybrid(tmp_path: Path) -> None:
    root = plant(tmp_path, {**V1, "sys/fs/cgroup/unified/cgroup.controllers": ""})
    plant(tmp_path, {"proc/self/cgroup": V1["proc/self/cgroup"] + "0::/\n"})

    assert read_cgroup_version(root) == Known(value="hybrid")
    assert read_memory_limit_bytes(root) == Known(value=5000)


def test_no_control_groups_are_unknown(tmp_path: Path) -> None:
    assert isinstance(read_cgroup_version(tmp_path), Unknown)
    assert isinstance(read_cpu_limit(tmp_path), Unknown)
    assert isinstance(read_memory_limit_bytes(plant(tmp_path, {"proc/self/cgroup": "0::/\n"})), Unknown)


@pytest.mark.parametrize(("quota_us", "threads"), [(765_000, 7), (800_000, 8), (1_600_000, 8), (99_000, 1), (1_000, 1)])
def test_a_part_of_a_cpu_is_no_thread(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, quota_us: int, threads: int
) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda _pid: set(range(8)))
    root = plant(tmp_path, {**BARE_METAL, "sys/fs/cgroup/user.slice/cpu.max": f"{quota_us} 100000\n"})
    assert count_usable_cpus(root) == threads


def test_throttling_of_all_groups_above_counts_under_version_2(tmp_path: Path) -> None:
    stat = "usage_usec 1\nuser_usec 1\nsystem_usec 0\nnr_periods 9\nnr_throttled {}\nthrottled_usec {}\nnr_bursts 0\n"
    files = {
        "sys/fs/cgroup/cpu.stat": "usage_usec 1\nuser_usec 1\nsystem_usec 0\n",
        "sys/fs/cgroup/user.slice/cpu.stat": stat.format(3, 1_500_000),
        "sys/fs/cgroup/user.slice/run/cpu.stat": stat.format(2, 250_000),
    }
    assert read_quota_throttling(plant(tmp_path, {**BARE_METAL, **files})) == Known(value=(5, 1.75))


def test_throttling_is_in_nanoseconds_under_version_1(tmp_path: Path) -> None:
    stat = "nr_periods 9\nnr_throttled 4\nthrottled_time 2500000000\nnr_bursts 0\nburst_time 0\n"
    root = plant(tmp_path, {**V1, "sys/fs/cgroup/cpu,cpuacct/jobs/a/cpu.stat": stat})
    assert read_quota_throttling(root) == Known(value=(4, 2.5))


def test_throttling_is_unknown_where_no_group_counts_it(tmp_path: Path) -> None:
    assert isinstance(read_quota_throttling(tmp_path), Unknown)
    assert isinstance(read_quota_throttling(plant(tmp_path, BARE_METAL)), Unknown)


def test_a_limit_below_the_affinity_decides_how_many_threads_are_of_use(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = plant(tmp_path, V1)
    monkeypatch.setattr("os.sched_getaffinity", lambda _pid: set(range(8)))
    assert count_usable_cpus(root) == 1
    monkeypatch.setattr("os.sched_getaffinity", lambda _pid: {5})
    assert count_usable_cpus(root) == 1
    assert count_usable_cpus(tmp_path / "nothing") == 1
