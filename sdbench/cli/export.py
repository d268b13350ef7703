"""``sdbench export``: records as a CSV file of the 2022 study's tool."""

import argparse
import sys
from pathlib import Path

from sdbench.cli.runs import named_runs, refuse_to_replace
from sdbench.store.bundle import load_record
from sdbench.store.exports import export_rows
from sdbench.store.files import write_whole
from sdbench.store.lambda_csv import write_lambda_csv

STANDARD_OUTPUT = Path("-")


def execute(options: argparse.Namespace) -> int:
    """Write the rows of the records, say how many results were left out, and return 0."""
    refuse_to_replace(options.out, (".csv",))
    records = [load_record(run) for run in named_runs(options.runs, options.results)]
    export = export_rows([(record, record.device_name) for record in records], options.dialect, options.steps)
    text = write_lambda_csv(export.rows, options.dialect)
    if options.out == STANDARD_OUTPUT:
        print(text, end="")
    else:
        write_whole(options.out, text.encode())
    if export.left_out_count:
        print(
            f"sdbench: {export.left_out_count} results left out: without a figure, of other steps, or nothing that "
            f"the dialect {options.dialect!r} can express",
            file=sys.stderr,
        )
    return 0
