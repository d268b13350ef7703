"""``sdbench launch``: run a manifest in containers, on several images and hosts, and collect the records."""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from sdbench.cli.report import write_report_of
from sdbench.errors import EnvironmentProblem, SdbenchError, UserError
from sdbench.launch.matrix import HostRun, LaunchSpec, attach_all, launch_all
from sdbench.plan.manifest_file import load_manifest
from sdbench.runner.interrupts import terminate_as_interrupt
from sdbench.store.bundle import load_record

REPORT_NAME = "report.html"
_OWN_OPTIONS = ("--fresh", "--rounds", "--out", "--quiet", "--json")


def execute(options: argparse.Namespace) -> int:
    """Run or attach, print where the records are, and return the exit code.

    Raises:
        UserError: the manifest is wrong or an option is missing.
        EnvironmentProblem: a host does not answer, or an image cannot be had.
    """
    hosts = tuple(options.host) or (None,)
    if not options.attach:
        return launch_and_report(_spec(options, hosts))[1]
    with terminate_as_interrupt():
        runs, code = attach_all(hosts, options.out, _say)
    _report(runs)
    return code


def launch_and_report(spec: LaunchSpec) -> tuple[list[Path], int]:
    """Run what is asked for, write the reports, and return the records' folders by host and image, and the exit code.

    Raises:
        UserError: the manifest is wrong.
        EnvironmentProblem: a host does not answer, or an image cannot be had.
    """
    load_manifest(spec.manifest)
    _refuse_arguments(spec.arguments)
    _refuse_unwritable(spec.out)
    with terminate_as_interrupt():
        runs, code = launch_all(spec, _say)
    _report(runs)
    return [folder for run in runs for folder in run.folders], code


def _spec(options: argparse.Namespace, hosts: tuple[str | None, ...]) -> LaunchSpec:
    if options.manifest is None or not options.image:
        raise UserError("name a manifest and an image (--image), or collect an earlier launch with --attach")
    return LaunchSpec(
        manifest=options.manifest,
        images=tuple(dict.fromkeys(options.image)),
        hosts=hosts,
        arguments=tuple(options.arguments),
        gpus=options.gpus,
        cpus=options.cpus,
        memory=options.memory,
        out=options.out,
        launch_id=options.launch_id,
    )


def _refuse_arguments(arguments: Sequence[str]) -> None:
    """Refuse options of ``sdbench run`` that the launch sets itself."""
    for argument in arguments:
        name = argument.partition("=")[0]
        if any(own.startswith(name) for own in _OWN_OPTIONS) and name.startswith("--") and name != "--":
            raise UserError(f"--args {argument!r}: sdbench launch sets this itself; leave it out")


def _refuse_unwritable(out: Path) -> None:
    """Refuse a folder that the records could not be copied to, before hours of measuring."""
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise EnvironmentProblem(f"cannot make {out}: {error.strerror}; choose another with --out") from None
    if not os.access(out, os.W_OK | os.X_OK):
        raise EnvironmentProblem(f"cannot write in {out}; choose another folder with --out")


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
