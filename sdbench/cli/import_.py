"""``sdbench import``: old results of the 2022 study's tool become sealed records."""

import argparse
from datetime import UTC, datetime
from pathlib import Path

from sdbench.cli.options import add_out_option
from sdbench.cli.output import complain, complain_of_each, show
from sdbench.errors import UserError
from sdbench.lambda2022.csv_file import MAX_FILE_BYTES, LambdaTable, parse_lambda_csv
from sdbench.lambda2022.imports import ImportSource, import_rows
from sdbench.plan.manifest_file import load_manifest
from sdbench.schema.manifest import Claim, Source
from sdbench.store.files import read_file

PROBLEMS_SHOWN = 5
# What a manifest allows.
MAX_TITLE_CHARACTERS = 200


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    parser.add_argument("file", type=Path, metavar="FILE.csv")
    add_out_option(parser)
    parser.add_argument("--steps", type=int, metavar="N", help="steps of every result (default: 50), or rows to take")
    parser.add_argument("--title", help="title of the records")
    parser.add_argument("--manifest", type=Path, metavar="MANIFEST", help="give the records its source and its claims")
    parser.add_argument("--keep-going", action="store_true", help="skip invalid rows")


def execute(options: argparse.Namespace) -> int:
    """Write a record per device, print their folders, and return 0."""
    content = read_file(options.file, MAX_FILE_BYTES)
    table = parse_lambda_csv(content, str(options.file), options.steps)
    _report_problems(table, options)
    cited, claims = _read_manifest(options)
    title = options.title or f"Imported from {options.file.name}"
    if len(title) > MAX_TITLE_CHARACTERS:
        raise UserError(f"the title has {len(title)} characters; give one of {MAX_TITLE_CHARACTERS} with --title")
    source = ImportSource(
        name=options.file.name,
        content=content,
        title=title,
        created_utc=datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        cites=cited,
        claims=claims,
    )
    for folder in import_rows(table.rows, source, options.out):
        show(folder)
    return 0


def _report_problems(table: LambdaTable, options: argparse.Namespace) -> None:
    """Print what is wrong and what is left out, and refuse a file with problems but for ``--keep-going``."""
    count = len(table.problems)
    complain_of_each(table.problems, PROBLEMS_SHOWN)
    if table.problems and not (options.keep_going and table.rows):
        advice = "fix the file, or skip invalid rows with --keep-going" if table.rows else "fix the file"
        problems = f"{count} problem{'s' * (count != 1)}"
        raise UserError(f"{options.file}: nothing was imported: {problems}, see above; {advice}")
    if table.other_steps_count:
        reason = f"rows left out because their steps are not {options.steps}: {table.other_steps_count}"
        complain(f"{options.file}: {reason}")


def _read_manifest(options: argparse.Namespace) -> tuple[Source, tuple[Claim, ...]]:
    # The file does not name who measured: anyone could use the tool.
    unnamed = Source(title=f"{options.file.name}, written by the 2022 study's tool")
    if options.manifest is None:
        return unnamed, ()
    manifest = load_manifest(options.manifest).manifest
    return manifest.source or unnamed, manifest.claims
