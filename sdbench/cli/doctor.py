"""``sdbench doctor``: what this machine has and what is missing."""

import argparse
import json

from sdbench import exit_codes
from sdbench.cli.options import add_json_option
from sdbench.cli.output import show
from sdbench.probes.doctor import diagnose

_MARKS = {"ok": "ok     ", "warning": "warning", "missing": "MISSING"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    add_json_option(parser)


def execute(options: argparse.Namespace) -> int:
    """Print the diagnoses; return 0, or 3 when something a CPU run needs is missing."""
    diagnoses = diagnose()
    if options.json:
        show(json.dumps([item.to_json_dict() for item in diagnoses], indent=1))
    else:
        width = max(len(item.name) for item in diagnoses)
        for item in diagnoses:
            show(f"{_MARKS[item.level]}  {item.name:{width}}  {item.value}")
            if item.level != "ok":
                show(f"{'':9}{'':{width}}  -> {item.hint}")
    return exit_codes.ENVIRONMENT if any(item.level == "missing" for item in diagnoses) else 0
