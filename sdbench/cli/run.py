"""``sdbench run``: run a manifest, seal the record, write the report."""

import argparse
import json
import os
import sys
from pathlib import Path

from sdbench.cli.all_devices import ALL_DEVICES, read_group, run_all_devices
from sdbench.cli.progress import open_listener
from sdbench.cli.selection import Selection, select
from sdbench.cli.summary import print_summary
from sdbench.errors import SdbenchError
from sdbench.report.prices import Prices, make_prices
from sdbench.runner.active import RunSpec
from sdbench.runner.ended import exit_code
from sdbench.runner.interrupts import terminate_as_interrupt
from sdbench.runner.run import RunResult, run

REPORT_NAME = "report.html"


def execute(options: argparse.Namespace) -> int:
    """Run what is selected, print where it is kept and a summary, and return the exit code."""
    if options.device == ALL_DEVICES:
        return run_all_devices(options, options.command_line)
    prices = make_prices(options.price, options.prices)
    selection = select(options)
    with terminate_as_interrupt(), open_listener(options) as listener:
        result = run(_spec(selection, options), listener)
    report = _write_report(result, prices)
    if options.json:
        print(
            json.dumps(
                {
                    "kind": "written",
                    "ended": result.record.ended,
                    "record": str(result.folder / "record.json"),
                    "report": str(report) if report else None,
                }
            )
        )
    else:
        if not options.quiet:
            print_summary(result.record)
        print(f"record  {result.folder / 'record.json'}")
        if report is not None:
            print(f"report  {report}")
    if result.record.ended == "paused":
        print(f"sdbench: paused after --rounds {options.rounds}; the same command continues", file=sys.stderr)
    if result.record.ended == "interrupted":
        print(
            "sdbench: interrupted; what was finished is sealed. "
            "Run the same command again to continue, --fresh to start anew",
            file=sys.stderr,
        )
    return exit_code(result.record)


def cache_folder() -> Path:
    """Return where downloaded weights are kept: $SDBENCH_CACHE, else the user's cache folder."""
    if folder := os.environ.get("SDBENCH_CACHE"):
        return Path(folder)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "sdbench"


def _spec(selection: Selection, options: argparse.Namespace) -> RunSpec:
    return RunSpec(
        manifest=selection.loaded.manifest,
        manifest_text=selection.loaded.text,
        request=selection.request,
        planned=selection.planned,
        skipped=selection.skipped,
        estimated_launch_s={key: cost.launch_s for key, cost in selection.estimates.items()},
        device=selection.device,
        out=options.out,
        cache_folder=cache_folder(),
        budget_s=selection.budget_s,
        fresh=options.fresh,
        rounds=options.rounds,
        device_group=read_group(options.device_group) if options.device_group else None,
    )


def _write_report(result: RunResult, prices: Prices) -> Path | None:
    """Write the report beside the record; a record without a report is still a record."""
    from sdbench.cli.report import write_report_of

    try:
        return write_report_of([(result.record, result.folder)], result.folder / REPORT_NAME, prices)
    except SdbenchError as problem:
        print(f"sdbench: the record is complete, the report is not written: {problem}", file=sys.stderr)
        return None
