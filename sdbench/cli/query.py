"""``sdbench query``: SQL over a folder of runs."""

import argparse
import csv
import json
import sys
from typing import TYPE_CHECKING

from sdbench.store.queries import Answer, ask, summarize
from sdbench.units import printable

if TYPE_CHECKING:
    from rich.console import Console

# Of a pipe; a terminal knows its own.
_WIDTH = 160
# Narrower columns cannot be read.
_COLUMN_WIDTH_MIN = 10


def execute(options: argparse.Namespace) -> int:
    """Print what the query finds and return 0."""
    if options.schema:
        _print_schema()
        return 0
    answer = summarize(options.results) if options.sql is None else ask(options.sql, options.results)
    match options.format:
        case "csv":
            writer = csv.writer(sys.stdout, lineterminator="\n")
            writer.writerow(answer.columns)
            writer.writerows([_defused(value) for value in row] for row in answer.rows)
        case "json":
            rows = [dict(zip(answer.columns, row, strict=True)) for row in answer.rows]
            print(json.dumps(rows, indent=1, default=str))
        case _:
            _print_table(answer)
    if options.sql is None:
        print("sdbench: read without checking seals; sdbench verify does", file=sys.stderr)
    for problem in answer.problems:
        print(f"sdbench: left out: {problem}", file=sys.stderr)
    return 0


def _defused(value: object) -> object:
    """A cell that begins like a formula is one to a spreadsheet."""
    return f"'{value}" if isinstance(value, str) and value.startswith(("=", "+", "-", "@", "\t", "\r")) else value


def _print_table(answer: Answer) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console(width=None if Console().is_terminal else _WIDTH, highlight=False, markup=False)
    if len(answer.columns) * _COLUMN_WIDTH_MIN > console.width:
        _print_rows(console, answer)
        return
    table = Table(box=None, pad_edge=False)
    for place, column in enumerate(answer.columns):
        numeric = bool(answer.rows) and isinstance(answer.rows[0][place], int | float)
        table.add_column(printable(column), overflow="fold", justify="right" if numeric else "left")
    for row in answer.rows:
        table.add_row(*(_format(value) for value in row))
    console.print(table)


def _print_rows(console: "Console", answer: Answer) -> None:
    """Print each row as lines of a column and its value, where the columns would be too narrow to read."""
    width = max(map(len, answer.columns))
    for number, row in enumerate(answer.rows, start=1):
        console.print(f"row {number}")
        for column, value in zip(answer.columns, row, strict=True):
            console.print(f"  {printable(column):{width}}  {_format(value)}", soft_wrap=True)


def _format(value: object) -> str:
    if value is None:
        return "-"
    return f"{value:.6g}" if isinstance(value, float) else printable(str(value))


def _print_schema() -> None:
    from sdbench.store.index import VIEWS
    from sdbench.store.index_tables import COLUMNS

    for table, columns in COLUMNS.items():
        print(f"{table}: {', '.join(f'{name} {kind}' for name, kind in columns.items())}")
    for view in VIEWS:
        print(f"{view}: {VIEW_WORDS[view]}")


VIEW_WORDS = {
    "samples": "series with a row per sample: call (from 0), value, warmup",
    "results": "experiments with the columns of their run",
}
