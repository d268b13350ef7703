"""``sdbench fetch``: download the pinned weights of a manifest, so that measuring needs neither network nor token."""

import argparse
import os

from sdbench import exit_codes
from sdbench.cli.options import add_plan_options, read_plan_request
from sdbench.cli.output import show
from sdbench.models.hub import Pin, check_pin, fetch_snapshot, find_cached
from sdbench.plan.make_plan import expand_request
from sdbench.runner.interrupts import terminate_as_interrupt
from sdbench.store.cache_folder import cache_folder


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    add_plan_options(parser)
    parser.add_argument("--check", action="store_true", help="only list what is missing; exit code 1 if anything is")


def execute(options: argparse.Namespace) -> int:
    """Download what is missing from the cache and return 0; ``--check`` lists it, and returns 1 if anything is."""
    planned = expand_request(read_plan_request(options))
    pins = dict.fromkeys(
        Pin(*check_pin(item.experiment.hub_id, item.experiment.revision), cache_folder())
        for item in planned
        if item.experiment.needs_hub
    )
    missing = [pin for pin in pins if find_cached(pin) is None]
    if options.check:
        for pin in missing:
            show(f"missing {pin.hub_id} at {pin.revision}")
        return exit_codes.CHECK_FAILED if missing else 0
    # An image sets it, so that measuring never asks the network.
    os.environ.pop("HF_HUB_OFFLINE", None)
    with terminate_as_interrupt():
        for pin in missing:
            show(f"fetched {pin.hub_id} at {pin.revision} to {fetch_snapshot(pin)}")
    if not missing:
        show("nothing to fetch: the manifest's weights are synthetic or already cached")
    return 0
