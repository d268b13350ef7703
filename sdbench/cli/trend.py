"""``sdbench trend``: one machine over the versions of its driver, or of anything else in the fingerprint."""

import argparse
import json
from collections.abc import Iterator

from sdbench.cli.filters import parse_conditions
from sdbench.cli.options import RUNS_HELP, add_json_option, add_margin_option, add_runs_argument, add_where_option
from sdbench.cli.output import show
from sdbench.cli.run_folders import named_runs
from sdbench.compare.trends import ExperimentTrend, find_trend
from sdbench.compare.wording import describe_there, explain, format_change, format_interval, name_verdict
from sdbench.errors import UserError
from sdbench.store.bundle import load_record
from sdbench.units import format_duration

_COMPANIONS_SHOWN = 5


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    add_runs_argument(parser, RUNS_HELP)
    parser.add_argument("--by", default="driver", metavar="FIELD", help="driver, torch, cuda, image or a field of diff")
    add_where_option(parser)
    add_margin_option(parser)
    add_json_option(parser)


def execute(options: argparse.Namespace) -> int:
    """Print each experiment's versions, and the steps between them with a verdict each."""
    wanted = parse_conditions(options.where)
    records = [record for path in named_runs(options.runs, options.results) if wanted(record := load_record(path))]
    if not records:
        raise UserError("no run meets every --where; 'sdbench query' lists what the runs have")
    trend = find_trend(records, options.by, options.margin)
    if options.json:
        show(json.dumps(trend.to_json_dict()))
        return 0
    mark = " VIRTUAL" if trend.origin == "virtual" else ""
    show(f"{trend.device_name}{mark}: {len(trend.versions)} versions of {trend.by}, margin {trend.margin:.1%}")
    if trend.also:
        shown = ", ".join(trend.also[:_COMPANIONS_SHOWN]) + (", ..." if len(trend.also) > _COMPANIONS_SHOWN else "")
        show(f"{len(trend.also)} other fields changed with {trend.by} ({shown}); the cause may be any of them")
    for experiment in trend.experiments:
        show()
        show(f"{experiment.label} ({experiment.method})")
        for line in _lines(experiment):
            show(f"  {line}")
    if not trend.experiments:
        show("no experiment was measured in two versions")
    return 0


def _lines(experiment: ExperimentTrend) -> Iterator[str]:
    for point in experiment.points:
        sessions = f"{point.session_count} session{'s' * (point.session_count != 1)}"
        remark = f"  warned: {', '.join(point.failed_checks)}" if point.failed_checks else ""
        yield f"{point.version:20} {format_duration(point.latency_s):>10}  {sessions}{remark}"
    for reason in experiment.left_out:
        yield f"left out: {reason}"
    for session in experiment.odd_sessions:
        yield f"possible outlier or change: {session}; one session cannot show which, so measure that version again"
    for step in experiment.steps:
        judgement = step.judgement
        change = "" if judgement.ratio is None else f"{format_change(judgement.ratio)} [{format_interval(judgement)}]"
        reason = f" ({text})" if (text := explain(judgement)) else ""
        yield f"{step.before} -> {step.after}: {name_verdict(judgement)} {change}{reason}"
        if judgement.verdict != "same":
            changes = describe_there(step.changes, step.moved, _COMPANIONS_SHOWN)
            yield f"  also changed there: {changes or 'nothing that is known'}"
    if not experiment.steps:
        yield "no change detected" if len(experiment.points) > 1 else "fewer than two versions measured it"
