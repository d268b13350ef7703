"""``sdbench fetch``: download the pinned weights of a manifest, so that measuring needs neither network nor token."""

import argparse
import os

from sdbench.cli.run import cache_folder
from sdbench.models.hub import Pin, check_pin, fetch_snapshot, is_cached
from sdbench.plan.expand import expand, parse_settings
from sdbench.plan.manifest_file import load_manifest
from sdbench.runner.interrupts import terminate_as_interrupt

EXIT_MISSING = 1


def execute(options: argparse.Namespace) -> int:
    """Download what the cache lacks and return 0; with ``--check`` only say what that is, and return 1 if anything.

    Raises:
        UserError: the manifest or an option is wrong, or weights are not pinned to a commit.
        WeightsUnavailable: the weights cannot be had.
    """
    assignments = [*options.settings, *([f"weights={options.weights}"] if options.weights else [])]
    planned = expand(load_manifest(options.manifest), parse_settings(assignments), options.only)
    pins = dict.fromkeys(
        Pin(*check_pin(item.experiment.hub_id, item.experiment.revision), cache_folder())
        for item in planned
        if item.experiment.weights == "pretrained"
    )
    missing = [pin for pin in pins if not is_cached(pin)]
    if options.check:
        for pin in missing:
            print(f"missing {pin.hub_id} at {pin.revision}")
        return EXIT_MISSING if missing else 0
    # An image sets it, so that measuring never asks the network.
    os.environ.pop("HF_HUB_OFFLINE", None)
    with terminate_as_interrupt():
        for pin in missing:
            print(f"fetched {pin.hub_id} at {pin.revision} to {fetch_snapshot(pin)}")
    if not missing:
        print("nothing to fetch: the manifest's weights are synthetic or here already")
    return 0
