"""Options that several commands share, and the readers of their values."""

import argparse
from collections.abc import Iterable
from functools import partial
from pathlib import Path

from sdbench.cli.print_comparison import DEFAULT_FAILURES, parse_failures
from sdbench.cli.run_folders import read_place
from sdbench.errors import UserError
from sdbench.plan.make_plan import ALL_DEVICES, PlanRequest
from sdbench.units import parse_duration_s, parse_ratio

COUNT_MAX = 10_000
_SELECTION = ("manifest", "only", "device", "weights", "budget", "set", "operators", "trace")
# Of containers, and of runs outside of them.
CONTAINER_LIMITS = ("gpus", "cpus", "memory")
_OUTSIDE = ("rounds", "fresh", "json", "quiet", "price", "prices")
# Settings by the options that are short for them.
_SHORTHANDS = {"operators": "protocol.operators=always", "trace": "protocol.trace=true"}
DEFAULT_OUT = Path("results")
RUN_HELP = "run folder, record, or a query: 'FROM runs WHERE ...'"
RUNS_HELP = "run, folder of runs, or a query: 'FROM runs WHERE ...'"


def read_count(text: str, least: int = 1, most: int = COUNT_MAX) -> int:
    """Return the integer that ``text`` spells.

    Raises:
        argparse.ArgumentTypeError: it is not an integer from ``least`` to ``most``.
    """
    if not text.isascii() or not text.isdecimal() or not least <= int(text[:9]) <= most:
        raise argparse.ArgumentTypeError(f"invalid count {text!r}: expected an integer from {least:,} to {most:,}")
    return int(text)


def add_repeatable_option(parser: argparse._ActionsContainer, name: str, metavar: str, text: str) -> None:
    """Add an option that may be repeated; its value is a list."""
    parser.add_argument(name, action="append", default=[], metavar=metavar, help=f"{text}; may be repeated")


def add_plan_options(parser: argparse.ArgumentParser, *, optional: bool = False) -> None:
    """Add the manifest, which may be ``optional``, and the options that choose and change its experiments."""
    parser.add_argument(
        "manifest",
        nargs="?" if optional else None,
        metavar="MANIFEST",
        help="a file, or the name of a shipped manifest such as quick",
    )
    add_repeatable_option(parser, "--only", "ID", "only this group or experiment")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:N; run: cuda:all (default: auto)")
    parser.add_argument("--weights", choices=("synthetic", "pretrained"), help="override the manifest's weights")
    parser.add_argument("--budget", type=parse_duration_s, metavar="TIME", help="approximate time limit, such as 20m")
    add_repeatable_option(parser, "--set", "KEY=VALUE", "set an option of every experiment, or protocol.KEY")


def add_profile_options(parser: argparse.ArgumentParser) -> None:
    """Add whether a call is profiled however long it takes, and whether its trace is kept."""
    parser.add_argument("--operators", action="store_true", help="profile a further call even if it takes over 20 s")
    parser.add_argument("--trace", action="store_true", help="keep the trace of the profiled call, for Perfetto")


def read_plan_request(options: argparse.Namespace) -> PlanRequest:
    """Return the request that the options of ``add_plan_options`` and ``add_profile_options`` make."""
    shorthands = (setting for name, setting in _SHORTHANDS.items() if getattr(options, name, False))
    return PlanRequest(
        manifest=options.manifest,
        only=tuple(options.only),
        settings=(*options.set, *shorthands),
        device=options.device,
        weights=options.weights,
        budget_s=options.budget,
    )


def add_session_options(parser: argparse.ArgumentParser, what: str) -> None:
    """Add the options of commands that measure arms, interleaved; ``what`` is what an unfinished one is called."""
    parser.add_argument(
        "--seed", type=int, metavar="N", help="seed of the order of the arms (default: random, recorded)"
    )
    add_out_option(parser)
    parser.add_argument("--fresh", action="store_true", help=f"start over instead of continuing an unfinished {what}")
    parser.add_argument("--gpus", default="", metavar="all|device=N", help="the GPUs of containers (image=NAME)")
    parser.add_argument("--quiet", action="store_true", help="no progress")


def add_out_option(parser: argparse.ArgumentParser) -> None:
    """Add ``--out``, the folder that run folders go into."""
    parser.add_argument(
        "--out", type=Path, default=DEFAULT_OUT, metavar="DIR", help="folder for runs (default: %(default)s)"
    )


def add_runs_argument(parser: argparse.ArgumentParser, text: str = RUN_HELP) -> None:
    """Add the runs that a command reads, and the folder that queries read."""
    parser.add_argument("runs", nargs="+", type=read_place, metavar="RUN", help=text)
    add_results_option(parser)


def add_results_option(parser: argparse.ArgumentParser, text: str = "folder of runs that a query reads") -> None:
    """Add ``--results``, the folder that queries read."""
    text = f"{text} (default: %(default)s)"
    parser.add_argument("--results", type=Path, default=DEFAULT_OUT, metavar="DIR", help=text)


def add_where_option(parser: argparse.ArgumentParser) -> None:
    """Add ``--where``, conditions on the runs."""
    text = "only runs whose gpu, device, driver, torch, ... contains this text"
    add_repeatable_option(parser, "--where", "NAME=TEXT", text)


def add_json_option(parser: argparse._ActionsContainer) -> None:
    """Add ``--json``."""
    parser.add_argument("--json", action="store_true", help="print JSON")


def add_price_options(parser: argparse.ArgumentParser) -> None:
    """Add the price of an hour of a machine."""
    parser.add_argument("--price", metavar="PRICE", help="price of your machine, for example 1.10/h or '1.10 EUR/h'")
    parser.add_argument("--prices", type=Path, metavar="FILE", help="YAML file of prices by parts of machine names")


def add_margin_option(parser: argparse.ArgumentParser) -> None:
    """Add ``--margin``, the largest ratio of a change that is ignored."""
    margin = partial(parse_ratio, name="--margin")
    parser.add_argument(
        "--margin", type=margin, default="2%", metavar="RATIO", help="ignore smaller changes (default: 2%%)"
    )


def add_verdict_options(parser: argparse.ArgumentParser) -> None:
    """Add the margin of a verdict, and the verdicts that set the exit code."""
    add_margin_option(parser)
    parser.add_argument(
        "--fail-on",
        type=parse_failures,
        default=DEFAULT_FAILURES,
        metavar="VERDICTS",
        help="verdicts that set the exit code: slower, more (memory or energy), inconclusive, incomparable "
        "(default: all but more); '' for none",
    )
    parser.add_argument("--why", action="store_true", help="also the operators that make the difference, by phase")
    output = parser.add_mutually_exclusive_group()
    output.add_argument(
        "--format",
        choices=("text", "markdown"),
        default="text",
        help="markdown: verdicts and reasons for a pull request (default: %(default)s)",
    )
    add_json_option(output)


def refuse_ignored(options: argparse.Namespace, names: Iterable[str], why: str) -> None:
    """Raise a UserError for the first of the named options that is set, because it would change nothing."""
    for name in names:
        value = getattr(options, name)
        if not (value is None or value is False or value in ("", [], "auto")):
            raise UserError(f"{'MANIFEST' if name == 'manifest' else f'--{name}'} {why}; remove it")


def check_run_options(options: argparse.Namespace) -> None:
    """Raise a UserError for an option of ``sdbench run`` that is missing or would be ignored."""
    if options.manifest is None and not options.attach:
        raise UserError("MANIFEST is missing: name a file, or a shipped manifest such as quick")
    if options.attach:
        refuse_ignored(options, (*_SELECTION, "image", *CONTAINER_LIMITS, *_OUTSIDE), "does not apply with --attach")
    elif options.image:
        refuse_ignored(options, _OUTSIDE, "does not apply with --image")
    else:
        refuse_ignored(options, ("host", *CONTAINER_LIMITS), "applies only with --image")
        if options.device == ALL_DEVICES:
            refuse_ignored(options, ("rounds", "price", "prices"), f"does not apply with --device {ALL_DEVICES}")


def add_signature_options(parser: argparse.ArgumentParser) -> None:
    """Add whose signatures are trusted."""
    parser.add_argument("--signers", type=Path, metavar="FILE", help="allowed signers, in the format of ssh-keygen")
    parser.add_argument("--signed", action="store_true", help="refuse runs that none of them signed")
