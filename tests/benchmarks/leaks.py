"""What many launches leave behind: ``python -m tests.benchmarks.leaks`` counts after 500.

Processes, sockets and pipes are real, the template too; its workers measure nothing.
"""

import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from sdbench.runner.events import RunEvent
from sdbench.runner.run import run
from sdbench.schema.outcome import launches_of
from tests.benchmarks.bars import Bar
from tests.runner.setups import make_spec

# Each is launched twice.
EXPERIMENTS = 250
# The template and its worker.
PROCESSES_MAX = 2


def measure_leaks() -> list[Bar]:
    """Return how many descriptors and processes are left after all launches, and how many lived at once."""
    most = most_of_template = 0

    def count(_event: RunEvent) -> None:
        nonlocal most, most_of_template
        below = list(_descendants(os.getpid()))
        most = max(most, len(below))
        most_of_template = max(most_of_template, *(_count_descriptors(pid) for pid in below[:1]), 0)

    with tempfile.TemporaryDirectory() as folder:
        spec = make_spec(Path(folder), *(f"good:{number}" for number in range(EXPERIMENTS)))
        before = _count_descriptors(os.getpid())
        record = run(spec, count).record
        descriptors = _count_descriptors(os.getpid()) - before
    left = len(list(_descendants(os.getpid())))
    launches = [launch for result in record.results for launch in launches_of(result.outcome)]
    forked = sum(launch.isolation == "fork" for launch in launches)
    name = f"after {len(launches)} launches, {forked} of them forked"
    return [
        Bar(f"descriptors left {name}", str(descriptors), "0", descriptors == 0),
        Bar(f"processes left {name}, zombies included", str(left), "0", left == 0),
        Bar("processes of a run at once", str(most), f"at most {PROCESSES_MAX}", 0 < most <= PROCESSES_MAX),
        Bar("descriptors of a template at most", str(most_of_template)),
    ]


def _count_descriptors(pid: int) -> int:
    try:
        return len(list(Path(f"/proc/{pid}/fd").iterdir()))
    except OSError:
        return 0


def _descendants(pid: int) -> Iterator[int]:
    """Yield the processes below one, zombies included."""
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            children = [int(word) for word in task.read_text().split()]
        except OSError:
            continue
        for child in children:
            yield child
            yield from _descendants(child)


if __name__ == "__main__":
    for bar in measure_leaks():
        sys.stdout.write(f"{bar.name}: {bar.measured} ({bar.bar})\n")
