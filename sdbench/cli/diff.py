"""``sdbench diff``: what differs between the machines, set-ups, software and states of two runs."""

import argparse
import json

from sdbench.compare.differences import PARTS, Difference, attribute, count_unknown_on_both, find_differences
from sdbench.store.bundle import load_record
from sdbench.units import printable


def execute(options: argparse.Namespace) -> int:
    """Print every field that differs, part by part, the likeliest reason for a change first."""
    baseline, candidate = (load_record(path).fingerprint for path in (options.baseline, options.candidate))
    differences = find_differences(baseline, candidate)
    unknown_count = count_unknown_on_both(baseline, candidate)
    words = attribute(differences, unknown_count)
    if options.json:
        print(
            json.dumps(
                {
                    "attribution": words,
                    "unknown_on_both": unknown_count,
                    "differences": [item.to_json_dict() for item in differences],
                }
            )
        )
        return 0
    print(printable(words))
    for part in PARTS:
        found = [item for item in differences if item.part == part]
        if found:
            print(f"\n{part}")
        for item in found:
            sides = f"{_show(item, item.baseline)} / {_show(item, item.candidate)}"
            print(printable(f"  {item.field.partition('.')[2]}: {sides}"))
    return 0


def _show(item: Difference, value: str | None) -> str:
    return f"unknown ({item.why})" if value is None else value
