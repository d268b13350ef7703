"""What the light commands cost: CPU time, peak memory, and whether they import torch."""

import os
import subprocess
import sys
import tempfile
from statistics import median

from tests.benchmarks.bars import Bar, at_most

RUNS = 5
MIB = 2**20
# command, most CPU time (s), most memory (MiB; None: no bar)
COMMANDS: tuple[tuple[tuple[str, ...], float, float | None], ...] = (
    (("--help",), 0.25, 60.0),
    (("validate", "manifests/quick.yaml"), 0.5, None),
    (("plan", "manifests/quick.yaml"), 0.5, None),
)


def measure_commands() -> list[Bar]:
    """Return the cost of each light command.

    The kernel counts into a child's peak the memory of the process that forked it, so this is to be called before
    anything heavy is imported.
    """
    bars = []
    for arguments, cpu_limit_s, memory_limit_mib in COMMANDS:
        name = "sdbench " + " ".join(arguments)
        costs = [run_once(arguments) for _ in range(RUNS)]
        cpu_s = median(cost[0] for cost in costs)
        memory_mib = median(cost[1] for cost in costs) / MIB
        bars.append(at_most(f"{name}: CPU time", cpu_s, cpu_limit_s, "s"))
        if memory_limit_mib is not None:
            bars.append(at_most(f"{name}: peak memory", memory_mib, memory_limit_mib, "MiB"))
        heavy = imports_torch(arguments)
        bars.append(Bar(f"{name}: imports torch", "yes" if heavy else "no", "no", not heavy))
    return bars


def run_once(arguments: tuple[str, ...]) -> tuple[float, int]:
    """Return the CPU time (s) and the peak resident memory (bytes) of one command."""
    with tempfile.TemporaryFile() as output:
        process = subprocess.Popen([sys.executable, "-m", "sdbench", *arguments], stdout=output, stderr=output)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        output.seek(0)
        if process.returncode != 0:
            raise RuntimeError(f"sdbench {arguments} ended with {process.returncode}: {output.read().decode()[-500:]}")
    return usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024


def imports_torch(arguments: tuple[str, ...]) -> bool:
    """Return whether a command imports torch, by Python's own list of imports."""
    command = [sys.executable, "-X", "importtime", "-m", "sdbench", *arguments]
    listed = subprocess.run(command, capture_output=True, text=True, check=True).stderr
    modules = {line.rpartition("|")[2].strip() for line in listed.splitlines() if line.startswith("import time:")}
    if "sdbench.cli.main" not in modules:
        raise RuntimeError("python -X importtime does not list sdbench's own modules: its format has changed")
    return "torch" in modules
