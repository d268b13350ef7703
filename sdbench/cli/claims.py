"""``sdbench claims``: the scorecard of what a source claims, on one or more runs."""

import argparse
import json
from collections import Counter
from itertools import groupby

from sdbench.cli.runs import named_runs
from sdbench.compare.claims import Score, join_untested, score_claims, score_own_claims
from sdbench.compare.words import format_expected, format_value
from sdbench.errors import UserError
from sdbench.plan.manifest_file import load_manifest
from sdbench.store.bundle import load_record


def execute(options: argparse.Namespace) -> int:
    """Print a verdict for every claim on every machine, and return 0.

    Raises:
        UserError: there is no run, or neither the runs nor ``--manifest`` bring claims.
    """
    records = [load_record(run) for run in named_runs(options.runs, options.results)]
    if not records:
        raise UserError("no run is named; write run folders or records")
    if options.manifest:
        scores = score_claims(load_manifest(options.manifest).manifest.claims, records)
    else:
        scores = score_own_claims(records)
    if not scores:
        where = options.manifest or "the runs' own manifests"
        raise UserError(f"no claims in {where}; name a manifest that makes some with --manifest")
    if options.json:
        print(json.dumps([score.to_json_dict() for score in scores], indent=1))
    else:
        print_scores(scores)
    return 0


def print_scores(scores: tuple[Score, ...]) -> None:
    """Print the scorecard: each claim with what it expects, and under it a line per machine."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    console = Console(width=None if Console().is_terminal else 140, highlight=False)
    for _, group in groupby(scores, key=lambda score: score.claim.id):
        about = list(group)
        claim = about[0].claim
        console.print(f"[bold]{escape(claim.id)}[/bold]: {escape(claim.text)}")
        console.print(f"  expected {escape(format_expected(claim))} ({escape(claim.source)})")
        table = Table(box=None, pad_edge=False, show_header=False, padding=(0, 2))
        for score in join_untested(about):
            cells = (score.verdict, format_value(score), score.machine, score.why)
            table.add_row(" ", *map(escape, cells))
        console.print(table)
    counts = Counter(score.verdict for score in scores)
    console.print("\n" + ", ".join(f"{count} {verdict}" for verdict, count in counts.items()))
