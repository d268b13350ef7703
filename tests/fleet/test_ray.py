"""A real Ray cluster of local nodes: a driver that is killed, a node that is killed, a kind that nobody has."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sdbench.store.bundle import load_record, verify_files
from sdbench.store.journal import read_journal

# Ray's own local cluster leaves pipes open.
pytestmark = [pytest.mark.fleet, pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")]

MANIFEST = """schema: sdbench/manifest/v1
title: A fleet of virtual machines
protocol: {launches_min: 2, launches_max: 2, calls_min: 3, calls_max: 3}
experiments:
  - id: one
    title: One
    options: {architecture: tiny, height: 64, width: 64, steps: 4, backend: virtual}
    matrix: {batch: [1, 2]}
"""
KINDS = ("A100", "A100", "H100", "T4")
NODE_KILLED_S = 90.0


class LocalCluster:
    """A head without CPUs, and nodes of several kinds."""

    def __init__(self) -> None:
        from ray.cluster_utils import Cluster

        self.cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
        self.nodes = [self.cluster.add_node(num_cpus=2, labels={"sdbench-kind": kind}) for kind in KINDS]

    def kill(self, node_id: str) -> None:
        (node,) = [node for node in self.nodes if node.node_id == node_id]
        self.cluster.remove_node(node, allow_graceful=False)


@pytest.fixture(scope="module")
def cluster() -> Iterator[LocalCluster]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("RAY_USAGE_STATS_REPORT_URL", "http://127.0.0.1:9/")
        local = LocalCluster()
        yield local
        local.cluster.shutdown()


def start(cluster: LocalCluster, folder: Path, *options: str) -> "subprocess.Popen[str]":
    (folder / "virtual.yaml").write_text(MANIFEST)
    command = [sys.executable, "-m", "sdbench", "fleet", str(folder / "virtual.yaml"), "--engine", "ray"]
    command += ["--address", cluster.cluster.address, "--out", str(folder / "out"), *options]
    environ = os.environ | {"SDBENCH_FLEET_WORK": str(folder / "work")}
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environ)


def wait_for_line(process: "subprocess.Popen[str]", start_of_line: str) -> None:
    for line in process.stdout or ():
        if line.startswith(start_of_line):
            return
    pytest.fail(f"it ended without a line {start_of_line!r}")


def journal_of(out: Path) -> list[dict[str, Any]]:
    (path,) = out.glob("fleet-*/fleet.jsonl")
    return list(read_journal(path)[0])


def check_records(out: Path, kinds: set[str]) -> None:
    """Each kind has one whole run, and nothing else is there."""
    done = [entry for entry in journal_of(out) if entry["kind"] == "done"]
    assert sorted(entry["member"] for entry in done) == sorted(kinds)
    folders = {folder for entry in done for folder in entry["folders"]}
    assert {path.parent.name for path in out.glob("*/record.json")} == folders
    assert len(folders) == len(kinds)
    for name in folders:
        record = load_record(out / name)
        verify_files(out / name, record)
        assert record.ended == "complete"


def test_unknown_kind_is_refused_at_once(cluster: LocalCluster, tmp_path: Path) -> None:
    process = start(cluster, tmp_path, "--kinds", "H1000")
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 2
    assert "sdbench: --kinds 'H1000': no machine of this kind; nearest: 'H100'" in output


def test_killed_driver_goes_on_with_nothing_lost_and_nothing_twice(cluster: LocalCluster, tmp_path: Path) -> None:
    process = start(cluster, tmp_path, "--kinds", "H100,T4")
    wait_for_line(process, "H100: done")
    process.send_signal(signal.SIGKILL)
    process.communicate()
    again = start(cluster, tmp_path, "--kinds", "H100,T4")
    output, _ = again.communicate(timeout=120)
    assert again.returncode == 0, output
    assert "H100: done before" in output
    check_records(tmp_path / "out", {"H100", "T4"})


def test_killed_node_is_replaced_and_all_records_are_whole(cluster: LocalCluster, tmp_path: Path) -> None:
    begin_s = time.monotonic()
    process = start(cluster, tmp_path)
    wait_for_line(process, "A100: 0/2")
    started = next(entry for entry in journal_of(tmp_path / "out") if entry.get("member") == "A100")
    cluster.kill(started["node"])
    output, _ = process.communicate(timeout=NODE_KILLED_S)
    assert process.returncode == 0, output
    assert time.monotonic() - begin_s <= NODE_KILLED_S
    check_records(tmp_path / "out", {"A100", "H100", "T4"})
    entries = journal_of(tmp_path / "out")
    assert [entry["node"] for entry in entries if entry["kind"] == "lost attempt"] == [started["node"]]
    assert (
        next(entry["node"] for entry in entries if entry["kind"] == "done" and entry["member"] == "A100")
        != started["node"]
    )
    # One report over all machines.
    assert list((tmp_path / "out").glob("fleet-*/report.html"))
