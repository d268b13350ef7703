"""``sdbench fleet``: a manifest on one machine of each kind."""

import argparse
import shlex
from collections.abc import Sequence
from pathlib import Path

from sdbench import exit_codes
from sdbench.cli.main import build_parser
from sdbench.cli.options import add_out_option, check_run_options
from sdbench.cli.output import REPORT_NAME, complain, show, show_progress, write_report_if_possible
from sdbench.errors import UserError
from sdbench.fleet.fleet import FleetEngine, FleetSpec, KindState, run_fleet
from sdbench.plan.make_plan import ALL_DEVICES
from sdbench.plan.manifest_file import load_manifest
from sdbench.plan.own_pipelines import refuse_own_pipeline
from sdbench.plan.shipped import find_manifest
from sdbench.runner.interrupts import terminate_as_interrupt

_OWN_OPTIONS = ("--fresh", "--rounds", "--out", "--quiet", "--json")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    parser.add_argument("manifest", metavar="MANIFEST", help="a file, or the name of a shipped manifest such as quick")
    parser.add_argument(
        "--engine",
        choices=("ray", "slurm", "kubernetes"),
        required=True,
        help="what manages the machines; kubernetes prints Jobs to apply",
    )
    parser.add_argument("--kinds", default="", metavar="A100,H100", help="kinds of machines (default: all there are)")
    parser.add_argument("--image", metavar="IMAGE", help="the container image to measure in, on every machine")
    parser.add_argument("--address", help="of the Ray cluster (default: the one of this machine)")
    parser.add_argument(
        "--sbatch", type=shlex.split, default=[], metavar="'OPTIONS'", help="options of sbatch, for example '-p gpu'"
    )
    parser.add_argument(
        "--host-locks", action="store_true", help="let pods share the device locks of their nodes (kubernetes)"
    )
    add_out_option(parser)
    parser.add_argument("--fresh", action="store_true", help="start over instead of resuming")
    parser.add_argument("--args", type=shlex.split, default=[], metavar="'OPTIONS'", help="options of sdbench run")


def execute(options: argparse.Namespace) -> int:
    """Measure on every kind of machine, print where the records are, and return the exit code."""
    for argument in options.args:
        if argument.partition("=")[0] in _OWN_OPTIONS:
            raise UserError(f"--args {argument!r}: sdbench fleet sets this itself; omit it")
        if ALL_DEVICES in argument:
            raise UserError(f"--args {argument!r}: a fleet measures one device of each machine; name it")
    for option, owner in (("address", "ray"), ("sbatch", "slurm"), ("host_locks", "kubernetes")):
        if getattr(options, option) and options.engine != owner:
            raise UserError(f"--{option.replace('_', '-')} is for --engine {owner}, not {options.engine}; omit it")
    # An invalid option of a run shows here, not on every machine. In a pod of Kubernetes it is a run without --image.
    images = [f"--image={options.image}"] if options.image and options.engine != "kubernetes" else []
    run_options = build_parser("run").parse_args([options.manifest, *images, *options.args])
    check_run_options(run_options)
    refuse_own_pipeline(run_options.set, "a fleet")
    path = find_manifest(options.manifest)
    spec = FleetSpec(
        loaded=load_manifest(path),
        manifest_name=path.name,
        kinds=tuple(dict.fromkeys(kind.strip() for kind in options.kinds.split(",") if kind.strip())),
        image=options.image,
        arguments=tuple(options.args),
        out=options.out,
        engine_name=options.engine,
        fresh=options.fresh,
    )
    if options.engine == "kubernetes":
        from sdbench.fleet.kubernetes import render_jobs

        show(render_jobs(spec, host_locks=options.host_locks), end="")
        return 0
    try:
        with terminate_as_interrupt():
            engine = _open_engine(options)
            try:
                folder, kinds = run_fleet(spec, engine, show_progress)
            finally:
                if hint := engine.close():
                    complain(hint)
    except KeyboardInterrupt:
        complain("the same command resumes")
        raise
    runs = [options.out / name for state in kinds for name in state.folders]
    if runs and (report := write_report_if_possible(runs, folder / REPORT_NAME)):
        show(f"report  {report}")
    return _exit_code(kinds, runs)


def _open_engine(options: argparse.Namespace) -> FleetEngine:
    if options.engine == "slurm":
        from sdbench.fleet.slurm_engine import SlurmEngine

        return SlurmEngine(options.out, options.sbatch)
    from sdbench.fleet.ray_engine import RayEngine

    return RayEngine(options.address or "auto")


def _exit_code(kinds: Sequence[KindState], runs: Sequence[Path]) -> int:
    for folder in runs:
        show(f"record  {folder / 'record.json'}")
    for state in kinds:
        if state.state != "done":
            complain(f"{state.job.kind}: {state.state}: {state.why}")
    succeeded = all(state.state == "done" and state.exit_code == 0 for state in kinds)
    return 0 if succeeded else exit_codes.EXPERIMENT_FAILED
