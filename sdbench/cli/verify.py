"""``sdbench verify``: what is proven of a run, and what is not."""

import argparse
import json
from collections.abc import Sequence
from itertools import chain
from pathlib import Path

from sdbench import exit_codes
from sdbench.cli.options import add_signature_options
from sdbench.cli.output import complain, show
from sdbench.cli.run_folders import named_runs
from sdbench.errors import UserError
from sdbench.publish.transfer import bundles_in
from sdbench.store.layout import RECORD_NAME
from sdbench.verification.statement import make_statement
from sdbench.verification.verify import Verification, verify

_SIGNS = {"proven": "✓", "not proven": "?", "contradicted": "✗"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    parser.add_argument(
        "runs", nargs="+", metavar="RUN|FILE|URL", help="a run, a bundle, a folder, or the URL of a bundle"
    )
    parser.add_argument("--image", metavar="sha256:...", help="the image that it must have run in")
    parser.add_argument("--format", choices=("text", "json", "in-toto"), default="text", help="default: %(default)s")
    add_signature_options(parser)


def execute(options: argparse.Namespace) -> int:
    """Verify the runs, print the checks, and return 0 or 2."""
    if options.signed and options.signers is None:
        raise UserError("--signed requires trusted signers; add --signers FILE")
    valid = True
    verifications = []
    for place in _expand(options.runs):
        try:
            verification = verify(place, options.signers, signed_only=options.signed, image_digest=options.image)
        except UserError as error:
            complain(error)
            valid = False
            continue
        verifications.append(verification)
        valid = valid and verification.is_valid
        if options.format == "text":
            _print(verification)
    if options.format == "json":
        show(json.dumps([item.to_json_dict() for item in verifications], indent=1))
    if options.format == "in-toto":
        # One statement a line, as bundles of attestations are kept.
        for item in verifications:
            show(json.dumps(make_statement(item.record, item)))
    return 0 if valid else exit_codes.USER_ERROR


def _expand(places: Sequence[str]) -> list[str]:
    """The runs and bundles that paths mean, and the URLs as they are: a folder means all that it holds."""
    urls = [place for place in places if "://" in place]
    paths = [Path(place) for place in places if "://" not in place]
    published = {path: bundles_in(path) for path in paths}
    runs = [path for path, bundles in published.items() if not bundles or any(path.glob(f"*/{RECORD_NAME}"))]
    return [*urls, *map(str, chain(*published.values())), *map(str, named_runs(runs) if runs else ())]


def _print(verification: Verification) -> None:
    show(f"{verification.name}: run {verification.record.run_id}")
    for name, (verdict, text) in verification.checks.items():
        show(f"  {_SIGNS[verdict]} {verdict:<12} {name}: {text}")
    show(f"  {'nothing contradicts it' if verification.is_valid else 'do not trust it: see what is contradicted'}")
