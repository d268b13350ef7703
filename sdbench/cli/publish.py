"""``sdbench publish``: what may leave of runs, into a folder or a store."""

import argparse
import os
from pathlib import Path

from sdbench.cli.runs import named_runs
from sdbench.errors import UserError
from sdbench.store.destination import open_destination
from sdbench.store.names import RECORD_NAME
from sdbench.store.publishing import publish_runs

_SIGNED = {None: "", True: ", signed", False: ", its signature kept"}


def execute(options: argparse.Namespace) -> int:
    """Publish the runs, print where each is, and return 0."""
    if (Path(options.destination) / RECORD_NAME).is_file():
        raise UserError(f"{options.destination} is a run's own folder; name another one to publish to")
    destination = open_destination(options.destination)
    runs = named_runs(options.runs, options.results)
    if not runs:
        raise UserError("there is no run to publish; name a run's folder")
    for transfer in publish_runs(runs, destination, os.environ, options.sign):
        fate = transfer.fate + _SIGNED[transfer.is_signed_now]
        print(f"{fate:<13} {transfer.place}")
    return 0
