"""``sdbench report``: one HTML file about one or more runs."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from sdbench.cli.runs import named_runs, refuse_to_replace
from sdbench.report.prices import NO_PRICES, Prices, make_prices
from sdbench.report.render import write_report
from sdbench.schema.record import Record
from sdbench.store.bundle import load_images, load_record, load_telemetry, record_path, verify_files


def execute(options: argparse.Namespace) -> int:
    """Write the report, print its path and return 0."""
    refuse_to_replace(options.out, (".html", ".htm"))
    prices = make_prices(options.price, options.prices)
    runs = []
    for run in named_runs(options.runs):
        record = load_record(run)
        folder = record_path(run).parent
        verify_files(folder, record)
        runs.append((record, folder))
    print(write_report_of(runs, options.out, prices))
    return 0


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
