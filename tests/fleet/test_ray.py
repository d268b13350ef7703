"""A real Ray cluster of local nodes: a driver that is killed, a node that is killed, a kind that nobody has."""

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fleet.local import (
    PATIENCE_S,
    LocalCluster,
    check_records,
    journal_of,
    kill_first_node,
    local_cluster,
    wait_for_line,
)

# Ray's own local cluster leaves pipes open.
pytestmark = [pytest.mark.fleet, pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")]


@pytest.fixture(scope="module")
def cluster() -> Iterator[LocalCluster]:
    with local_cluster() as cluster:
        yield cluster


def test_unknown_kind_is_refused_at_once(cluster: LocalCluster, tmp_path: Path) -> None:
    process = cluster.start_fleet(tmp_path, "--kinds", "H1000")
    output, _ = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 2
    assert "sdbench: --kinds 'H1000': no machine of this kind; nearest: 'H100'" in output


def test_killed_driver_resumes_with_nothing_lost_and_nothing_twice(cluster: LocalCluster, tmp_path: Path) -> None:
    process = cluster.start_fleet(tmp_path, "--kinds", "H100,T4")
    wait_for_line(process, "H100: done")
    process.send_signal(signal.SIGKILL)
    process.communicate()
    again = cluster.start_fleet(tmp_path, "--kinds", "H100,T4")
    output, _ = again.communicate(timeout=PATIENCE_S)
    assert again.returncode == 0, output
    assert "H100: done before" in output
    check_records(tmp_path / "out", {"H100", "T4"})


def test_killed_node_is_replaced_and_all_records_are_whole(cluster: LocalCluster, tmp_path: Path) -> None:
    killed = kill_first_node(cluster, tmp_path)
    entries = journal_of(tmp_path / "out")
    assert [entry["node"] for entry in entries if entry["kind"] == "lost attempt"] == [killed]
    (node,) = [entry["node"] for entry in entries if entry["kind"] == "done" and entry["job"] == "A100"]
    assert node != killed
    # One report over all machines.
    assert list((tmp_path / "out").glob("fleet-*/report.html"))
