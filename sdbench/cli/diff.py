"""``sdbench diff``: what differs between the machines, configurations, software and states of two runs."""

import argparse
import json
from pathlib import Path

from sdbench.cli.options import add_json_option
from sdbench.cli.output import show
from sdbench.compare.differences import PARTS, Difference, compare_fingerprints
from sdbench.store.bundle import load_record
from sdbench.units import printable


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    for name in ("baseline", "candidate"):
        parser.add_argument(name, type=Path, metavar="RUN")
    add_json_option(parser)


def execute(options: argparse.Namespace) -> int:
    """Print every field that differs, part by part, the likeliest reason for a change first."""
    baseline, candidate = (load_record(path).fingerprint for path in (options.baseline, options.candidate))
    diff = compare_fingerprints(baseline, candidate)
    if options.json:
        content = {
            "attribution": diff.attribution,
            "unknown_on_both": diff.unknown_count,
            "differences": [item.to_json_dict() for item in diff.differences],
        }
        show(json.dumps(content))
        return 0
    show(printable(diff.attribution))
    for part in PARTS:
        differing = [item for item in diff.differences if item.part == part]
        if differing:
            show(f"\n{part}")
        for item in differing:
            show(f"  {item.field.partition('.')[2]}: {_show(item, item.baseline)} / {_show(item, item.candidate)}")
    return 0


def _show(item: Difference, value: str | None) -> str:
    return f"unknown ({item.why})" if value is None else value
