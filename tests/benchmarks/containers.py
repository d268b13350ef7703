"""What a container costs against the native run, interleaved: start-up, and the latency of the same call.

Needs an engine and the image sdbench:cpu of this commit; `make image-cpu` builds it.
"""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

from sdbench.schema.outcome import launches_of
from sdbench.stats.ratios import paired_ratio
from sdbench.store.bundle import load_record

ROOT = Path(__file__).resolve().parents[2]
SMOKE = ROOT / "manifests" / "smoke.yaml"
PAIRS = 12
# The first turn reads the image's files for the first time.
WARMUP_PAIRS = 1
CONFIDENCE = 0.95
OPTIONS = [f"--set={name}" for name in ("precision=fp32", "steps=10", "protocol.calls_min=12", "protocol.calls_max=12")]
OPTIONS += ["--only=smoke", "--set=protocol.launches_min=1", "--set=protocol.launches_max=1"]


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
        for _ in range(PAIRS)
    ]
    print(f"start-up: native {median(a for a, _ in starts):.2f} s, container {median(b for _, b in starts):.2f} s")
    with tempfile.TemporaryDirectory() as folder:
        positions = range(WARMUP_PAIRS + PAIRS)
        pairs = [_pair(native, Path(folder) / str(position), first=position % 2) for position in positions][
            WARMUP_PAIRS:
        ]
    for name, choose in (("median call", median), ("best call, the one least disturbed by others", min)):
        outside, inside = ([choose(pair[place]) for pair in pairs] for place in (0, 1))
        ratio = paired_ratio(inside, outside)
        if ratio is None:
            raise RuntimeError("a ratio needs two pairs")
        low, high = ratio.interval(CONFIDENCE)
        print(f"latency, container / native, {name}: {ratio.value:.4f} [{low:.4f}, {high:.4f}], {PAIRS} pairs")


def _pair(native: list[str], folder: Path, first: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """The latencies (s) of one launch natively and of one in a container, in an order that changes turn by turn."""
    inside, outside = folder / "container", folder / "native"
    runs = [
        [*native, "run", str(SMOKE), "--out", str(outside), "--quiet", *OPTIONS],
        [str(ROOT / "containers" / "bench.sh"), "cpu", str(SMOKE), "--quiet", *OPTIONS],
    ]
    environment = {"OUT": str(inside), "IMAGE": "sdbench:cpu"}
    for command in runs[::-1] if first else runs:
        subprocess.run(command, check=True, capture_output=True, env=os.environ | environment)
    return _latencies_s(outside), _latencies_s(inside)


def _latencies_s(out: Path) -> tuple[float, ...]:
    (path,) = out.glob("*/record.json")
    (launch,) = launches_of(load_record(path).results[0].outcome)
    latency = launch.find_series("latency")
    if latency is None:
        raise RuntimeError(f"{path}: no latency was measured")
    return latency.steady


if __name__ == "__main__":
    main()
