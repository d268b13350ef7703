"""``sdbench site``: many runs as a static site to publish."""

import argparse
from pathlib import Path

from sdbench import exit_codes
from sdbench.cli.options import RUNS_HELP, add_runs_argument
from sdbench.cli.output import complain, show
from sdbench.cli.run_folders import named_runs
from sdbench.errors import RecordError
from sdbench.report.site import write_site
from sdbench.store.run import load_run


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    add_runs_argument(parser, RUNS_HELP)
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="where the site goes")


def execute(options: argparse.Namespace) -> int:
    """Write the site of the runs that are valid, print its index, and return 0, or 2 if a run was skipped."""
    runs, code = [], exit_codes.OK
    for path in named_runs(options.runs, options.results):
        try:
            run = load_run(path)
            # Read here, so that damaged telemetry costs its own run only.
            _ = run.telemetry, run.images
            runs.append(run)
        except RecordError as error:
            complain(f"skipped: {error}")
            code = exit_codes.USER_ERROR
    show(write_site(runs, options.out))
    return code
