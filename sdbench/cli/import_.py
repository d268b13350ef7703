"""``sdbench import``: old results of the 2022 study's tool become sealed records."""

import argparse
import sys
from datetime import UTC, datetime
from pathlib import Path

from sdbench.errors import UserError
from sdbench.plan.manifest_file import load_manifest
from sdbench.schema.manifest import Claim, Source
from sdbench.store.imports import ImportSource, import_rows
from sdbench.store.lambda_csv import MAX_FILE_BYTES, LambdaTable, parse_lambda_csv

# What a manifest allows.
MAX_TITLE_CHARACTERS = 200


def execute(options: argparse.Namespace) -> int:
    """Write a record per device, print their folders, and return 0."""
    content = _read(options.file)
    table = parse_lambda_csv(content, str(options.file), options.steps)
    _tell(table, options)
    study, claims = _read_manifest(options)
    source = ImportSource(
        name=options.file.name,
        content=content,
        title=_title(options),
        created_utc=datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        study=study,
        claims=claims,
    )
    for folder in import_rows(table.rows, source, options.out):
        print(folder)
    return 0


def _tell(table: LambdaTable, options: argparse.Namespace) -> None:
    """Print what is wrong and what is left out.

    Raises:
        UserError: something is wrong and ``--keep-going`` is not given, or nothing is left to import.
    """
    for problem in table.problems:
        print(f"sdbench: {problem}", file=sys.stderr)
    count = len(table.problems)
    if table.problems and not (options.keep_going and table.rows):
        advice = "mend it, or import the rest with --keep-going" if table.rows else "mend it"
        problems = f"{count} problem{'s' * (count != 1)}"
        raise UserError(f"{options.file}: nothing was imported: {problems}, see above; {advice}")
    if table.other_steps_count:
        reason = f"rows left out because their steps are not {options.steps}: {table.other_steps_count}"
        print(f"sdbench: {options.file}: {reason}", file=sys.stderr)


def _title(options: argparse.Namespace) -> str:
    title = options.title or f"Imported from {options.file.name}"
    if len(title) > MAX_TITLE_CHARACTERS:
        raise UserError(f"the title has {len(title)} characters; give one of {MAX_TITLE_CHARACTERS} with --title")
    return title


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as stream:
            # One byte more than may be, so that the parser sees that it is too much.
            return stream.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}; check the path") from None


def _read_manifest(options: argparse.Namespace) -> tuple[Source, tuple[Claim, ...]]:
    """The source and the claims that the records are to carry."""
    # Who measured is not in the file: the tool was everybody's to use.
    unnamed = Source(title=f"{options.file.name}, written by the 2022 study's tool")
    if options.manifest is None:
        return unnamed, ()
    manifest = load_manifest(options.manifest).manifest
    return manifest.source or unnamed, manifest.claims
