"""How well what the machine reaches repeats, in processes of their own: ``python -m tests.benchmarks.ceilings``."""

import os
import sys
from statistics import median

from sdbench.compare.machine_ceilings import REPEATED_MAX, rates_of
from sdbench.probes.devices import choose_device
from sdbench.runner.ceilings import measure_device
from sdbench.schema.base import Known
from sdbench.schema.ceilings import CeilingPrecision, Ceilings
from tests.benchmarks.bars import Bar

REPEATS = 8
# The bar is of a quiet machine: above this share of its CPUs the load average decides nothing.
_LOAD_MAX_RATIO = 0.7


def measure_ceilings_again() -> list[Bar]:
    """Return how far each ceiling of a repeat is from the median, at most, and how long measuring took."""
    device = choose_device("auto")
    precisions: tuple[CeilingPrecision, ...] = ("fp32", "bf16")
    load_ratio = os.getloadavg()[0] / (os.cpu_count() or 1)
    repeats: list[Ceilings] = []
    for _ in range(REPEATS):
        reading = measure_device(device, precisions, lambda _holder: None).reading
        if isinstance(reading, Known):
            repeats.append(reading.value)
    if len(repeats) < REPEATS:
        return [Bar("ceilings, repeated", f"{len(repeats)} of {REPEATS} could be measured", "all", met=False)]
    load_ratio = max(load_ratio, os.getloadavg()[0] / (os.cpu_count() or 1) - 1)
    return [_spread(name, repeats, quiet=load_ratio <= _LOAD_MAX_RATIO) for name in rates_of(repeats[0])]


def _spread(name: str, repeats: list[Ceilings], *, quiet: bool) -> Bar:
    rates = [rates_of(ceilings)[name] for ceilings in repeats]
    usual = median(rates)
    worst = max(abs(rate / usual - 1) for rate in rates)
    measured = f"{worst:.1%} off the median at most, {len(rates)} processes"
    is_met = worst <= REPEATED_MAX
    return Bar(f"ceiling repeated: {name}", measured, f"within {REPEATED_MAX:.0%}", is_met if is_met or quiet else None)


def main() -> None:
    """Print the bars."""
    for bar in measure_ceilings_again():
        sys.stdout.write(f"{bar.name}: {bar.measured} ({bar.bar}: {bar.met})\n")


if __name__ == "__main__":
    main()
