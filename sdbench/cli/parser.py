"""The options of every command."""

import argparse
import shlex
from pathlib import Path

from sdbench import __version__
from sdbench.cli.places import add_results_option, read_place

MAX_COUNT = 10_000
# Fewer tell nothing about rates of 0.1 %; more need more memory than they tell.
TRIALS_MIN, TRIALS_MAX = 1_000, 200_000
_RUN_HELP = "run folder, record, or a query: 'FROM runs WHERE ...'"
_RUNS_HELP = "run, folder of runs, or a query: 'FROM runs WHERE ...'"

EPILOG = """exit codes:
  0    all well
  2    your input is wrong: one line says what and where
  3    this machine lacks something: one line says what and the remedy
  4    the run ended, but some experiment failed or timed out; its record is complete
  10   compare, ab: the candidate is slower somewhere (--fail-on chooses what makes 10, 11 and 12)
  11   compare, ab: inconclusive somewhere
  12   compare, ab: something cannot be compared
  130  interrupted; what was finished is sealed, and the same command continues
"""


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of all commands."""
    parser = argparse.ArgumentParser(
        prog="sdbench",
        description="Measure Stable Diffusion inference, and keep a record that others can repeat and trust.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"sdbench {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    _add_run(commands)
    plan = commands.add_parser(
        "plan", help="show every experiment, what is skipped here and why, and rough time and memory"
    )
    _add_selection(plan)
    plan.add_argument("--json", action="store_true", help="print JSON")
    fetch = commands.add_parser(
        "fetch", help="download the pinned weights of a manifest, for measuring without network"
    )
    fetch.add_argument("--check", action="store_true", help="only say what is missing; exit code 1 if anything is")
    _add_run_options(fetch)
    _add_launch(commands)
    _add_fleet(commands)
    validate = commands.add_parser("validate", help="check manifests and records")
    validate.add_argument("files", nargs="+", type=Path, metavar="FILE", help="manifest, record or run folder")
    schema = commands.add_parser("schema", help="print a JSON Schema, for editors")
    schema.add_argument("what", choices=("manifest", "record"))
    report = commands.add_parser("report", help="write one HTML file about one or more runs")
    report.add_argument("runs", nargs="+", type=read_place, metavar="RUN", help=_RUN_HELP)
    report.add_argument("--out", type=Path, metavar="FILE", help="default: report.html; Markdown on standard output")
    report.add_argument(
        "--format",
        choices=("html", "markdown", "text"),
        default="html",
        help="the page; or its answers and verdicts on standard output, for a pull request or a terminal (default: "
        "%(default)s)",
    )
    report.add_argument("--figures", type=Path, metavar="DIR", help="write each chart there as SVG and PNG too")
    _add_prices(report)
    add_results_option(report)
    site = commands.add_parser("site", help="write a static site of many runs, with a feed of regressions")
    site.add_argument("runs", nargs="+", type=read_place, metavar="RUN", help=_RUNS_HELP)
    site.add_argument("--out", type=Path, required=True, metavar="DIR", help="where the site goes")
    add_results_option(site)
    _add_compare(commands)
    _add_ab(commands)
    _add_claims(commands)
    _add_import(commands)
    _add_export(commands)
    _add_publishing(commands)
    _add_index(commands)
    doctor = commands.add_parser("doctor", help="show what this machine has and lacks, each lack with its remedy")
    doctor.add_argument("--json", action="store_true", help="print JSON")
    fingerprint = commands.add_parser("fingerprint", help="show what a record would say about this machine")
    fingerprint.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N (default: %(default)s)")
    fingerprint.add_argument("--json", action="store_true", help="print JSON")
    return parser


def _add_run(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    run = commands.add_parser("run", help="run a manifest, or continue where it stopped")
    _add_run_options(run)
    # What --device cuda:all tells the processes that it starts.
    run.add_argument("--device-group", help=argparse.SUPPRESS)


def _add_run_options(run: argparse.ArgumentParser) -> None:
    """Add the options of ``run``, which ``fetch`` takes too: one command line serves both."""
    _add_selection(run)
    run.add_argument(
        "--out", type=Path, default=Path("results"), metavar="DIR", help="where run folders go (default: %(default)s)"
    )
    run.add_argument(
        "--rounds", type=_read_count, metavar="N", help="stop after N more launches of each experiment; to be continued"
    )
    run.add_argument("--fresh", action="store_true", help="start anew instead of continuing an unfinished run")
    _add_prices(run)
    output = run.add_mutually_exclusive_group()
    output.add_argument("--quiet", action="store_true", help="print only the paths of record and report")
    output.add_argument("--json", action="store_true", help="print one JSON object per event, and the paths at the end")


def _add_launch(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    launch = commands.add_parser("launch", help="run a manifest in containers, on several images and hosts")
    launch.add_argument("manifest", type=Path, nargs="?", metavar="MANIFEST")
    launch.add_argument(
        "--image",
        action="append",
        default=[],
        metavar="IMAGE",
        help="cpu or cuda (built from this checkout), or an image to pull; several are measured in turns",
    )
    launch.add_argument(
        "--host",
        action="append",
        default=[],
        metavar="ssh://USER@NAME",
        help="another machine's Docker",
    )
    launch.add_argument("--launch-id", help=argparse.SUPPRESS)
    launch.add_argument("--attach", action="store_true", help="collect what an earlier launch left running")
    launch.add_argument("--gpus", default="", metavar="all|device=N", help="the NVIDIA GPUs to pass through")
    launch.add_argument("--cpus", default="", metavar="LIST", help="the CPUs to run on, for example 0-7")
    launch.add_argument("--memory", default="", metavar="SIZE", help="the memory limit, for example 16g")
    launch.add_argument(
        "--out", type=Path, default=Path("results"), metavar="DIR", help="where run folders go (default: %(default)s)"
    )
    launch.add_argument(
        "--args",
        type=shlex.split,
        default=[],
        dest="arguments",
        metavar="'OPTIONS'",
        help="options of sdbench run, for example '--budget 20m --only latency'",
    )


def _add_fleet(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    fleet = commands.add_parser("fleet", help="run a manifest on one machine of each kind of a cluster")
    fleet.add_argument("manifest", type=Path, metavar="MANIFEST")
    fleet.add_argument(
        "--engine",
        choices=("ray", "slurm", "kubernetes"),
        required=True,
        help="who has the machines; kubernetes prints Jobs to apply",
    )
    fleet.add_argument("--kinds", default="", metavar="A100,H100", help="kinds of machines (default: all there are)")
    fleet.add_argument("--image", metavar="IMAGE", help="the container image to measure in, on every machine")
    fleet.add_argument("--address", help="of the Ray cluster (default: the one of this machine)")
    fleet.add_argument(
        "--sbatch", type=shlex.split, default=[], metavar="'OPTIONS'", help="options of sbatch, for example '-p gpu'"
    )
    fleet.add_argument(
        "--out", type=Path, default=Path("results"), metavar="DIR", help="where records go (default: %(default)s)"
    )
    fleet.add_argument("--fresh", action="store_true", help="begin anew although the same command did not end")
    fleet.add_argument(
        "--args", type=shlex.split, default=[], dest="arguments", metavar="'OPTIONS'", help="options of sdbench run"
    )


def _add_compare(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    compare = commands.add_parser("compare", help="candidate against baseline: faster, slower, same, with an interval")
    for side in ("baseline", "candidate"):
        compare.add_argument(
            side, type=read_place, metavar=side.upper(), help="run, folder with a run per session, or a query"
        )
    _add_judging(compare)
    compare.add_argument(
        "--store",
        "--results",
        type=Path,
        default=Path("results"),
        metavar="DIR",
        help="runs that queries look into, and to learn from how sessions of this machine vary (default: %(default)s)",
    )
    compare.add_argument("--force", action="store_true", help="read records that were changed; the result is marked")
    trend = commands.add_parser("trend", help="one machine over the versions of its driver, torch, image, ...")
    trend.add_argument("runs", nargs="+", type=read_place, metavar="RUN", help=_RUNS_HELP)
    trend.add_argument(
        "--by", default="driver", metavar="FIELD", help="driver, torch, cuda, image, or any field of diff"
    )
    trend.add_argument("--margin", default="2%", metavar="SHARE", help="what is too small to matter (default: 2%%)")
    trend.add_argument("--json", action="store_true", help="print JSON")
    add_results_option(trend)
    selfcheck = commands.add_parser("selfcheck", help="how far sdbench itself can be trusted on this machine, now")
    selfcheck.add_argument("--budget", default="5m", metavar="TIME", help="about how long (default: %(default)s)")
    selfcheck.add_argument("--trials", type=_read_trials, default=20_000, metavar="N", help="simulated per noise model")
    selfcheck.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N (default: %(default)s)")
    selfcheck.add_argument("--out", type=Path, metavar="FILE.md", help="write the page there instead of printing it")
    selfcheck.add_argument("--quiet", action="store_true", help="no progress")
    selfcheck.add_argument("--json", action="store_true", help="JSON instead of the page")
    diff = commands.add_parser("diff", help="what differs between the fingerprints of two runs")
    for side in ("baseline", "candidate"):
        diff.add_argument(side, type=Path, metavar="RUN")
    diff.add_argument("--json", action="store_true", help="print JSON")


def _add_judging(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--margin", default="2%", metavar="SHARE", help="what is too small to matter (default: 2%%)")
    parser.add_argument(
        "--fail-on",
        metavar="VERDICTS",
        help="which verdicts make an exit code: slower, more (memory or energy), inconclusive, incomparable "
        "(default: all but more); '' for none",
    )
    parser.add_argument("--json", action="store_true", help="print JSON")


def _add_ab(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    ab = commands.add_parser("ab", help="measure two settings in turns, until it is clear which is faster")
    _add_selection(ab)
    for side in ("a", "b"):
        ab.add_argument(
            f"--{side}",
            action="append",
            default=[],
            metavar="KEY=VALUE",
            help=f"an option of side {side}, or env.NAME=VALUE, may be repeated; or image=NAME alone",
        )
    ab.add_argument("--seed", type=int, metavar="N", help="of the order of the turns (default: drawn and recorded)")
    ab.add_argument(
        "--out", type=Path, default=Path("results"), metavar="DIR", help="where run folders go (default: %(default)s)"
    )
    ab.add_argument("--gpus", default="", metavar="all|device=N", help="the GPUs of images compared with image=NAME")
    ab.add_argument("--quiet", action="store_true", help="no progress")
    _add_judging(ab)


def _add_claims(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    claims = commands.add_parser("claims", help="hold what a source claims against what runs measured")
    claims.add_argument("runs", nargs="+", type=read_place, metavar="RUN", help=_RUN_HELP)
    claims.add_argument("--manifest", type=Path, help="take the claims from this manifest, not from the runs' own")
    claims.add_argument("--json", action="store_true", help="print JSON")
    add_results_option(claims)


def _add_import(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    imported = commands.add_parser("import", help="turn a CSV file of the 2022 study's tool into records")
    imported.add_argument("file", type=Path, metavar="FILE.csv")
    imported.add_argument(
        "--out", type=Path, default=Path("results"), metavar="DIR", help="where folders go (default: %(default)s)"
    )
    imported.add_argument(
        "--steps", type=int, metavar="N", help="steps of every figure (default: 50), or the rows to take of a column"
    )
    imported.add_argument("--title", help="title of the records")
    imported.add_argument(
        "--manifest", type=Path, metavar="MANIFEST", help="give the records its source and its claims"
    )
    imported.add_argument("--keep-going", action="store_true", help="import the good rows although others are wrong")


def _add_export(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    export = commands.add_parser("export", help="write records as a CSV file of the 2022 study's tool")
    export.add_argument("runs", nargs="+", type=read_place, metavar="RUN", help=_RUN_HELP)
    export.add_argument("--format", choices=("lambda-csv",), default="lambda-csv", help="default: %(default)s")
    export.add_argument("--out", type=Path, default=Path("-"), metavar="FILE", help="- is standard output (default)")
    export.add_argument(
        "--dialect",
        choices=("plain", "header", "full"),
        default="full",
        help="as in 2022; with a header; with autocast and xformers too (default: %(default)s)",
    )
    export.add_argument("--steps", type=int, metavar="N", help="only experiments of N steps")
    add_results_option(export)


def _add_publishing(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    publish = commands.add_parser("publish", help="put what may leave of runs into a folder or a store, for others")
    publish.add_argument("runs", nargs="+", type=read_place, metavar="RUN", help=_RUNS_HELP)
    publish.add_argument("destination", metavar="DEST", help="a folder, s3://BUCKET/FOLDER, or any URL fsspec knows")
    publish.add_argument("--sign", type=Path, metavar="KEY", help="sign with this SSH key")
    add_results_option(publish)
    preview = commands.add_parser("preview-export", help="show exactly what publish would send, and what stays")
    preview.add_argument("run", type=Path, metavar="RUN", help="run folder")
    preview.add_argument("--out", type=Path, metavar="FILE.zip", help="write the bundle there instead of printing")
    pull = commands.add_parser("pull", help="fetch published runs, each into a folder of its own")
    pull.add_argument("source", metavar="SRC", help="where they were published")
    pull.add_argument(
        "--where",
        action="append",
        default=[],
        metavar="NAME=TEXT",
        help="only runs whose gpu, driver, torch, ... contains this text; may be repeated",
    )
    pull.add_argument(
        "--out", type=Path, default=Path("results"), metavar="DIR", help="where run folders go (default: %(default)s)"
    )
    verify = commands.add_parser("verify", help="say what is proven of a run, and what is not")
    verify.add_argument("runs", nargs="+", metavar="RUN|FILE|URL", help="run folder, bundle, or URL of a bundle")
    verify.add_argument("--image", metavar="sha256:...", help="the image that it must have run in")
    verify.add_argument("--format", choices=("text", "json", "in-toto"), default="text", help="default: %(default)s")
    for parser in (pull, verify):
        parser.add_argument(
            "--signers", type=Path, metavar="FILE", help="allowed signers, as ssh-keygen describes them"
        )
        parser.add_argument("--signed", action="store_true", help="refuse what none of them signed")


def _add_index(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    index = commands.add_parser("index", help="index a folder of runs, for queries; only what changed is read")
    index.add_argument("results", type=Path, nargs="?", default=Path("results"), help="default: %(default)s")
    query = commands.add_parser("query", help="SQL over runs, results and samples; without SQL a summary")
    query.add_argument("sql", nargs="?", metavar="SQL", help="tables: runs, experiments, series, results, samples")
    add_results_option(query)
    query.add_argument("--format", choices=("table", "csv", "json"), default="table", help="default: %(default)s")
    query.add_argument("--schema", action="store_true", help="print the tables and their columns")


def _add_prices(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--price", metavar="PRICE", help="of your machine, for example 1.10/h or '1.10 EUR/h'")
    parser.add_argument(
        "--prices", type=Path, metavar="FILE", help="YAML: part of a machine's name to its price, for several machines"
    )


def _read_count(text: str) -> int:
    if not text.isascii() or not text.isdecimal() or not 0 < int(text) < MAX_COUNT:
        raise argparse.ArgumentTypeError(f"{text!r} is no count; write a whole number from 1")
    return int(text)


def _read_trials(text: str) -> int:
    if not text.isascii() or not text.isdecimal() or not TRIALS_MIN <= int(text) <= TRIALS_MAX:
        raise argparse.ArgumentTypeError(f"{text!r} is not between {TRIALS_MIN:,} and {TRIALS_MAX:,}")
    return int(text)


def _add_selection(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("manifest", type=Path, metavar="MANIFEST")
    parser.add_argument(
        "--only", action="append", default=[], metavar="ID", help="only this group or experiment; may be repeated"
    )
    parser.add_argument(
        "--device", default="auto", help="auto, cpu, cuda or cuda:N; run: cuda:all (default: %(default)s)"
    )
    parser.add_argument("--weights", choices=("synthetic", "pretrained"), help="instead of what the manifest says")
    parser.add_argument("--budget", metavar="TIME", help="end the run within about this time, for example 20m")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        dest="settings",
        metavar="KEY=VALUE",
        help="set an option of every experiment, or protocol.KEY",
    )
