"""``sdbench validate``: check manifests and records."""

import argparse
from pathlib import Path

from sdbench import exit_codes
from sdbench.cli.output import complain, show
from sdbench.cli.run_folders import named_runs
from sdbench.errors import UserError
from sdbench.units import format_count


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE", help="manifest, record or run folder")


def execute(options: argparse.Namespace) -> int:
    """Check every file, print one line for each, and return 0 or 2."""
    code = 0
    for path in named_runs(options.files):
        try:
            show(f"{path}: {check(path)}")
        except UserError as error:
            complain(error)
            code = exit_codes.USER_ERROR
    return code


def check(path: Path) -> str:
    """Return what the file is, and that it is valid.

    Raises:
        UserError: it is neither a valid manifest nor a valid record.
    """
    if path.is_dir() or path.suffix == ".json":
        from sdbench.store.run import load_run

        run = load_run(path)
        record, _ = run.record, run.telemetry
        count = format_count(len(record.results), "experiment")
        return f"a valid record of {count}, {record.ended}, seal {record.seal[:16]}"
    from sdbench.plan.claim_coverage import find_unmet_claims
    from sdbench.plan.expand import expand, parse_settings
    from sdbench.plan.manifest_file import load_manifest

    loaded = load_manifest(path)
    planned = expand(loaded, parse_settings(()))
    for problem in find_unmet_claims(loaded.manifest.claims, [item.experiment for item in planned]):
        complain(f"{path}: warning: {problem}")
    return f"a valid manifest of {format_count(len(planned), 'experiment')}"
