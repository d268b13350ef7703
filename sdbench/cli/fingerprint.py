"""``sdbench fingerprint``: what a record would say about this machine."""

import argparse
import json
from typing import Any

from sdbench.cli.options import add_json_option
from sdbench.cli.output import show
from sdbench.probes.devices import choose_device
from sdbench.probes.fingerprint import collect_fingerprint

_PARTS = ("hardware", "configuration", "software", "state")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N (default: %(default)s)")
    add_json_option(parser)


def execute(options: argparse.Namespace) -> int:
    """Print the fingerprint and return 0."""
    parts = collect_fingerprint(choose_device(options.device)).to_json_dict()
    if options.json:
        show(json.dumps(parts, indent=1))
        return 0
    for part in _PARTS:
        digest = parts.get(f"{part}_sha256")
        show(f"{part}  {digest[:16] if digest else '(not hashed)'}")
        for name, value in parts[part].items():
            show(f"  {name}: {format_value(value)}")
    return 0


def format_value(value: Any) -> str:
    """Return a fingerprint value for people, on one line."""
    if isinstance(value, dict) and value.get("status") == "unknown":
        return f"unknown: {value['reason']}"
    if isinstance(value, dict) and value.get("status") == "known":
        return format_value(value["value"])
    if isinstance(value, dict):
        return "{" + ", ".join(f"{name}: {format_value(item)}" for name, item in value.items()) + "}"
    if isinstance(value, list | tuple):
        return ", ".join(format_value(item) for item in value) or "none"
    return str(value)
