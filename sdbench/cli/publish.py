"""``sdbench publish``: what may leave of runs, into a folder or a store."""

import argparse
import os

from sdbench.cli.runs import named_runs
from sdbench.errors import UserError
from sdbench.store.destination import open_destination
from sdbench.store.publishing import publish_runs


def execute(options: argparse.Namespace) -> int:
    """Publish the runs, print where each is, and return 0."""
    destination = open_destination(options.destination)
    runs = named_runs(options.runs, options.results)
    if not runs:
        raise UserError("there is no run to publish; name a run's folder")
    for transfer in publish_runs(runs, destination, os.environ, options.sign):
        print(f"{transfer.fate:<13} {transfer.place}")
    return 0
