"""What telemetry of a GPU costs where NVML takes 0.2 ms of CPU a call: ``python -m tests.benchmarks.telemetry``."""

import subprocess
import sys
import time
from typing import Any
from unittest.mock import patch

from sdbench.probes import gpu
from sdbench.probes.nvml import Nvml
from sdbench.probes.telemetry import open_telemetry
from sdbench.runner.process import TICK_S
from tests.benchmarks.bars import Bar
from tests.probes.replay import GPU_DEVICE, replay_nvml

LIMIT = 0.01
CALL_S = 0.0002
# nvidia-ml-py asks NVML for the length of a list first.
_ASKED_TWICE = ("Processes", "ProcessUtilization")
_SAMPLES = 300


def measure_telemetry() -> list[Bar]:
    """Return the CPU time of telemetry at its rate, waking up included, as a share of one core."""
    library = replay_nvml("healthy")
    calls = 0

    def call(function: str, *arguments: Any) -> Any:
        nonlocal calls
        count = 2 if function.endswith(_ASKED_TWICE) else 1
        calls += count
        until_s = time.thread_time() + CALL_S * count
        while time.thread_time() < until_s:
            pass
        assert library._call is not None
        return library._call(function, *arguments)

    worker = subprocess.Popen(["sleep", "1000"])
    try:
        with patch.object(gpu, "is_host_pid_namespace", lambda _root: True):
            telemetry = open_telemetry(GPU_DEVICE, worker.pid, nvml=Nvml(call))
            telemetry.start_stage("measure")
            calls, cpu_s, start_s = 0, time.process_time(), time.monotonic()
            for number in range(1, _SAMPLES + 1):
                time.sleep(max(0.0, start_s + number * TICK_S - time.monotonic()))
                telemetry.sample()
            cpu_s, wall_s = time.process_time() - cpu_s, time.monotonic() - start_s
            telemetry.close()
    finally:
        worker.kill()
        worker.wait()
    columns = [series.name for series in telemetry.series() if series.name.startswith("gpu_")]
    share = cpu_s / wall_s
    name = f"telemetry with {len(columns)} columns of a GPU, {CALL_S * 1e3:.1f} ms a call"
    measured = f"{share:.2%} of a core ({calls / wall_s:.0f} calls a second)"
    return [Bar(name, measured, f"at most {LIMIT:.0%}", share <= LIMIT)]


if __name__ == "__main__":
    for bar in measure_telemetry():
        sys.stdout.write(f"{bar.name}: {bar.measured} ({bar.bar})\n")
