"""Fleets on this machine: a Ray cluster of local nodes, the fleet's command, and checks of its records."""

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sdbench.store.bundle import load_record, verify_files
from sdbench.store.journal import read_journal
from sdbench.store.lock import LOCK_FOLDER, hold_device

MANIFEST = """schema: sdbench/manifest/v1
title: A fleet of virtual machines
protocol: {launches_min: 2, launches_max: 2, calls_min: 3, calls_max: 3}
experiments:
  - id: one
    title: One
    options: {pipeline: tiny-sd, height: 64, width: 64, steps: 4, backend: virtual}
    matrix: {batch: [1, 2]}
"""
# Runs of it need the CPU, so they wait on their nodes while a test holds that device.
CPU_MANIFEST = MANIFEST.replace("backend: virtual", "device: cpu").replace("[1, 2]", "[1]")
KINDS = ("A100", "A100", "H100", "T4")
# Far more than any of it takes on a busy machine: a test waits for what happens, not for a time.
PATIENCE_S = 600.0


class LocalCluster:
    """A head without CPUs, and nodes of several kinds."""

    def __init__(self) -> None:
        from ray.cluster_utils import Cluster

        self.cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
        self.nodes = [self.cluster.add_node(num_cpus=2, labels={"sdbench-kind": kind}) for kind in KINDS]

    def start_fleet(self, folder: Path, *options: str, manifest: str = MANIFEST) -> "subprocess.Popen[str]":
        """Start the fleet's command on this cluster, with all that it writes below a folder."""
        options = ("--engine", "ray", "--address", self.cluster.address, *options)
        environ = os.environ | {"SDBENCH_FLEET_WORK": str(folder / "work")}
        return start_fleet(folder, *options, manifest=manifest, environ=environ)

    def kill(self, node_id: str) -> None:
        """Kill a node's processes."""
        (node,) = [node for node in self.nodes if node.node_id == node_id]
        self.cluster.remove_node(node, allow_graceful=False)


@contextlib.contextmanager
def local_cluster() -> Iterator[LocalCluster]:
    """Start a Ray cluster of local nodes without usage statistics, and stop it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("RAY_USAGE_STATS_REPORT_URL", "http://127.0.0.1:9/")
        local = LocalCluster()
        try:
            yield local
        finally:
            local.cluster.shutdown()


def start_fleet(
    folder: Path, *options: str, manifest: str = MANIFEST, environ: dict[str, str] | None = None
) -> "subprocess.Popen[str]":
    """Start the fleet's command with what it writes in ``out`` of a folder."""
    (folder / "fleet.yaml").write_text(manifest)
    command = [sys.executable, "-m", "sdbench", "fleet", str(folder / "fleet.yaml"), "--out", str(folder / "out")]
    # Nodes of this machine have no GPU, whatever their kind.
    command += ["--args", "--device cpu"]
    return subprocess.Popen(
        [*command, *options], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environ
    )


@contextlib.contextmanager
def cpu_held() -> Iterator[None]:
    """Hold the CPU, so that a run on a node of this machine waits and cannot end before the test acts."""
    with hold_device("cpu", lambda _holder: None, LOCK_FOLDER, purpose=lambda: "a test"):
        yield


def wait_for_line(process: "subprocess.Popen[str]", start_of_line: str) -> None:
    """Read the output of the command up to a line that starts like this."""
    lines = []
    for line in process.stdout or ():
        lines.append(line)
        if line.startswith(start_of_line):
            return
    pytest.fail(f"it ended without a line {start_of_line!r}:\n{''.join(lines)}")


def journal_of(out: Path) -> list[dict[str, Any]]:
    """Return the entries of the one fleet's journal."""
    (path,) = out.glob("fleet-*/fleet.jsonl")
    return list(read_journal(path)[0])


def check_records(out: Path, kinds: set[str]) -> None:
    """Each kind has one complete run, and there is no other."""
    done = [entry for entry in journal_of(out) if entry["kind"] == "done"]
    assert sorted(entry["job"] for entry in done) == sorted(kinds)
    folders = {folder for entry in done for folder in entry["folders"]}
    assert {path.parent.name for path in out.glob("*/record.json")} == folders
    assert len(folders) == len(kinds)
    for name in folders:
        record = load_record(out / name)
        verify_files(out / name, record)
        assert record.ended == "complete"


def kill_first_node(cluster: LocalCluster, folder: Path) -> str:
    """Run a fleet, kill the node of a kind that another node has too, and return its id.

    Raises:
        AssertionError: the fleet failed, or a record is missing, torn or there twice.
    """
    with cpu_held():
        process = cluster.start_fleet(folder, manifest=CPU_MANIFEST)
        wait_for_line(process, "A100: device cpu is held")
        node: str = next(entry["node"] for entry in journal_of(folder / "out") if entry.get("job") == "A100")
        cluster.kill(node)
    output, _ = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 0, output
    check_records(folder / "out", {"A100", "H100", "T4"})
    return node
