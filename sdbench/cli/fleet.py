"""``sdbench fleet``: a manifest on one machine of each kind."""

import argparse
import sys
from pathlib import Path

from sdbench import exit_codes
from sdbench.cli.all_devices import ALL_DEVICES
from sdbench.cli.parser import build_parser
from sdbench.errors import EnvironmentProblem, UserError
from sdbench.launch.fleet import FleetEnd, FleetSpec, run_fleet
from sdbench.plan.manifest_file import load_manifest
from sdbench.runner.interrupts import terminate_as_interrupt

REPORT_NAME = "report.html"
_OWN_OPTIONS = ("--fresh", "--rounds", "--out", "--quiet", "--json")


def execute(options: argparse.Namespace) -> int:
    """Measure on every kind of machine, print where the records are, and return the exit code."""
    for argument in options.arguments:
        if argument.partition("=")[0] in _OWN_OPTIONS:
            raise UserError(f"--args {argument!r}: sdbench fleet sets this itself; leave it out")
        if ALL_DEVICES in argument:
            raise UserError(f"--args {argument!r}: a fleet measures one device of each machine; name it")
    for option, engine in (("address", "ray"), ("sbatch", "slurm")):
        if getattr(options, option) and options.engine != engine:
            raise UserError(f"--{option} is for --engine {engine}, not {options.engine}; leave it out")
    # What is no option of a run shows here, not on every machine.
    build_parser().parse_args(["run", str(options.manifest), *options.arguments])
    loaded = load_manifest(options.manifest)
    kinds = tuple(dict.fromkeys(kind.strip() for kind in options.kinds.split(",") if kind.strip()))
    spec = FleetSpec(
        loaded,
        options.manifest.name,
        kinds,
        options.image,
        tuple(options.arguments),
        options.out,
        options.engine,
        options.fresh,
    )
    if options.engine == "kubernetes":
        from sdbench.launch.kubernetes import render_jobs

        print(render_jobs(spec), end="")
        return 0
    try:
        with terminate_as_interrupt():
            end = _run(spec, options)
    except KeyboardInterrupt:
        _say("sdbench: the same command goes on with what is not done yet")
        raise
    _report(end, options.out)
    return _tell(end)


def _run(spec: FleetSpec, options: argparse.Namespace) -> FleetEnd:
    if options.engine == "slurm":
        from sdbench.launch.slurm_engine import SlurmEngine

        engine = SlurmEngine(spec.out, tuple(options.sbatch))
        try:
            return run_fleet(spec, engine, _say)
        except KeyboardInterrupt:
            for job in engine.jobs():
                _say(f"sdbench: Slurm's job {job} goes on; scancel {job} stops it")
            raise
    from sdbench.launch.ray_engine import RayEngine

    cluster = RayEngine(options.address or "auto")
    try:
        return run_fleet(spec, cluster, _say)
    finally:
        cluster.close()


def _report(end: FleetEnd, out: Path) -> None:
    """Write one report over all machines."""
    if not end.folders:
        return
    from sdbench.cli.report import write_report_of
    from sdbench.store.bundle import load_record

    try:
        report = write_report_of(
            [(load_record(folder), folder) for folder in end.folders], out / end.fleet_id / REPORT_NAME
        )
    except (UserError, EnvironmentProblem) as problem:
        print(f"sdbench: the records are complete, the report is not written: {problem}", file=sys.stderr)
    else:
        print(f"report  {report}")


def _tell(end: FleetEnd) -> int:
    for folder in end.folders:
        print(f"record  {folder / 'record.json'}")
    for state in end.members:
        if state.state != "done":
            print(f"sdbench: {state.member.kind}: {state.state}: {state.why}", file=sys.stderr)
    sound = all(state.state == "done" and state.exit_code == 0 for state in end.members)
    return 0 if sound else exit_codes.EXPERIMENT_FAILED


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
