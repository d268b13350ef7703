"""``sdbench site``: many runs as a static site to publish."""

import argparse

from sdbench.cli.runs import named_runs
from sdbench.report.site import write_site
from sdbench.store.bundle import load_images, load_record, load_telemetry, record_path, verify_files


def execute(options: argparse.Namespace) -> int:
    """Write the site, print its index and return 0."""
    runs = []
    for run in named_runs(options.runs, options.results):
        record = load_record(run)
        folder = record_path(run).parent
        verify_files(folder, record)
        runs.append((record, folder))
    index = write_site(
        [record for record, _ in runs],
        options.out,
        {record.run_id: load_telemetry(folder) for record, folder in runs},
        {record.run_id: load_images(folder, record) for record, folder in runs},
    )
    print(index)
    return 0
