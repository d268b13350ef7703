"""``sdbench report``: one HTML file about one or more runs."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from sdbench.cli.answers import print_answers
from sdbench.cli.runs import named_runs, refuse_to_replace
from sdbench.errors import UserError
from sdbench.report.figures import write_figures
from sdbench.report.markdown import format_markdown
from sdbench.report.model import ReportView
from sdbench.report.prices import NO_PRICES, Prices, make_prices
from sdbench.report.render import write_view
from sdbench.report.view import build_view
from sdbench.schema.record import Record
from sdbench.store.bundle import load_images, load_record, load_telemetry, record_path, verify_files
from sdbench.store.files import write_whole

_DEFAULT_OUT = Path("report.html")


def execute(options: argparse.Namespace) -> int:
    """Write the report, print its path and return 0."""
    out = options.out or _DEFAULT_OUT
    if options.format == "html":
        refuse_to_replace(out, (".html", ".htm"))
    elif options.out is not None:
        if options.format == "text":
            raise UserError("--format text prints on the terminal and takes no --out; use --format markdown")
        refuse_to_replace(out, (".md",))
    prices = make_prices(options.price, options.prices)
    runs = []
    for run in named_runs(options.runs, options.results):
        record = load_record(run)
        folder = record_path(run).parent
        verify_files(folder, record)
        runs.append((record, folder))
    view = view_of(runs, prices)
    if options.figures is not None:
        for path in write_figures(view, options.figures):
            # The answers have standard output for themselves.
            print(path, file=sys.stdout if options.format == "html" else sys.stderr)
    if options.format == "markdown" and options.out is not None:
        write_whole(out, format_markdown(view).encode())
        print(out)
    elif options.format == "markdown":
        print(format_markdown(view), end="")
    elif options.format == "text":
        print_answers(view)
    else:
        print(write_view(view, out))
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
