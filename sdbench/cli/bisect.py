"""``sdbench bisect``: the first of an ordered list of arms that is slower, found with the verdicts of ``ab``."""

import argparse
import json
from collections.abc import Iterator
from pathlib import Path

from sdbench import exit_codes
from sdbench.cli.options import (
    add_json_option,
    add_margin_option,
    add_plan_options,
    add_repeatable_option,
    add_session_options,
    read_plan_request,
    refuse_ignored,
)
from sdbench.cli.output import REPORT_NAME, make_table, open_console, print_wrapped, show, show_progress
from sdbench.cli.progress import open_listener
from sdbench.compare.bisection import Bisection
from sdbench.compare.bisection_wording import (
    describe_effort,
    describe_end,
    describe_step,
    format_against,
    name_arm_state,
)
from sdbench.plan.locks import format_lock, read_lock
from sdbench.probes.fingerprint import collect_fingerprint
from sdbench.report.write import write_report
from sdbench.runner.ab import run_ab
from sdbench.runner.bisect import bisect
from sdbench.runner.bisect_spec import Bisected, BisectSpec, Measure, Question, parse_arms
from sdbench.runner.environments import PACKAGES, write_steps
from sdbench.runner.interrupts import terminate_as_interrupt
from sdbench.schema.base import sha256_of
from sdbench.store.cache_folder import cache_folder
from sdbench.store.run import Run
from sdbench.units import format_duration

# As of ``compare``: something is slower, something is not resolved.
EXIT_CODES = {"found": 10, "unresolved": 11, "nothing": 0}
_STYLES = {"bad": "red", "slower": "red", "same": "green", "faster": "green", "inconclusive": "yellow"}
_DIFFERENCES_SHOWN = 12
_NAME_DIGITS = 8
_IMAGE = "image="


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    add_plan_options(parser)
    add_repeatable_option(
        parser,
        "--over",
        "KEY=V1,V2,...",
        "the arms, the good one first: values of an option, env.NAME, image, packages (lock files) or wheels (folders)",
    )
    add_session_options(parser, "bisection")
    add_margin_option(parser)
    add_json_option(parser)


def execute(options: argparse.Namespace) -> int:
    """Bisect, print the first bad arm or why it is not known, and return the exit code."""
    key, values = parse_arms(options.over)
    if key == PACKAGES and len(values) == 2:  # noqa: PLR2004 - the good one and the bad one
        values = _write_steps(Path(values[0]), Path(values[1]), options.out)
    refuse_ignored(options, () if key == "image" else ("gpus",), "applies only with --over image=...")
    if key == "image":
        refuse_ignored(options, ("seed",), "does not apply with images")
    spec = BisectSpec(
        read_plan_request(options), key, values, options.out, options.margin, _hash_machine(), fresh=options.fresh
    )
    with terminate_as_interrupt():
        bisected = bisect(spec, _make_measure(options), (lambda _text: None) if options.quiet else show_progress)
    report = write_report(bisected.runs, bisected.folder / REPORT_NAME) if bisected.runs else None
    if options.json:
        folder = {"folder": str(bisected.folder), "ended": bisected.ended}
        show(json.dumps(folder | bisected.bisection.to_json_dict()))
    else:
        _print(bisected, report)
    return exit_codes.INTERRUPTED if bisected.ended == "interrupted" else EXIT_CODES[bisected.bisection.result]


def _write_steps(good: Path, bad: Path, out: Path) -> tuple[str, ...]:
    """The lock files from one to the other, a package with what it needs at a time."""
    texts = [format_lock(read_lock(path)) for path in (good, bad)]
    # Hidden, so that `results/*` names runs only.
    folder = out / f".{PACKAGES}-{sha256_of(texts)[:_NAME_DIGITS]}"
    show_progress(f"making the environments of {good} and {bad}")
    return tuple(map(str, write_steps(good, bad, folder, cache_folder())))


def _hash_machine() -> str:
    """What the comparisons of a bisection hold for: this machine as it is now."""
    from sdbench.probes.devices import choose_device

    fingerprint = collect_fingerprint(choose_device("cpu"))
    return f"{fingerprint.hardware_sha256} {fingerprint.configuration_sha256} {fingerprint.software_sha256}"


def _make_measure(options: argparse.Namespace) -> Measure:
    """Return what compares two arms: a session of ``ab``, with a display of its own."""

    def measure(question: Question) -> tuple[Run, Run]:
        if question.first.startswith(_IMAGE):
            from sdbench.containers.bisect_images import measure_images

            images = question.first.removeprefix(_IMAGE), question.other.removeprefix(_IMAGE)
            return measure_images(question.request, images, options.gpus, options.out, options.margin, show_progress)
        with open_listener(json_lines=options.json, quiet=options.quiet) as listener:
            return run_ab(
                question.request,
                ((question.first,), (question.other,)),
                out=options.out,
                margin=options.margin,
                # Seeds of their own: one order of blocks for all comparisons would share its bad luck.
                seed=None if options.seed is None else options.seed + question.number,
                fresh=options.fresh,
                listener=listener,
            )

    return measure


def _print(bisected: Bisected, report: Path | None) -> None:
    """Print the answer, then what is known of each arm, what differs, and how to repeat it."""
    bisection = bisected.bisection
    style = {"found": "red", "unresolved": "yellow", "nothing": "green"}[bisection.result]
    print_wrapped(describe_end(bisection), style)
    print_wrapped(f"{describe_effort(bisection)}, {format_duration(bisection.elapsed_s)}")
    console = open_console(150)
    console.print()
    columns = ("arm", bisection.key, "against arm 1", "change", "interval", "from")
    console.print(make_table(columns, _rows(bisection), right=("change", "interval"), styles=_STYLES))
    for line in _remarks(bisection):
        print_wrapped(line)
    for command in bisection.commands:
        show(f"  {command}")
    if bisected.ended != "complete":
        print_wrapped("repeat the command to continue")
    show(f"\nbisection  {bisected.folder}")
    if report is not None:
        show(f"report     {report}")


def _rows(bisection: Bisection) -> Iterator[tuple[str, ...]]:
    for arm in bisection.arms:
        change, interval, units = format_against(arm.judgement)
        value = arm.setting.partition("=")[2]
        yield str(arm.number), value, name_arm_state(arm, bisection.margin), change, interval, units


def _remarks(bisection: Bisection) -> Iterator[str]:
    if bisection.experiments:
        yield f"followed: {', '.join(dict.fromkeys(bisection.experiments))}"
    yield from describe_step(bisection)
    if bisection.attribution:
        yield f"what differs between arm {bisection.last_good} and arm {bisection.first_bad}: {bisection.attribution}"
    differences = [difference for difference in bisection.differences if difference.part != "state"]
    for difference in differences[:_DIFFERENCES_SHOWN]:
        values = ("unknown" if value is None else value for value in (difference.baseline, difference.candidate))
        yield f"  {difference.field}: {' / '.join(values)}"
    if bisection.commands:
        yield "to repeat:"
