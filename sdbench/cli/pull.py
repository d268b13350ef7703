"""``sdbench pull``: published runs into folders of this machine."""

import argparse
import shlex

from sdbench import exit_codes
from sdbench.cli.filters import parse_conditions
from sdbench.cli.options import add_out_option, add_signature_options, add_where_option
from sdbench.cli.output import complain, show, show_progress
from sdbench.errors import UserError
from sdbench.publish.transfer import open_destination, pull_runs


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    parser.add_argument("source", metavar="SRC", help="a folder, s3://BUCKET/FOLDER, gs://..., az://... or https://...")
    add_where_option(parser)
    add_out_option(parser)
    add_signature_options(parser)


def execute(options: argparse.Namespace) -> int:
    """Pull what is wanted, print each new run's folder, and return 0, or 2 if a run was refused."""
    wanted = parse_conditions(options.where)
    if options.signed and options.signers is None:
        raise UserError("--signed requires trusted signers; add --signers FILE")
    pulled: list[str] = []
    counts = {"new": 0, "already present": 0, "filtered out": 0, "refused": 0}
    transfers = pull_runs(
        open_destination(options.source),
        options.out,
        lambda bundle: wanted(bundle.record),
        options.signers,
        signed_only=options.signed,
    )
    for transfer in transfers:
        counts[transfer.fate] += 1
        if transfer.fate == "new":
            show(transfer.place)
            pulled.append(transfer.place)
        if transfer.problem is not None:
            complain(transfer.problem)
    show_progress(", ".join(f"{count} {fate}" for fate, count in counts.items()))
    if pulled:
        # One run, or all that are there now.
        show_progress(f"next: sdbench report {shlex.quote(pulled[0] if len(pulled) == 1 else str(options.out))}")
    return exit_codes.USER_ERROR if counts["refused"] else 0
