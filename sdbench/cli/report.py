"""``sdbench report``: one HTML file about one or more runs."""

import argparse

from sdbench.report.render import write_report
from sdbench.store.bundle import load_record, record_path, verify_files


def execute(options: argparse.Namespace) -> int:
    """Write the report, print its path and return 0."""
    folders = []
    for run in options.runs:
        record = load_record(run)
        folder = record_path(run).parent
        verify_files(folder, record)
        folders.append((record, folder))
    print(write_report(folders, options.out))
    return 0
