"""Whether a CPU limit that throttles is warned of: ``python -m tests.benchmarks.quota``, as root, about three minutes.

Launches with two threads in a control group that may use 1.5 CPUs, as under ``docker run --cpus 1.5``, and without a
limit. It needs two CPUs that nothing else uses.
"""

import contextlib
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from sdbench.schema.outcome import launches_of
from sdbench.schema.warning_codes import WarningCode
from sdbench.store.bundle import load_record
from tests.benchmarks.bars import Bar

LIMITED, FREE = 10, 20
# Experiments of a round share a template, which takes longest to start.
_EXPERIMENTS = 5
_QUOTA_US, _PERIOD_US = 150_000, 100_000
_MANIFEST = """\
schema: sdbench/manifest/v1
title: A CPU limit
model: {{pipeline: tiny-sd}}
protocol: {{launches_min: {rounds}, launches_max: {rounds}, calls_min: 10, launch_budget_s: 2}}
defaults: {{height: 256, width: 256, steps: 4, threads: 2, device: cpu}}
experiments:
  - {{id: limit, title: Two threads, matrix: {{seed: [1, 2, 3, 4, 5]}}}}
"""


def measure_quota() -> list[Bar]:
    """Return how many launches were warned of, with a limit and without."""
    with _limited_group() as group:
        limited = _count_warned(LIMITED, group)
    free = _count_warned(FREE, None)
    return [
        Bar("launches warned of a limit of 1.5 CPUs", str(limited), f"{LIMITED} of {LIMITED}", limited == LIMITED),
        Bar("launches warned of without a limit", str(free), f"0 of {FREE}", free == 0),
    ]


@contextlib.contextmanager
def _limited_group() -> Iterator[Path]:
    """Make a group with the limit, under version 2 or 1."""
    root = Path("/sys/fs/cgroup")
    is_v2 = (root / "cgroup.controllers").exists()
    group = (root if is_v2 else root / "cpu") / "sdbench-quota"
    group.mkdir()
    try:
        if is_v2:
            (group / "cpu.max").write_text(f"{_QUOTA_US} {_PERIOD_US}")
        else:
            (group / "cpu.cfs_period_us").write_text(str(_PERIOD_US))
            (group / "cpu.cfs_quota_us").write_text(str(_QUOTA_US))
        yield group
    finally:
        group.rmdir()


def _count_warned(count: int, group: Path | None) -> int:
    join = f"echo $$ > {group}/cgroup.procs && " if group else ""
    with tempfile.TemporaryDirectory() as folder:
        manifest = Path(folder) / "quota.yaml"
        manifest.write_text(_MANIFEST.format(rounds=count // _EXPERIMENTS))
        command = f"{join}exec {sys.executable} -m sdbench run {manifest} --device cpu --out {folder}/out --quiet"
        subprocess.run(["sh", "-c", command], check=True, stdout=sys.stderr)
        (path,) = Path(folder).glob("out/quota-*")
        launches = [launch for result in load_record(path).results for launch in launches_of(result.outcome)]
    if len(launches) != count:
        raise RuntimeError(f"{len(launches)} launches instead of {count}")
    return sum(any(item.code == WarningCode.CPU_QUOTA for item in launch.warnings) for launch in launches)


if __name__ == "__main__":
    for bar in measure_quota():
        sys.stdout.write(f"{bar.name}: {bar.measured} ({bar.bar})\n")
