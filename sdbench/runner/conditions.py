"""What a run's reader should know of the conditions it started under."""

from sdbench.schema.base import Known
from sdbench.schema.fingerprint import Fingerprint
from sdbench.schema.outcome import Notice

# A twentieth of the machine kept busy by others shares caches, memory and boost with the worker.
BUSY_RATIO = 0.05


def notice_conditions(fingerprint: Fingerprint) -> tuple[Notice, ...]:
    """Return one notice for each condition that makes the figures harder to repeat or to trust."""
    notices = []
    load = fingerprint.state.load_average_1min
    cpus = fingerprint.configuration.affinity_cpu_count
    if isinstance(load, Known) and isinstance(cpus, Known) and load.value > BUSY_RATIO * cpus.value:
        notices.append(
            Notice(
                code="busy-before",
                message=f"the load average was {load.value:.2f} on {cpus.value} CPUs when the run started",
                remedy="stop other programs, wait a minute, and run again",
            )
        )
    dirty = fingerprint.software.sdbench_dirty
    if isinstance(dirty, Known) and dirty.value:
        notices.append(
            Notice(
                code="dirty-checkout",
                message="sdbench was run from a checkout with uncommitted changes: its commit does not say what ran",
                remedy="commit the changes before measuring for others",
            )
        )
    foreign = fingerprint.state.foreign_gpu_process_count
    if isinstance(foreign, Known) and foreign.value:
        notices.append(
            Notice(
                code="foreign-gpu-processes",
                message=f"{foreign.value} other processes used the GPU when the run started",
                remedy="stop them and run again",
            )
        )
    return tuple(notices)
