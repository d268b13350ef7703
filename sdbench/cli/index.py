"""``sdbench index``: make the index of a folder of runs agree with what is there."""

import argparse
import sys

from sdbench.store.index import update_index


def execute(options: argparse.Namespace) -> int:
    """Update the index, say what changed, and return 0."""
    update = update_index(options.results)
    print(f"{update.run_count:,} runs, {update.added_count:,} new, {update.removed_count:,} changed or gone")
    for problem in update.problems:
        print(f"sdbench: left out: {problem}", file=sys.stderr)
    return 0
