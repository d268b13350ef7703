"""``sdbench report``: one HTML file about one or more runs."""

import argparse
import sys
from pathlib import Path

from sdbench.cli.options import add_price_options, add_runs_argument
from sdbench.cli.output import show
from sdbench.cli.run_folders import named_runs, refuse_to_replace
from sdbench.errors import UserError
from sdbench.report.markdown import format_markdown
from sdbench.report.prices import make_prices
from sdbench.report.render import write_view
from sdbench.report.save_charts import save_charts
from sdbench.report.text_report import print_report
from sdbench.report.view import build_view
from sdbench.store.files import write_whole
from sdbench.store.run import load_run
from sdbench.units import format_bytes

_DEFAULT_OUT = Path("report.html")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    add_runs_argument(parser)
    parser.add_argument("--out", type=Path, metavar="FILE", help="default: report.html; Markdown on standard output")
    parser.add_argument(
        "--format",
        choices=("html", "markdown", "text"),
        default="html",
        help="the page; or its answers and verdicts on standard output, for a pull request or a terminal (default: "
        "%(default)s)",
    )
    parser.add_argument("--charts", type=Path, metavar="DIR", help="also write each chart there as SVG and PNG")
    parser.add_argument(
        "--no-references",
        action="store_true",
        help="leave out the machines of the 2022 study, which stand next to full-size results",
    )
    add_price_options(parser)


def execute(options: argparse.Namespace) -> int:
    """Write the report, print its path and return 0."""
    out = options.out or _DEFAULT_OUT
    if options.format == "html":
        refuse_to_replace(out, (".html", ".htm"))
    elif options.out is not None:
        if options.format == "text":
            raise UserError("--format text prints on the terminal and takes no --out; use --format markdown")
        refuse_to_replace(out, (".md",))
    prices = make_prices(options.price, options.prices)
    runs = [load_run(path) for path in named_runs(options.runs, options.results)]
    view = build_view(runs, prices, with_references=not options.no_references)
    if options.charts is not None:
        for path in save_charts(view, options.charts):
            # Standard output is for the answers.
            show(path, file=sys.stdout if options.format == "html" else sys.stderr)
    if options.format == "markdown" and options.out is not None:
        write_whole(out, format_markdown(view).encode())
        show(out)
    elif options.format == "markdown":
        show(format_markdown(view), end="")
    elif options.format == "text":
        print_report(view)
    else:
        path = write_view(view, out)
        show(f"report  {path} ({format_bytes(path.stat().st_size)})")
    return 0
