"""``sdbench compare``: two runs, or two folders of runs, with a verdict."""

import argparse
import json
from pathlib import Path

from sdbench.cli.comparison import exit_code, parse_failures, print_comparison
from sdbench.cli.places import Place
from sdbench.cli.runs import runs_at
from sdbench.compare.comparison import compare_records
from sdbench.compare.units import treatment_of
from sdbench.errors import RecordError, UserError
from sdbench.schema.record import Record
from sdbench.store.bundle import find_runs, load_record
from sdbench.units import parse_ratio


def execute(options: argparse.Namespace) -> int:
    """Print candidate against baseline; the exit code says what was found."""
    margin = parse_ratio(options.margin, "--margin")
    failures = parse_failures(options.fail_on)
    sides = [load_side(place, options.store, force=options.force) for place in (options.baseline, options.candidate)]
    if twice := {r.run_id for r in sides[0][0]} & {r.run_id for r in sides[1][0]}:
        raise UserError(f"both sides hold the run {min(twice)}; name two different ones")
    comparison = compare_records(
        sides[0][0],
        sides[1][0],
        margin,
        known=load_known(options.store),
        forced=(sides[0][1], sides[1][1]),
    )
    if options.json:
        print(json.dumps(comparison.to_json_dict()))
    else:
        print_comparison(comparison)
    return exit_code(comparison, failures)


def load_side(place: Place, results: Path, *, force: bool) -> tuple[list[Record], bool]:
    """Return the records of a side, one per session, and whether any was read against its seal.

    Queries look into ``results``.

    Raises:
        RecordError: a record cannot be read, or was changed after it was sealed and ``force`` is not given.
        UserError: the runs are not of one machine and set-up.
    """
    records, forced = [], False
    for run in runs_at(place, results):
        try:
            records.append(load_record(run))
        except RecordError:
            if not force:
                raise
            records.append(load_record(run, check_seal=False))
            forced = True
    kinds = {(record.origin, record.fingerprint.hardware_sha256, record.device) for record in records}
    if len(kinds) > 1:
        raise UserError(f"{_name(place)} holds runs of {len(kinds)} machines; name a folder with the runs of one")
    software = {record.fingerprint.software_sha256 for record in records}
    if len(software) > 1:
        raise UserError(
            f"{_name(place)} holds runs of {len(software)} sets of software; name a folder with the runs of one"
        )
    settings = {(record.fingerprint.configuration_sha256, treatment_of(record)) for record in records}
    if len(settings) > 1:
        raise UserError(f"{_name(place)} holds runs of {len(settings)} set-ups; name a folder with the runs of one")
    return records, forced


def _name(place: Place) -> str:
    return str(place) if isinstance(place, Path) else repr(place.sql)


def load_known(store: Path | None) -> list[Record]:
    """Return the sound records in a folder of runs; what cannot be read is no evidence and left out."""
    records = []
    for run in find_runs(store) if store is not None and store.is_dir() else ():
        try:
            records.append(load_record(run))
        except RecordError:
            continue
    return records
