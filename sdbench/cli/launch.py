"""``sdbench launch``: run a manifest in containers, on several images and hosts, and collect the records."""

import argparse
import sys

from sdbench.cli.report import write_report_of
from sdbench.errors import SdbenchError, UserError
from sdbench.launch.matrix import HostRun, LaunchSpec, attach_all, prepare, run_all
from sdbench.plan.manifest_file import load_manifest
from sdbench.runner.interrupts import terminate_as_interrupt
from sdbench.store.bundle import load_record

REPORT_NAME = "report.html"


def execute(options: argparse.Namespace) -> int:
    """Run or attach, print where the records are, and return the exit code.

    Raises:
        UserError: the manifest is wrong or an option is missing.
        EnvironmentProblem: a host does not answer, or an image cannot be had.
    """
    hosts = tuple(options.host) or (None,)
    with terminate_as_interrupt():
        if options.attach:
            runs, code = attach_all(hosts, options.out, _say)
        else:
            runs = prepare(_spec(options, hosts), _say)
            code = run_all(runs)
    _report(runs)
    return code


def _spec(options: argparse.Namespace, hosts: tuple[str | None, ...]) -> LaunchSpec:
    if options.manifest is None or not options.image:
        raise UserError("name a manifest and an image (--image), or collect an earlier launch with --attach")
    load_manifest(options.manifest)
    return LaunchSpec(
        manifest=options.manifest,
        images=tuple(dict.fromkeys(options.image)),
        hosts=hosts,
        arguments=tuple(options.arguments),
        gpus=options.gpus,
        cpus=options.cpus,
        memory=options.memory,
        out=options.out,
    )


def _report(runs: list[HostRun]) -> None:
    for run in runs:
        for problem in run.problems:
            print(f"sdbench: {' '.join(problem.split())}", file=sys.stderr)
        for folder in run.folders:
            print(f"record  {folder / 'record.json'}")
            try:
                print(f"report  {write_report_of([(load_record(folder), folder)], folder / REPORT_NAME)}")
            except SdbenchError as problem:
                print(f"sdbench: the record is complete, the report is not written: {problem}", file=sys.stderr)


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
