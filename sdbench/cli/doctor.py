"""``sdbench doctor``: what this machine has and lacks."""

import argparse
import json

from sdbench import exit_codes
from sdbench.probes.doctor import diagnose

_MARKS = {"ok": "ok     ", "warning": "warning", "lacking": "LACKING"}


def execute(options: argparse.Namespace) -> int:
    """Print the findings; return 0, or 3 when something a CPU run needs is lacking."""
    findings = diagnose()
    if options.json:
        print(json.dumps([finding.to_json_dict() for finding in findings], indent=1))
    else:
        width = max(len(finding.name) for finding in findings)
        for finding in findings:
            print(f"{_MARKS[finding.level]}  {finding.name:{width}}  {finding.found}")
            if finding.level != "ok":
                print(f"{'':9}{'':{width}}  -> {finding.remedy}")
    return exit_codes.ENVIRONMENT if any(finding.level == "lacking" for finding in findings) else 0
