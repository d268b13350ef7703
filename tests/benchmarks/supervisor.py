"""The supervisor's CPU time next to the worker's, from a real run of the command line."""

import subprocess
import sys
import tempfile
from pathlib import Path

from tests.benchmarks.bars import Bar

LIMIT = 0.01
LAUNCH_S = 12
# Never converged: each launch is timed for its whole budget. One thread: two spin on a busy machine, and the
# worker's CPU time, which this is compared to, would grow with the load.
SETTINGS = (
    "precision=fp32",
    "steps=4",
    "threads=1",
    "protocol.calls_min=5",
    "protocol.calls_max=10000",
    "protocol.relative_half_width=1e-9",
    f"protocol.launch_budget_s={LAUNCH_S}",
    "protocol.launches_min=2",
    "protocol.launches_max=2",
)


def measure_supervisor() -> list[Bar]:
    """Return the supervisor's share of a run of two launches of tiny-sd, progress lines included."""
    with tempfile.TemporaryDirectory() as out:
        settings = [word for setting in SETTINGS for word in ("--set", setting)]
        command = [
            sys.executable,
            "-m",
            "sdbench",
            "run",
            "manifests/smoke.yaml",
            "--only",
            "smoke",
            "--device",
            "cpu",
            "--out",
            out,
            *settings,
        ]
        ended = subprocess.run(command, capture_output=True, text=True)
        if ended.returncode != 0:
            raise RuntimeError(
                f"{' '.join(command)} ended with {ended.returncode}: {(ended.stdout + ended.stderr)[-1000:]}"
            )
        (record,) = Path(out).glob("*/record.json")
        return read_share(record)


def read_share(record_path: Path) -> list[Bar]:
    """Return the supervisor's CPU time as a share of the worker's over all launches of a record."""
    from sdbench.schema.outcome import launches_of
    from sdbench.store.bundle import load_record

    launches = [launch for result in load_record(record_path).results for launch in launches_of(result.outcome)]
    supervisor_s = sum(launch.supervisor_cpu_s for launch in launches)
    worker_s = sum(launch.worker_cpu_s for launch in launches)
    share = supervisor_s / worker_s
    measured = f"{share:.2%} ({supervisor_s:.2f} s of {worker_s:.1f} s)"
    return [Bar("supervisor's CPU time / worker's", measured, f"below {LIMIT:.0%}", share < LIMIT)]
