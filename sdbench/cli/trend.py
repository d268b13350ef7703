"""``sdbench trend``: one machine over the versions of its driver, or of anything else in the fingerprint."""

import argparse
import json
from collections.abc import Iterator

from sdbench.cli.runs import named_runs
from sdbench.compare.trends import ExperimentTrend, Trend, find_trend
from sdbench.compare.wording import explain, format_change, format_interval, name_verdict
from sdbench.store.bundle import load_record
from sdbench.units import format_duration, parse_ratio, printable

_COMPANIONS_SHOWN = 5


def execute(options: argparse.Namespace) -> int:
    """Print each experiment's versions, and the steps between them with a verdict each."""
    margin = parse_ratio(options.margin, "--margin")
    trend = find_trend([load_record(path) for path in named_runs(options.runs, options.results)], options.by, margin)
    if options.json:
        print(json.dumps(trend.to_json_dict()))
        return 0
    mark = " VIRTUAL" if trend.origin == "virtual" else ""
    print(f"{trend.device_name}{mark}: {len(trend.versions)} versions of {trend.by}, margin {trend.margin:.1%}")
    if trend.also:
        shown = ", ".join(trend.also[:_COMPANIONS_SHOWN]) + (", ..." if len(trend.also) > _COMPANIONS_SHOWN else "")
        print(f"not only {trend.by} changed: {len(trend.also)} more fields did ({shown}); do not blame it alone")
    for experiment in trend.experiments:
        print()
        print(printable(f"{experiment.label} ({experiment.method})"))
        for line in _lines(experiment):
            print(printable(f"  {line}"))
    _say_if_empty(trend)
    return 0


def _lines(experiment: ExperimentTrend) -> Iterator[str]:
    for point in experiment.points:
        sessions = f"{point.session_count} session{'s' * (point.session_count != 1)}"
        remark = f"  doubts: {', '.join(point.doubts)}" if point.doubts else ""
        yield f"{point.version:20} {format_duration(point.latency_s):>10}  {sessions}{remark}"
    for reason in experiment.left_out:
        yield f"left out: {reason}"
    for step in experiment.steps:
        judgement = step.judgement
        change = "" if judgement.ratio is None else f"{format_change(judgement.ratio)} [{format_interval(judgement)}]"
        reason = f" ({text})" if (text := explain(judgement)) else ""
        yield f"{step.before} -> {step.after}: {name_verdict(judgement)} {change}{reason}"
    if not experiment.steps:
        yield "no change of level was found" if len(experiment.points) > 1 else "fewer than two versions measured it"


def _say_if_empty(trend: Trend) -> None:
    if not trend.experiments:
        print("no experiment was measured in two versions")
