"""``python tests/benchmarks/run.py``: measure sdbench's own cost and print it next to its bars.

A missed bar is printed, not an error: the results depend on the machine. Run it from the repository's root.
"""

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path

from sdbench.store.cache_folder import cache_folder
from tests.benchmarks.ab_tries import measure_ab
from tests.benchmarks.bars import Bar, format_table
from tests.benchmarks.bisection import measure_bisection
from tests.benchmarks.ceilings import measure_ceilings_again
from tests.benchmarks.commands import measure_commands
from tests.benchmarks.comparison import measure_comparison
from tests.benchmarks.cycles import measure_cycles
from tests.benchmarks.first_minutes import read_first_minutes
from tests.benchmarks.fleet import measure_fleet
from tests.benchmarks.isolation import measure_isolation, measure_rates
from tests.benchmarks.leaks import measure_leaks
from tests.benchmarks.operators import measure_operators
from tests.benchmarks.pipelines import measure_full_width, measure_tiny
from tests.benchmarks.report import measure_report
from tests.benchmarks.runner_kills import measure_runner_kills
from tests.benchmarks.search import measure_search
from tests.benchmarks.share import NAME, find_newest_record, read_share
from tests.benchmarks.store import measure_store
from tests.benchmarks.study_grid import measure_study_grid
from tests.benchmarks.supervisor import measure_supervisor
from tests.benchmarks.telemetry import measure_telemetry
from tests.benchmarks.why import measure_why


def main() -> None:
    """Print the table; progress goes to standard error."""
    parser = argparse.ArgumentParser(description="measure sdbench's own cost")
    parser.add_argument(
        "--record", type=Path, metavar="RUN", help="run of quick.yaml (default: the newest under results/)"
    )
    parser.add_argument("--without-full-size", action="store_true", help="leave out what takes minutes and 14 GiB")
    options = parser.parse_args()
    record = options.record or find_newest_record(Path("results"))
    # The commands come first and torch last: a child's peak memory counts that of the process that forked it.
    parts: dict[str, Callable[[], list[Bar]]] = {
        "light commands": measure_commands,
        "ceilings": measure_ceilings_again,
        "comparison": measure_comparison,
        "the clock or the code": measure_cycles,
        "bisection": measure_bisection,
        "report": measure_report,
        "store": measure_store,
        "fleet": measure_fleet,
        "supervisor": measure_supervisor,
        "telemetry of a GPU": measure_telemetry,
        "measuring loop": _measure_overhead,
        "full-size point": lambda: _share(record),
        "search": measure_search,
        "study's grid": measure_study_grid,
        "launches a minute": measure_rates,
        "fork against spawn": measure_isolation,
        "a slowdown to find": measure_ab,
        "why": measure_why,
        "kills": measure_runner_kills,
        "leaks": measure_leaks,
        "tiny pipelines": measure_tiny,
        "operators": measure_operators,
    }
    if not options.without_full_size:
        parts["full-size UNet"] = _measure_unet
        parts["pipelines at full width"] = measure_full_width
    bars: list[Bar] = []
    for name, measure in parts.items():
        started_s = time.monotonic()
        bars += measure()
        sys.stderr.write(f"measured in {time.monotonic() - started_s:.0f} s: {name}\n")
    sys.stdout.write(format_table(bars) + "\n")


def _measure_unet() -> list[Bar]:
    from tests.benchmarks.onnxruntime_unet import measure_unet

    return measure_unet(cache_folder())


def _measure_overhead() -> list[Bar]:
    from tests.benchmarks.overhead import measure_loop

    return measure_loop()


def _share(record: Path | None) -> list[Bar]:
    if record is None:
        return [Bar(NAME, "no record; run make bench, or name one with --record")]
    return [*read_share(record), *read_first_minutes(record)]


if __name__ == "__main__":
    main()
