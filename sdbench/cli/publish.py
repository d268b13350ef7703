"""``sdbench publish``: redacted runs to a folder or bucket, for others."""

import argparse
import os
import sys
from pathlib import Path

from sdbench.cli.options import RUNS_HELP, add_runs_argument
from sdbench.cli.output import show, show_progress
from sdbench.cli.run_folders import named_runs
from sdbench.errors import UserError
from sdbench.publish.bundle import export_bundle
from sdbench.publish.transfer import open_destination, publish_runs
from sdbench.store.layout import RECORD_NAME
from sdbench.units import format_bytes

_SIGNED = {None: "", True: ", signed", False: ", its signature kept"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    add_runs_argument(parser, RUNS_HELP)
    parser.add_argument("destination", metavar="DEST", help="a folder, or s3://BUCKET/FOLDER, gs://..., az://...")
    parser.add_argument("--sign", type=Path, metavar="KEY", help="sign with this SSH key")
    parser.add_argument("--dry-run", action="store_true", help="show what would be published or redacted; send nothing")


def execute(options: argparse.Namespace) -> int:
    """Publish the runs, print where each is, and return 0."""
    if (Path(options.destination) / RECORD_NAME).is_file():
        raise UserError(f"{options.destination} is the folder of a run; name another destination")
    runs = named_runs(options.runs, options.results)
    if not runs:
        raise UserError("there is no run to publish; name the folder of a run")
    if options.dry_run:
        for path in runs:
            _print_bundle(path)
        if sys.stdout.isatty():
            show_progress("to see a record as it would be published, name one run and add: > record.json")
        return 0
    for transfer in publish_runs(runs, open_destination(options.destination), os.environ, options.sign):
        fate = transfer.fate + _SIGNED[transfer.is_signed_now]
        show(f"{fate:<15} {transfer.place}")
    return 0


def _print_bundle(path: Path) -> None:
    bundle = export_bundle(path, os.environ)
    if not sys.stdout.isatty():
        # Byte for byte what would be published.
        sys.stdout.write(bundle.files[RECORD_NAME].decode())
    show_progress(f"bundle {bundle.sha256}, {format_bytes(len(bundle.archive))}")
    for name, file in sorted(bundle.files.items()):
        show_progress(f"  published  {name}, {format_bytes(len(file))}")
    for name in bundle.record.publication.redacted if bundle.record.publication else ():
        show_progress(f"  redacted   {name}")
