"""``sdbench validate``: check manifests and records."""

import argparse
import sys
from pathlib import Path

from sdbench import exit_codes
from sdbench.cli.runs import is_left_out
from sdbench.errors import UserError
from sdbench.store.bundle import find_runs


def execute(options: argparse.Namespace) -> int:
    """Check every file, print one line for each, and return 0 or 2."""
    code = 0
    named = [place for place in options.files if not is_left_out(place)]
    for path in (run for place in named for run in find_runs(place)):
        try:
            print(f"{path}: {check(path)}")
        except UserError as error:
            print(f"sdbench: {' '.join(str(error).split())}", file=sys.stderr)
            code = exit_codes.USER_ERROR
    return code


def check(path: Path) -> str:
    """Return what the file is, and that it is sound.

    Raises:
        UserError: it is neither a sound manifest nor a sound record.
    """
    if path.is_dir() or path.suffix == ".json":
        from sdbench.store.bundle import load_record, record_path, verify_files

        record = load_record(path)
        verify_files(record_path(path).parent, record)
        return f"a sound record of {len(record.results)} experiments, {record.ended}, seal {record.seal[:16]}"
    from sdbench.plan.expand import expand, parse_settings
    from sdbench.plan.manifest_file import load_manifest

    loaded = load_manifest(path)
    return f"a sound manifest of {len(expand(loaded, parse_settings(())))} experiments"
