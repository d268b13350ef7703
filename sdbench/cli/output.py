"""The one way in which commands print: nothing of a record, manifest or file name steers the terminal."""

import re
import shutil
import sys
import textwrap
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from sdbench.errors import ManifestError, SdbenchError
from sdbench.units import printable

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from sdbench.report.prices import Prices
    from sdbench.store.run import Run

REPORT_NAME = "report.html"
_PROBLEMS_SHOWN = 20
# Where no terminal gives a width: long enough that no line is cut.
_LINE_MAX = 10_000
# Half an interval up to here is as good as most protocols request, up to there worth a look.
_NARROW_RATIO, _WIDE_RATIO = 0.02, 0.10
# The spaces of ``7 m 39 s``, ``5 %`` and ``3 GiB``.
_IN_QUANTITY = re.compile(r"(?<=\d) (?=(?:h|m|s|ms|us|[GMK]iB)\b|%)|(?<=\d [hm]) (?=\d+ [ms]\b)")
_NO_BREAK = "\u00a0"


def show(text: object = "", *, file: TextIO | None = None, end: str = "\n", flush: bool = False) -> None:
    """Print lines of text, with what is not printable shown as its code."""
    lines = "\n".join(printable(line) for line in str(text).split("\n"))
    print(lines, file=sys.stdout if file is None else file, end=end, flush=flush)


def show_progress(text: object) -> None:
    """Print lines of text on standard error, wrapped at spaces on a terminal."""
    shown = str(text)
    if sys.stderr.isatty():
        width = shutil.get_terminal_size().columns
        shown = "\n".join(wrap_line(line, width) for line in shown.split("\n"))
    show(shown, file=sys.stderr, flush=True)


def complain(problem: object) -> None:
    """Print an error, a warning or a note on standard error, on one line; of a manifest's many problems the first."""
    problems = problem.problems if isinstance(problem, ManifestError) else (str(problem),)
    complain_of_each(problems, _PROBLEMS_SHOWN)


def complain_of_each(problems: Sequence[str], shown_max: int) -> None:
    """Print each problem on a line of standard error, and of more than ``shown_max`` how many there are."""
    for problem in problems[:shown_max]:
        show_progress(f"sdbench: {' '.join(problem.split())}")
    if len(problems) > shown_max:
        show_progress(f"sdbench: and {len(problems) - shown_max} more problems")


def open_console(width: int) -> "Console":
    """Return a console as wide as the terminal, or of ``width`` characters where there is none."""
    from rich.console import Console

    return Console(width=None if Console().is_terminal else width, highlight=False, markup=False)


def wrap_line(text: str, width: int) -> str:
    """Return a line wrapped at spaces, the following lines indented; a path stays whole, and so does ``7 m 39 s``."""
    kept = _IN_QUANTITY.sub(_NO_BREAK, text)
    filled = textwrap.fill(kept, width, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False)
    return filled.replace(_NO_BREAK, " ")


def print_wrapped(text: str, style: str = "") -> None:
    """Print a line in a style of rich; on a terminal it wraps at spaces, the following lines indented."""
    from rich.text import Text

    console = open_console(_LINE_MAX)
    shown = printable(text)
    if console.is_terminal:
        shown = wrap_line(shown, console.width)
    console.print(Text(shown, style=style), soft_wrap=True)


def style_of_half_width(ratio: float) -> str:
    """Return the colour of an estimate by the half-width of its interval."""
    return "green" if ratio <= _NARROW_RATIO else "yellow" if ratio > _WIDE_RATIO else ""


def make_table(
    columns: Iterable[str],
    rows: Iterable[Iterable[str]],
    right: Collection[str] = (),
    styles: Mapping[str, str] | None = None,
) -> "Table":
    """Return a table of text, with the columns in ``right`` flush right and ``styles`` of rich by a cell's text."""
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False)
    for column in columns:
        table.add_column(printable(column), overflow="fold", justify="right" if column in right else "left")
    for row in rows:
        table.add_row(*(Text(printable(cell), (styles or {}).get(cell, "")) for cell in row))
    return table


def write_report_if_possible(
    runs: "Sequence[Run | Path]", path: Path, prices: "Prices | None" = None, *, with_references: bool = True
) -> Path | None:
    """Write the report and return its path, or complain and return None: a record without a report is complete."""
    from sdbench.report.prices import NO_PRICES
    from sdbench.report.write import write_report

    try:
        return write_report(runs, path, prices or NO_PRICES, with_references=with_references)
    except SdbenchError as problem:
        complain(f"the record is complete, the report was not written: {problem}")
        return None
