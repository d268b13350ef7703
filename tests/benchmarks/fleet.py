"""How long a fleet of local Ray nodes takes when one of them is killed."""

import tempfile
import time
from pathlib import Path

from tests.benchmarks.bars import Bar
from tests.fleet.local import kill_first_node, local_cluster

BAR_S = 90.0


def measure_fleet() -> list[Bar]:
    """Return the seconds from starting the cluster to the last record, and from the command on."""
    began_s = time.monotonic()
    with tempfile.TemporaryDirectory() as folder, local_cluster() as cluster:
        started_s = time.monotonic()
        kill_first_node(cluster, Path(folder))
        ended_s = time.monotonic()
    return [
        Bar(
            "4 local Ray nodes, one killed, all records whole",
            f"{ended_s - began_s:.0f} s with starting the cluster, {ended_s - started_s:.0f} s without",
            f"<= {BAR_S:.0f} s",
            ended_s - began_s <= BAR_S,
        )
    ]
