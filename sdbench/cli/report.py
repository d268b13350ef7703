"""``sdbench report``: one HTML file about one or more runs."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from sdbench.cli.runs import named_runs, refuse_to_replace
from sdbench.report.figures import write_figures
from sdbench.report.markdown import format_markdown
from sdbench.report.model import ReportView
from sdbench.report.prices import NO_PRICES, Prices, make_prices
from sdbench.report.render import write_view
from sdbench.report.view import build_view
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
    view = view_of(runs, prices)
    if options.figures is not None:
        for path in write_figures(view, options.figures):
            # Markdown has standard output for itself.
            print(path, file=sys.stderr if options.format == "markdown" else sys.stdout)
    if options.format == "markdown":
        print(format_markdown(view), end="")
    else:
        print(write_view(view, options.out))
    return 0


def view_of(runs: Sequence[tuple[Record, Path]], prices: Prices = NO_PRICES) -> ReportView:
    """Return the view of records and the folders they were read from.

    Raises:
        UserError: the same run is named twice, or the prices' names fit no machine.
    """
    return build_view(
        [record for record, _ in runs],
        {record.run_id: load_telemetry(folder) for record, folder in runs},
        {record.run_id: load_images(folder, record) for record, folder in runs},
        prices,
    )


def write_report_of(runs: Sequence[tuple[Record, Path]], path: Path, prices: Prices = NO_PRICES) -> Path:
    """Write the report of records and the folders they were read from, and return its path.

    Raises:
        UserError: the same run is named twice, or the prices' names fit no machine.
        EnvironmentProblem: the report extra is not installed, or the path is not writable.
    """
    return write_view(view_of(runs, prices), path)
