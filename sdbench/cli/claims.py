"""``sdbench claims``: the scorecard of what a source claims, on one or more runs."""

import argparse
import json

from sdbench.compare.claims import Score, claims_of, score_claims
from sdbench.compare.words import format_expected, format_value
from sdbench.errors import UserError
from sdbench.plan.manifest_file import load_manifest
from sdbench.store.bundle import load_record


def execute(options: argparse.Namespace) -> int:
    """Print a verdict for every claim on every machine, and return 0.

    Raises:
        UserError: neither the runs nor ``--manifest`` bring claims.
    """
    records = [load_record(run) for run in options.runs]
    claims = load_manifest(options.manifest).manifest.claims if options.manifest else claims_of(records)
    if not claims:
        raise UserError("these runs' manifests make no claims; name a manifest that does with --manifest")
    scores = score_claims(claims, records)
    if options.json:
        print(json.dumps([score.to_json_dict() for score in scores], indent=1))
    else:
        print_scores(scores)
    return 0


def print_scores(scores: tuple[Score, ...]) -> None:
    """Print the scorecard, one row per claim and machine."""
    from rich.console import Console
    from rich.table import Table

    console = Console(width=None if Console().is_terminal else 160, highlight=False)
    table = Table(box=None, pad_edge=False)
    for name in ("claim", "machine", "verdict", "measured", "expected", "why"):
        table.add_column(name, overflow="fold")
    for score in scores:
        expected = format_expected(score.claim)
        row = (score.claim.id, score.machine, score.verdict, format_value(score), expected, score.why)
        table.add_row(*(text.replace("[", "\\[") for text in row))
    console.print(table)
