"""``sdbench report``: one HTML file about one or more runs."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from sdbench.report.prices import NO_PRICES, Prices, make_prices
from sdbench.report.render import write_report
from sdbench.schema.record import Record
from sdbench.store.bundle import load_images, load_record, load_telemetry, record_path, verify_files

_TEXT_ENDINGS = (".md", ".csv")


def execute(options: argparse.Namespace) -> int:
    """Write the report, print its path and return 0."""
    prices = make_prices(options.price, options.prices)
    runs = []
    for run in named_runs(options.runs):
        record = load_record(run)
        folder = record_path(run).parent
        verify_files(folder, record)
        runs.append((record, folder))
    print(write_report_of(runs, options.out, prices))
    return 0


def named_runs(paths: Sequence[Path]) -> list[Path]:
    """Return the paths without the texts that lie beside records, so that ``reports/reference/*`` may be written."""
    runs = [path for path in paths if path.suffix not in _TEXT_ENDINGS or path.is_dir()]
    for path in paths:
        if path not in runs:
            print(f"sdbench: {path} is no record and left out", file=sys.stderr)
    return runs


def write_report_of(runs: Sequence[tuple[Record, Path]], path: Path, prices: Prices = NO_PRICES) -> Path:
    """Write the report of records and the folders they were read from, and return its path.

    Raises:
        UserError: the same run is named twice, or the prices' names fit no machine.
        EnvironmentProblem: the report extra is not installed, or the path is not writable.
    """
    return write_report(
        [record for record, _ in runs],
        path,
        telemetry={record.run_id: load_telemetry(folder) for record, folder in runs},
        images={record.run_id: load_images(folder, record) for record, folder in runs},
        prices=prices,
    )
