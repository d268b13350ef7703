"""``sdbench ab``: two settings measured now, interleaved, until it is clear which is faster."""

import argparse
import shlex
from dataclasses import replace

from sdbench import exit_codes
from sdbench.cli.options import (
    DEFAULT_OUT,
    add_plan_options,
    add_profile_options,
    add_repeatable_option,
    add_session_options,
    add_verdict_options,
    read_plan_request,
    refuse_ignored,
)
from sdbench.cli.output import REPORT_NAME, complain, show, show_progress
from sdbench.cli.print_comparison import show_comparison
from sdbench.cli.progress import open_listener
from sdbench.compare.comparison import Comparison, compare_runs
from sdbench.compare.policy import MARGIN, round_up_budget_s
from sdbench.errors import UserError
from sdbench.plan.make_plan import request_arguments
from sdbench.report.write import write_report
from sdbench.runner.ab import hide_secret, run_ab
from sdbench.runner.interrupts import terminate_as_interrupt
from sdbench.store.run import load_run


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    add_plan_options(parser)
    add_profile_options(parser)
    for arm in ("a", "b"):
        text = f"an option of arm {arm.upper()}, env.NAME, packages=LOCK or wheels=DIR; or image=NAME alone"
        add_repeatable_option(parser, f"--{arm}", "KEY=VALUE", text)
    add_session_options(parser, "session")
    add_verdict_options(parser)


def execute(options: argparse.Namespace) -> int:
    """Measure both arms, print B against A, and return the comparison's exit code."""
    for arm, other in (("a", "b"), ("b", "a")):
        if not getattr(options, arm):
            key = getattr(options, other)[0].partition("=")[0] if getattr(options, other) else "threads"
            raise UserError(
                f"--{arm} is missing: name what arm {arm.upper()} sets, for example --{arm} {key}=..., or the same as "
                f"--{other} to measure the noise"
            )
    if images := _parse_images(options):
        refuse_ignored(options, ("seed", "fresh", "quiet"), "does not apply with images")
        return _compare_images(images, options)
    refuse_ignored(options, ("gpus",), "applies only with image=NAME")
    with terminate_as_interrupt(), open_listener(json_lines=options.json, quiet=options.quiet) as listener:
        a, b = run_ab(
            read_plan_request(options),
            (options.a, options.b),
            out=options.out,
            margin=options.margin,
            seed=options.seed,
            fresh=options.fresh,
            listener=listener,
        )
    report = write_report([a, b], b.folder / REPORT_NAME)
    comparison = compare_runs(a, b, options.margin)
    command = "" if a.record.ended == "complete" else _continue_command(options, comparison)
    code = show_comparison(comparison, options, command, kind="compared", a=str(a.folder), b=str(b.folder))
    if not options.json and options.format == "text":
        show(f"\nrecord a  {a.folder / 'record.json'}\nrecord b  {b.folder / 'record.json'}\nreport    {report}")
    return exit_codes.INTERRUPTED if a.record.ended == "interrupted" else code


def _continue_command(options: argparse.Namespace, comparison: Comparison) -> str:
    """Return the command that continues the session, with a budget for what is missing where it had one."""
    request = read_plan_request(options)
    device = "" if request.device == "auto" else request.device
    words = ["sdbench", "ab", options.manifest, *request_arguments(replace(request, device=device, budget_s=None))]
    for arm in ("a", "b"):
        words += [word for setting in getattr(options, arm) for word in (f"--{arm}", setting)]
    more: dict[str, object] = {"seed": options.seed}
    if options.margin != MARGIN:
        more["margin"] = f"{options.margin:g}"
    if options.out != DEFAULT_OUT:
        more["out"] = options.out
    if request.budget_s:
        missing_s = sum(item.judgements[0].more_s or 0.0 for item in comparison.experiments)
        more["budget"] = f"{max(request.budget_s, round_up_budget_s(missing_s)) / 60:g}m"
    words += [word for name, value in more.items() if value is not None for word in (f"--{name}", str(value))]
    return " ".join(_quote(word) for word in words)


def _quote(word: str) -> str:
    """Quote a word for the shell; a secret is left to the variable that it may come from."""
    if hide_secret(word) == word:
        return shlex.quote(word)
    setting = word.partition("=")[0]
    return f'{setting}="${setting.removeprefix("env.")}"'


def _parse_images(options: argparse.Namespace) -> tuple[str, str] | None:
    """Return the two images that the arms name, None where they name other settings; a mix is refused."""
    images = [item.removeprefix("image=") for item in (*options.a, *options.b) if item.startswith("image=")]
    if not images:
        return None
    if not len(options.a) == len(options.b) == 1 or len(set(images)) != 2:  # noqa: PLR2004 - one image an arm
        raise UserError("images are compared alone: write --a image=ONE --b image=OTHER, and what is common with --set")
    return images[0], images[1]


def _compare_images(images: tuple[str, str], options: argparse.Namespace) -> int:
    """Measure two images, interleaved in containers, print the second against the first, and return the exit code."""
    from sdbench.containers.run_images import ImageRequest, run_images

    runs = run_images(read_plan_request(options), ImageRequest(images, gpus=options.gpus), options.out, show_progress)
    for problem in runs.problems:
        complain(problem)
    if len(runs.folders) != len(images):
        return runs.exit_code
    first, second = map(load_run, runs.folders)
    comparison = compare_runs(first, second, options.margin)
    code = show_comparison(comparison, options, kind="compared")
    return runs.exit_code or code
