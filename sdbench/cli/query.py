"""``sdbench query``: SQL over a folder of runs."""

import argparse
import csv
import json
import sys
from collections.abc import Callable

from sdbench.cli.options import add_results_option
from sdbench.cli.output import complain, make_table, open_console, show
from sdbench.query.queries import OVERVIEW, Answer, run_query
from sdbench.units import printable

# Of a pipe; a terminal knows its own.
_WIDTH = 160
# Narrower columns cannot be read.
_COLUMN_WIDTH_MIN = 10


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    parser.add_argument("sql", nargs="?", metavar="SQL", help="over the tables of --schema (default: an overview)")
    add_results_option(parser)
    parser.add_argument("--format", choices=("table", "csv", "json"), default="table", help="default: %(default)s")
    parser.add_argument("--schema", action="store_true", help="print the tables and their columns")


def execute(options: argparse.Namespace) -> int:
    """Print what the query finds and return 0."""
    if options.schema:
        _print_schema()
        return 0
    answer = run_query(options.sql or OVERVIEW, options.results)
    match options.format:
        case "csv":
            writer = csv.writer(sys.stdout, lineterminator="\n")
            writer.writerow(answer.columns)
            clean = printable if sys.stdout.isatty() else str
            writer.writerows([_defused(value, clean) for value in row] for row in answer.rows)
        case "json":
            rows = [dict(zip(answer.columns, row, strict=True)) for row in answer.rows]
            show(json.dumps(rows, indent=1, default=str))
        case _:
            _print_table(answer)
    for problem in answer.problems:
        complain(f"skipped: {problem}")
    return 0


def _defused(value: object, clean: Callable[[str], str]) -> object:
    """A cell that begins like a formula is one to a spreadsheet; a terminal gets no control characters."""
    if not isinstance(value, str):
        return value
    return f"'{clean(value)}" if value.startswith(("=", "+", "-", "@", "\t", "\r")) else clean(value)


def _print_table(answer: Answer) -> None:
    console = open_console(_WIDTH)
    rows = [[_format(value) for value in row] for row in answer.rows]
    if len(answer.columns) * _COLUMN_WIDTH_MIN <= console.width:
        first = answer.rows[0] if answer.rows else ()
        numeric = {name for name, value in zip(answer.columns, first, strict=False) if isinstance(value, int | float)}
        console.print(make_table(answer.columns, rows, right=numeric))
        return
    # Where the columns would be too narrow to read: each row as lines of a column and its value.
    width = max(map(len, answer.columns))
    for number, row in enumerate(rows, start=1):
        console.print(f"row {number}")
        for column, text in zip(answer.columns, row, strict=True):
            console.print(f"  {printable(column):{width}}  {text}", soft_wrap=True)


def _format(value: object) -> str:
    if value is None:
        return "-"
    return f"{value:.6g}" if isinstance(value, float) else printable(str(value))


def _print_schema() -> None:
    from sdbench.query.tables import COLUMNS, VIEWS

    for table, columns in COLUMNS.items():
        show(f"{table}: {', '.join(f'{name} {kind}' for name, kind in columns.items())}")
    for view in VIEWS:
        show(f"{view}: {VIEW_WORDS[view]}")


VIEW_WORDS = {
    "samples": "series with a row per sample: call (from 0), value, warmup",
    "results": "experiments with the columns of their run",
}
