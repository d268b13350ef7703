"""``sdbench verify``: what is proven of a run, and what is not."""

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from sdbench import exit_codes
from sdbench.cli.runs import is_left_out
from sdbench.errors import UserError
from sdbench.store.bundle import find_runs
from sdbench.units import printable
from sdbench.verification.findings import Verification
from sdbench.verification.statement import make_statement
from sdbench.verification.verify import Policy, verify

_SIGNS = {"proven": "✓", "not proven": "?", "contradicted": "✗"}


def execute(options: argparse.Namespace) -> int:
    """Verify the runs, print the findings, and return 0 or 2."""
    policy = Policy(options.signers, options.signed, options.image)
    if options.signed and options.signers is None:
        raise UserError("--signed asks for a signature, but not whose; add --signers FILE")
    sound = True
    found = []
    for place in _expand(options.runs):
        try:
            verification = verify(place, policy)
        except UserError as error:
            print(f"sdbench: {' '.join(printable(str(error)).split())}", file=sys.stderr)
            sound = False
            continue
        found.append(verification)
        sound = sound and verification.is_sound
        if options.format == "text":
            _print(verification)
    if options.format == "json":
        print(json.dumps([item.to_json_dict() for item in found], indent=1))
    if options.format == "in-toto":
        # One statement a line, as bundles of attestations are kept.
        for item in found:
            print(json.dumps(make_statement(item.record, item)))
    return 0 if sound else exit_codes.USER_ERROR


def _expand(places: Sequence[str]) -> Iterator[str]:
    """Yield what is named, and of folders of runs each run."""
    for place in places:
        if "://" in place:
            yield place
        elif not is_left_out(Path(place)):
            yield from map(str, find_runs(Path(place)))


def _print(verification: Verification) -> None:
    print(printable(f"{verification.name}: run {verification.record.run_id}"))
    for finding in verification.findings:
        print(printable(f"  {_SIGNS[finding.verdict]} {finding.verdict:<12} {finding.name}: {finding.text}"))
    words = "nothing contradicts it" if verification.is_sound else "do not trust it: see what is contradicted"
    print(f"  {words}")
