"""``sdbench pull``: published runs into folders of this machine."""

import argparse
import sys

from sdbench import exit_codes
from sdbench.cli.conditions import parse_conditions
from sdbench.errors import UserError
from sdbench.store.destination import open_destination
from sdbench.store.facts import facts_of, read_partial
from sdbench.store.names import RECORD_NAME
from sdbench.store.publishing import pull_runs
from sdbench.units import printable


def execute(options: argparse.Namespace) -> int:
    """Pull what is wanted, print each new run's folder, and return 0, or 2 if a run was refused."""
    wanted = parse_conditions(options.where)
    if options.signed and options.signers is None:
        raise UserError("--signed asks for a signature, but not whose; add --signers FILE")
    counts = {"new": 0, "already there": 0, "filtered out": 0, "refused": 0}
    transfers = pull_runs(
        open_destination(options.source),
        options.out,
        lambda bundle: wanted(facts_of(read_partial(bundle.files[RECORD_NAME], bundle.record.run_id))),
        options.signers,
        signed_only=options.signed,
    )
    for transfer in transfers:
        counts[transfer.fate] += 1
        if transfer.fate == "new":
            print(transfer.place)
        if transfer.problem is not None:
            print(f"sdbench: {' '.join(printable(str(transfer.problem)).split())}", file=sys.stderr)
    print(", ".join(f"{count} {fate}" for fate, count in counts.items()), file=sys.stderr)
    return exit_codes.USER_ERROR if counts["refused"] else 0
