"""What comparing costs: two runs of 1,000 experiments, and a trend over 200 runs."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from sdbench.schema.base import Known
from sdbench.schema.outcome import Succeeded
from sdbench.schema.record import Record
from sdbench.store.bundle import encode_record
from tests.benchmarks.bars import Bar, at_most
from tests.fingerprints import make_fingerprint
from tests.records import make_launch, make_record, make_result

EXPERIMENTS = 1_000
LAUNCHES = 8
RUNS = 200
COMPARE_S, COMPARE_MB, TREND_S = 3.0, 300.0, 5.0


def measure_comparison() -> list[Bar]:
    """Return the wall time and peak memory of ``compare``, and the wall time of ``trend``."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        # In another process: the peak memory of a child counts that of the process that started it.
        subprocess.run([sys.executable, "-m", "tests.benchmarks.comparison", name], check=True)
        compare_s, compare_bytes = _cost("compare", str(folder / "run-0"), str(folder / "run-1"), "--fail-on", "")
        trend_s, _ = _cost("trend", str(folder / "runs"), "--by", "driver")
    return [
        at_most(f"compare, {EXPERIMENTS:,} experiments: time", compare_s, COMPARE_S, "s"),
        at_most(f"compare, {EXPERIMENTS:,} experiments: peak memory", compare_bytes / 1e6, COMPARE_MB, "MB"),
        at_most(f"trend, {RUNS} runs: time", trend_s, TREND_S, "s"),
    ]


def _record(number: int, experiments: int) -> Record:
    def launches(seed: int) -> tuple[Any, ...]:
        paces = (1 + 0.01 * ((index * 7 + seed + number) % 8) / 8 for index in range(LAUNCHES))
        return tuple(make_launch(index, pace) for index, pace in enumerate(paces))

    results = tuple(
        make_result(Succeeded(launches=launches(seed), stop_reason="budget"), seed=seed) for seed in range(experiments)
    )
    fingerprint = make_fingerprint("cuda:0")
    driver = Known(value=f"{500 + number // 10}.{number % 10}")
    software = fingerprint.software.model_copy(update={"gpu_kernel_driver": driver})
    return make_record(
        run_id=f"run-{number}",
        device="cuda:0",
        results=results,
        fingerprint=fingerprint.model_copy(update={"software": software}),
    )


def _write(folder: Path, record: Record) -> None:
    folder.mkdir(parents=True)
    (folder / "record.json").write_bytes(encode_record(record.to_json_dict()))


def _write_all(folder: Path) -> None:
    for number in range(2):
        _write(folder / f"run-{number}", _record(number, EXPERIMENTS))
    for number in range(RUNS):
        _write(folder / "runs" / f"{number:03d}", _record(number, 1))


def _cost(*arguments: str) -> tuple[float, int]:
    """Return the wall time (s) and the peak resident memory (bytes) of a command."""
    with tempfile.TemporaryFile() as output:
        started_s = os.times().elapsed
        process = subprocess.Popen([sys.executable, "-m", "sdbench", *arguments], stdout=output, stderr=output)
        _, status, usage = os.wait4(process.pid, 0)
        wall_s = os.times().elapsed - started_s
        process.returncode = os.waitstatus_to_exitcode(status)
        output.seek(0)
        if process.returncode != 0:
            raise RuntimeError(f"sdbench {arguments} ended with {process.returncode}: {output.read().decode()[-500:]}")
    return wall_s, usage.ru_maxrss * 1024


if __name__ == "__main__":
    _write_all(Path(sys.argv[1]))
