"""What a container costs against the native run, in one run of turns: start-up, and the latency of the same call.

Needs an engine and the image sdbench:cpu of this commit; `make image-cpu` builds it.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from math import exp, log
from pathlib import Path
from statistics import mean, median

from sdbench.stats.intervals import estimate_ratio
from sdbench.store.bundle import load_record

ROOT = Path(__file__).resolve().parents[2]
SMOKE = ROOT / "manifests" / "smoke.yaml"
TURNS = 8
CONFIDENCE = 0.95
OPTIONS = [f"--set={name}" for name in ("steps=10", "protocol.calls_min=12", "protocol.calls_max=12")]
OPTIONS += ["--set=protocol.launches_min=1", "--set=protocol.launches_max=1"]


def wall_s(command: list[str]) -> float:
    """Return how long (s) a command takes."""
    started_s = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True)
    return time.perf_counter() - started_s


def main() -> None:
    """Print both ratios."""
    native = [sys.executable, "-m", "sdbench"]
    starts = [
        (
            wall_s([*native, "--version"]),
            wall_s(["docker", "run", "--rm", "--network=none", "sdbench:cpu", "--version"]),
        )
        for _ in range(TURNS)
    ]
    print(f"start-up: native {median(a for a, _ in starts):.2f} s, container {median(b for _, b in starts):.2f} s")
    with tempfile.TemporaryDirectory() as folder:
        pairs = [_pair(native, Path(folder) / str(turn), first=turn % 2) for turn in range(TURNS)]
    ratio = estimate_ratio([b for _, b in pairs], [a for a, _ in pairs], CONFIDENCE)
    paired = exp(mean(log(b / a) for a, b in pairs))
    print(f"latency, container / native: {ratio.value:.3f} [{ratio.low:.3f}, {ratio.high:.3f}], paired {paired:.3f}")
    print(json.dumps(pairs))


def _pair(native: list[str], folder: Path, first: int) -> tuple[float, float]:
    """One launch natively and one in a container, in an order that changes from turn to turn."""
    inside, outside = folder / "container", folder / "native"
    runs = [
        [*native, "run", str(SMOKE), "--out", str(outside), "--quiet", *OPTIONS],
        [str(ROOT / "containers" / "bench.sh"), "cpu", str(SMOKE), "--quiet", *OPTIONS],
    ]
    environment = {"OUT": str(inside), "IMAGE": "sdbench:cpu"}
    for command in runs[::-1] if first else runs:
        subprocess.run(command, check=True, capture_output=True, env=os.environ | environment)
    return _latency_s(outside), _latency_s(inside)


def _latency_s(out: Path) -> float:
    (path,) = out.glob("*/record.json")
    outcome = load_record(path).results[0].outcome
    series = [s for launch in getattr(outcome, "launches", ()) for s in launch.series if s.name == "latency"]
    return exp(mean(log(median(item.steady)) for item in series))


if __name__ == "__main__":
    main()
