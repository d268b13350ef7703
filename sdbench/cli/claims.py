"""``sdbench claims``: the scorecard of what a source claims, on one or more runs."""

import argparse
import json
from collections import Counter
from itertools import groupby
from pathlib import Path

from sdbench.cli.options import add_json_option, add_runs_argument
from sdbench.cli.output import open_console, show
from sdbench.cli.run_folders import named_runs
from sdbench.compare.claims import Score, join_untested, score_claims, score_own_claims
from sdbench.compare.wording import format_expected, format_value
from sdbench.errors import UserError
from sdbench.plan.manifest_file import load_manifest
from sdbench.plan.shipped import find_manifest
from sdbench.store.bundle import load_record
from sdbench.units import printable


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    add_runs_argument(parser)
    parser.add_argument("--manifest", type=Path, help="take the claims from this manifest, not from the runs' own")
    add_json_option(parser)


def execute(options: argparse.Namespace) -> int:
    """Print a verdict for every claim on every machine, and return 0."""
    records = [load_record(run) for run in named_runs(options.runs, options.results)]
    if options.manifest:
        scores = score_claims(load_manifest(find_manifest(options.manifest)).manifest.claims, records)
    else:
        scores = score_own_claims(records)
    if not scores:
        where = options.manifest or "the runs' own manifests"
        raise UserError(f"no claims in {where}; name a manifest that has claims with --manifest")
    if options.json:
        show(json.dumps([score.to_json_dict() for score in scores], indent=1))
    else:
        print_scores(scores)
    return 0


def print_scores(scores: tuple[Score, ...]) -> None:
    """Print the scorecard: each claim with what it expects, and under it a line per machine."""
    from rich.table import Table
    from rich.text import Text

    console = open_console(140)
    for _, group in groupby(scores, key=lambda score: score.claim.id):
        about = list(group)
        claim = about[0].claim
        console.print(Text.assemble((claim.id, "bold"), printable(f": {claim.text}")))
        console.print(printable(f"  expected {format_expected(claim)} ({claim.source})"))
        table = Table(box=None, pad_edge=False, show_header=False, padding=(0, 2))
        for score in join_untested(about):
            table.add_row(" ", *map(printable, (score.verdict, format_value(score), score.machine, score.why)))
        console.print(table)
    counts = Counter(score.verdict for score in scores)
    console.print("\n" + ", ".join(f"{count} {verdict}" for verdict, count in counts.items()))
