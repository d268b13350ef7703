"""``sdbench fingerprint``: what a record would say about this machine."""

import argparse
import json
from typing import Any

from sdbench.probes.devices import choose_device
from sdbench.probes.fingerprint import collect_fingerprint

_PARTS = ("hardware", "configuration", "software", "state")


def execute(options: argparse.Namespace) -> int:
    """Print the fingerprint and return 0."""
    found = collect_fingerprint(choose_device(options.device)).to_json_dict()
    if options.json:
        print(json.dumps(found, indent=1))
        return 0
    for part in _PARTS:
        digest = found.get(f"{part}_sha256")
        print(f"{part}  {digest[:16] if digest else '(not hashed)'}")
        for name, value in found[part].items():
            print(f"  {name}: {show(value)}")
    return 0


def show(value: Any) -> str:
    """Return a fingerprint value for people, on one line."""
    if isinstance(value, dict) and value.get("status") == "unknown":
        return f"unknown: {value['reason']}"
    if isinstance(value, dict) and value.get("status") == "known":
        return show(value["value"])
    if isinstance(value, dict):
        return "{" + ", ".join(f"{name}: {show(item)}" for name, item in value.items()) + "}"
    if isinstance(value, list | tuple):
        return ", ".join(show(item) for item in value) or "none"
    return str(value)
