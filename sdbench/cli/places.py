"""What names runs on a command line: a path, or a query."""

import argparse
import re
from dataclasses import dataclass
from pathlib import Path

# How SQL begins, in DuckDB FROM too.
_SQL = re.compile(r"\s*(select|from|with)\s", re.IGNORECASE)


@dataclass(frozen=True)
class Query:
    """SQL over the index of the results, whose column ``path`` or ``run_id`` names runs."""

    sql: str


Place = Path | Query


def read_place(text: str) -> Place:
    """Return what an argument means: a query if it begins like SQL, else a path."""
    return Query(text) if _SQL.match(text) else Path(text)


def add_results_option(parser: argparse.ArgumentParser) -> None:
    """Add ``--results``, the folder that queries look into."""
    parser.add_argument(
        "--results",
        "--store",
        type=Path,
        default=Path("results"),
        metavar="DIR",
        help="where a query looks for runs (default: %(default)s)",
    )
