"""``sdbench ab``: two settings measured now, in turns, until it is clear which is faster."""

import argparse
import json
import re
import secrets
from collections.abc import Sequence
from dataclasses import dataclass

from sdbench import exit_codes
from sdbench.cli.comparison import exit_code, parse_failures, print_comparison
from sdbench.cli.progress import open_listener
from sdbench.cli.run import REPORT_NAME, cache_folder
from sdbench.cli.selection import Selection, select
from sdbench.compare.comparison import compare_records
from sdbench.errors import UserError
from sdbench.probes.virtual import VARIABLE
from sdbench.report.prices import make_prices
from sdbench.runner.active import RunSpec
from sdbench.runner.alternate import AlternateSpec, alternate
from sdbench.runner.interrupts import terminate_as_interrupt
from sdbench.store.bundle import load_record
from sdbench.units import parse_ratio

_VARIABLE_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_SEED_BITS = 32


@dataclass(frozen=True)
class _SideSettings:
    """What one side sets: options of the experiments, and environment variables of its workers."""

    settings: tuple[str, ...]
    environment: dict[str, str]


def execute(options: argparse.Namespace) -> int:
    """Measure both sides, print b against a, and return the comparison's exit code."""
    margin = parse_ratio(options.margin, "--margin")
    failures = parse_failures(options.fail_on)
    if images := _parse_images(options):
        return _compare_images(images, margin, failures, options)
    seed = secrets.randbits(_SEED_BITS) if options.seed is None else options.seed
    spec = ab_spec(options, margin, seed)
    with terminate_as_interrupt(), open_listener(options) as listener:
        a, b = alternate(spec, listener)
    from sdbench.cli.report import write_report_of

    runs = [(a.record, a.folder), (b.record, b.folder)]
    report = write_report_of(runs, b.folder / REPORT_NAME, make_prices(None, None))
    comparison = compare_records([a.record], [b.record], margin)
    if options.json:
        print(json.dumps({"kind": "compared", "a": str(a.folder), "b": str(b.folder)} | comparison.to_json_dict()))
    else:
        print_comparison(comparison)
        print(f"\nrecord a  {a.folder / 'record.json'}\nrecord b  {b.folder / 'record.json'}\nreport    {report}")
    return exit_codes.INTERRUPTED if a.record.ended == "interrupted" else exit_code(comparison, failures)


def _parse_images(options: argparse.Namespace) -> tuple[str, str] | None:
    """Return the two images that the sides name, None where they name other settings.

    Raises:
        UserError: only one side names an image, or a side names other settings beside it.
    """
    sides = [
        [item.removeprefix("image=") for item in side if item.startswith("image=")] for side in (options.a, options.b)
    ]
    if not any(sides):
        return None
    if [len(options.a), len(options.b)] != [1, 1] or not all(sides) or sides[0] == sides[1]:
        raise UserError("images are compared alone: write --a image=ONE --b image=OTHER, and what is common with --set")
    if options.seed is not None:
        raise UserError("--seed orders the turns of settings; images take theirs forth and back; leave it away")
    return sides[0][0], sides[1][0]


def _compare_images(
    images: tuple[str, str], margin: float, failures: Sequence[str], options: argparse.Namespace
) -> int:
    """Measure two images in turns in containers, print the second against the first, and return the exit code."""
    from sdbench.cli.launch import launch_and_report
    from sdbench.launch.matrix import LaunchSpec

    asked = [("--only", text) for text in options.only] + [("--set", text) for text in options.settings]
    asked += [(f"--{name}", getattr(options, name)) for name in ("device", "weights", "budget")]
    spec = LaunchSpec(
        manifest=options.manifest,
        images=images,
        hosts=(None,),
        arguments=tuple(word for pair in asked if pair[1] is not None for word in pair),
        gpus=options.gpus,
        cpus="",
        memory="",
        out=options.out,
    )
    folders, code = launch_and_report(spec)
    if len(folders) != len(images):
        return code
    records = [load_record(folder) for folder in folders]
    comparison = compare_records(records[:1], records[1:], margin)
    if options.json:
        print(json.dumps({"kind": "compared"} | comparison.to_json_dict()))
    else:
        print_comparison(comparison)
    return code or exit_code(comparison, failures)


def ab_spec(options: argparse.Namespace, margin: float, seed: int) -> AlternateSpec:
    """Return what ``ab`` is to measure.

    Raises:
        UserError: a setting is wrong, or the sides have different numbers of experiments.
    """
    sides = [_parse_side(name, assignments) for name, assignments in (("a", options.a), ("b", options.b))]
    selections = [_select(options, side) for side in sides]
    counts = [len(selection.planned) for selection in selections]
    if counts[0] != counts[1]:
        raise UserError(
            f"side a has {counts[0]} experiments and side b {counts[1]}; "
            "choose the same ones with --only, or set an option that the manifest does not vary"
        )
    specs = [_spec(selection, side, seed, options) for selection, side in zip(selections, sides, strict=True)]
    asked = tuple(options.a), tuple(options.b)
    return AlternateSpec((specs[0], specs[1]), asked, margin, seed, selections[0].budget_s)


def _parse_side(name: str, assignments: Sequence[str]) -> _SideSettings:
    """Split ``env.NAME=value`` from options.

    Raises:
        UserError: a variable's name is none.
    """
    settings, environment = [], {}
    for assignment in assignments:
        key, equals, value = assignment.partition("=")
        if not key.startswith("env."):
            settings.append(assignment)
            continue
        variable = key.removeprefix("env.")
        if not equals or not _VARIABLE_NAME.fullmatch(variable):
            raise UserError(f"--{name} {assignment!r}: write env.NAME=value, for example env.OMP_NUM_THREADS=1")
        environment[variable] = value
    return _SideSettings(tuple(settings), environment)


def _select(options: argparse.Namespace, side: _SideSettings) -> Selection:
    """Return what a side measures; its settings win over ``--set``."""
    own = {setting.partition("=")[0] for setting in side.settings}
    kept = [setting for setting in options.settings if setting.partition("=")[0] not in own]
    return select(argparse.Namespace(**{**vars(options), "settings": [*kept, *side.settings]}))


def _spec(selection: Selection, side: _SideSettings, seed: int, options: argparse.Namespace) -> RunSpec:
    environment = dict(side.environment)
    if any(item.experiment.backend == "virtual" for item in selection.planned):
        # One virtual machine for both sides, unless one of them asks for another.
        given = environment.get(VARIABLE, "")
        environment[VARIABLE] = given if "seed=" in given else f"seed={seed} {given}".strip()
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
        fresh=True,
        environment=environment,
    )
