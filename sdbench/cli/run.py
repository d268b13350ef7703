"""``sdbench run``: run a manifest, here or in containers, seal the record, write the report."""

import argparse
import json
from pathlib import Path

from sdbench.cli.options import (
    CONTAINER_LIMITS,
    add_out_option,
    add_plan_options,
    add_price_options,
    add_profile_options,
    add_repeatable_option,
    check_run_options,
    read_count,
    read_plan_request,
)
from sdbench.cli.output import REPORT_NAME, complain, show, show_progress, write_report_if_possible
from sdbench.cli.print_summary import print_summary
from sdbench.cli.progress import open_listener
from sdbench.plan.budget import describe_total, warn_of_budget
from sdbench.plan.make_plan import ALL_DEVICES, make_plan
from sdbench.report.prices import make_prices
from sdbench.runner.all_devices import DEVICE_GROUP_OPTION, run_all_devices
from sdbench.runner.interrupts import terminate_as_interrupt
from sdbench.runner.outcome import exit_code
from sdbench.runner.run import run_plan
from sdbench.schema.record import DeviceGroup
from sdbench.store.run import Run


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    add_plan_options(parser, optional=True)
    add_out_option(parser)
    parser.add_argument("--rounds", type=read_count, metavar="N", help="pause after N more launches of each experiment")
    parser.add_argument("--fresh", action="store_true", help="start over instead of resuming an unfinished run")
    add_profile_options(parser)
    add_price_options(parser)
    parser.add_argument("--no-references", action="store_true", help="leave out the machines of the 2022 study")
    output = parser.add_mutually_exclusive_group()
    output.add_argument("--quiet", action="store_true", help="print only the paths of record and report")
    output.add_argument("--json", action="store_true", help="print one JSON object per event, and the paths at the end")
    containers = parser.add_argument_group("containers")
    images = (
        "run in this image: cpu, cuda12 or cuda13 (built from this checkout), cuda for the one that the driver runs, "
        "or one to pull; several are interleaved"
    )
    add_repeatable_option(containers, "--image", "IMAGE", images)
    add_repeatable_option(containers, "--host", "ssh://USER@NAME", "another machine's Docker")
    containers.add_argument(
        "--attach", action="store_true", help="collect the results of containers that an earlier run left behind"
    )
    gpus = "NVIDIA GPUs to pass to the container (default: all, to an image for CUDA)"
    containers.add_argument("--gpus", default="", metavar="all|device=N", help=gpus)
    containers.add_argument("--cpus", default="", metavar="LIST", help="the CPUs to run on, for example 0-7")
    containers.add_argument("--memory", default="", metavar="SIZE", help="the memory limit, for example 16g")
    # What other commands pass to the processes they start.
    parser.add_argument(DEVICE_GROUP_OPTION, help=argparse.SUPPRESS)
    parser.add_argument("--schedule-id", help=argparse.SUPPRESS)


def execute(options: argparse.Namespace) -> int:
    """Run what is selected, print where it is kept and a summary, and return the exit code."""
    check_run_options(options)
    request = read_plan_request(options)
    if options.image or options.attach:
        return _run_in_images(options)
    if options.device == ALL_DEVICES:
        output = [name for name in ("--quiet", "--json") if getattr(options, name[2:])]
        return run_all_devices(request, options.out, output, fresh=options.fresh, report=show_progress)
    prices = make_prices(options.price, options.prices)
    plan = make_plan(request)
    if not options.quiet:
        if not options.json:
            show_progress(f"{plan.device.description}: {describe_total(plan)}")
        for warning in plan.device.warnings:
            complain(f"warning: {warning}")
        if (shortage := warn_of_budget(plan)) is not None:
            complain(f"warning: {shortage}")
    with terminate_as_interrupt(), open_listener(json_lines=options.json, quiet=options.quiet) as listener:
        run = run_plan(
            plan,
            options.out,
            fresh=options.fresh,
            rounds=options.rounds,
            device_group=DeviceGroup.model_validate_json(options.device_group) if options.device_group else None,
            listener=listener,
        )
    path, with_references = run.folder / REPORT_NAME, not options.no_references
    report = write_report_if_possible([run], path, prices, with_references=with_references)
    _print_result(run, report, options)
    return exit_code(run.record)


def _print_result(run: Run, report: Path | None, options: argparse.Namespace) -> None:
    record_path = run.folder / "record.json"
    if options.json:
        paths = {"record": str(record_path), "report": str(report) if report else None}
        show(json.dumps({"kind": "written", "ended": run.record.ended} | paths))
    else:
        if not options.quiet:
            print_summary(run.record, with_references=not options.no_references)
        show(f"record  {record_path}")
        if report is not None:
            show(f"report  {report}")
    if run.record.ended == "paused":
        complain(f"paused after --rounds {options.rounds}; the same command resumes")
    if run.record.ended == "interrupted":
        complain("interrupted; finished launches are sealed; the same command resumes, --fresh starts over")


def _run_in_images(options: argparse.Namespace) -> int:
    from sdbench.containers.run_images import ImageRequest, attach, run_images

    if options.attach:
        runs = attach(options.host, options.out, show_progress)
    else:
        limits = {name: getattr(options, name) for name in CONTAINER_LIMITS}
        where = ImageRequest(tuple(options.image), tuple(options.host), schedule_id=options.schedule_id, **limits)
        runs = run_images(read_plan_request(options), where, options.out, show_progress)
    for problem in runs.problems:
        complain(problem)
    for folder in runs.folders:
        show(f"record  {folder / 'record.json'}")
        if report := write_report_if_possible([folder], folder / REPORT_NAME):
            show(f"report  {report}")
    return runs.exit_code
