"""``sdbench compare``: two runs, or two folders of runs, with a verdict."""

import argparse
from contextlib import suppress
from pathlib import Path

from sdbench.cli.options import add_results_option, add_verdict_options
from sdbench.cli.print_comparison import show_comparison
from sdbench.cli.run_folders import Place, read_place, runs_at
from sdbench.compare.comparison import compare_records
from sdbench.compare.levels import treatment_of
from sdbench.errors import RecordError, UserError
from sdbench.schema.record import Record
from sdbench.store.bundle import find_runs, load_record, pause_collector

_PLACE_HELP = "run, folder with a run per session, or a query"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    for name in ("baseline", "candidate"):
        parser.add_argument(name, type=read_place, metavar=name.upper(), help=_PLACE_HELP)
    add_verdict_options(parser)
    add_results_option(parser, "runs that a query reads, and that give the variance between sessions")
    parser.add_argument("--force", action="store_true", help="read records that were changed; the result is marked")


@pause_collector()
def execute(options: argparse.Namespace) -> int:
    """Print candidate against baseline and return the exit code of the verdict."""
    baseline, is_baseline_forced = _load_records(options.baseline, options.results, force=options.force)
    candidate, is_candidate_forced = _load_records(options.candidate, options.results, force=options.force)
    if twice := {record.run_id for record in baseline} & {record.run_id for record in candidate}:
        raise UserError(f"baseline and candidate both contain the run {min(twice)}; name two different ones")
    forced = is_baseline_forced, is_candidate_forced
    comparison = compare_records(baseline, candidate, options.margin, known=_load_known(options.results), forced=forced)
    return show_comparison(comparison, options)


def _load_records(place: Place, results: Path, *, force: bool) -> tuple[list[Record], bool]:
    """Return the records of one machine and configuration, one per session, and whether any seal does not match."""
    records, forced = [], False
    for run in runs_at(place, results):
        try:
            records.append(load_record(run))
        except RecordError:
            if not force:
                raise
            records.append(load_record(run, check_seal=False))
            forced = True
    name = place if isinstance(place, Path) else repr(place)
    for kind, keys in (
        ("machines", {record.machine_key for record in records}),
        ("sets of software", {record.fingerprint.software_sha256 for record in records}),
        ("configurations", {(record.fingerprint.configuration_sha256, treatment_of(record)) for record in records}),
    ):
        if len(keys) > 1:
            raise UserError(f"{name} contains runs of {len(keys)} {kind}; name a folder with the runs of one")
    return records, forced


def _load_known(results: Path) -> list[Record]:
    """Return the valid records in a folder of runs; one that cannot be read is no evidence and left out."""
    records = []
    for run in find_runs(results) if results.is_dir() else ():
        with suppress(RecordError):
            records.append(load_record(run))
    return records
