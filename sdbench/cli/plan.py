"""``sdbench plan``: every experiment, what is skipped here and why, rough time and memory."""

import argparse
import json
from collections import Counter
from collections.abc import Sequence

from sdbench.cli.options import add_json_option, add_plan_options, add_results_option, read_plan_request
from sdbench.cli.output import complain, show
from sdbench.compare.resolution import describe_earlier_run
from sdbench.plan.budget import describe_total, expected_launches, warn_of_budget
from sdbench.plan.claim_coverage import find_unmet_claims
from sdbench.plan.make_plan import Plan, make_plan
from sdbench.schema.record import PlannedExperiment
from sdbench.units import format_bytes, format_count, format_duration


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    add_plan_options(parser)
    add_results_option(parser, "folder of earlier runs of this machine")
    add_json_option(parser)


def execute(options: argparse.Namespace) -> int:
    """Print the plan and return 0."""
    plan = make_plan(read_plan_request(options))
    if not options.only:
        experiments = [item.experiment for item in plan.planned]
        for problem in find_unmet_claims(plan.loaded.manifest.claims, experiments):
            complain(f"warning: {problem}")
    for warning in plan.device.warnings:
        complain(f"warning: {warning}")
    if (shortage := warn_of_budget(plan)) is not None:
        complain(f"warning: {shortage}")
    resolution = describe_earlier_run(plan, options.results)
    if options.json:
        show(json.dumps(plan_json(plan) | {"resolution": resolution}, indent=1))
    else:
        show(plan_text(plan))
        if resolution is not None:
            show(resolution)
    return 0


def plan_json(plan: Plan) -> dict[str, object]:
    """Return the plan as JSON types; times in s, memory in bytes."""
    counts = expected_launches(plan)
    return {
        "device": plan.device.torch_name,
        "budget_s": plan.budget_s,
        "experiments": [
            {
                **item.to_json_dict(),
                "estimate": plan.estimates[item.experiment_id].to_json_dict(),
                "expected_launches": counts.get(item.experiment_id, 0),
                "skipped": skip.to_json_dict() if (skip := plan.skipped.get(item.experiment_id)) else None,
            }
            for item in plan.planned
        ],
    }


def plan_text(plan: Plan) -> str:
    """Return the plan for people."""
    runnable = [item for item in plan.planned if item.experiment_id not in plan.skipped]
    width = max(len(item.label) for item in plan.planned)
    counts = expected_launches(plan)
    lines = [
        f"{plan.loaded.manifest.title}",
        f"device {plan.device.description}",
        f"{format_count(len(plan.planned), 'experiment')}, {len(runnable)} of them run here",
        "",
        f"{'experiment':16}  {'what':{width}}  {'launches':>14}  {'a launch':>9}  {'memory':>8}  groups",
    ]
    for item in plan.planned:
        cost = plan.estimates[item.experiment_id]
        skip = plan.skipped.get(item.experiment_id)
        if item.experiment.device not in ("any", plan.device.kind):
            continue
        if skip is not None:
            lines.append(f"{item.experiment_id}  {item.label:{width}}  skipped: {skip.reason}; {skip.hint}")
            continue
        launches = f"{counts[item.experiment_id]} of {item.protocol.launches_min}-{item.protocol.launches_max}"
        lines.append(
            f"{item.experiment_id}  {item.label:{width}}  {launches:>14}  {format_duration(cost.launch_s):>9}"
            f"  {format_bytes(cost.memory_bytes):>8}  {', '.join(item.groups)}"
            f"{'' if cost.fits else '  (more than the GPU has: to be tried once)'}"
        )
    kinds = (item.experiment.device for item in plan.planned)
    elsewhere = Counter(kind for kind in kinds if kind not in ("any", plan.device.kind))
    lines += [f"{count} more are for {kind}: --device {kind}" for kind, count in elsewhere.items()]
    lines += [
        "",
        f"total: {describe_total(plan)}",
        f"times are rough, from {_describe_rates(plan, runnable)}; the first launch corrects them",
    ]
    return "\n".join(lines)


def _describe_rates(plan: Plan, runnable: Sequence[PlannedExperiment]) -> str:
    """Return what the times of a plan are from: what earlier runs reached here, or what is known of such devices."""
    source = "the GPU's multiprocessors and clock" if plan.device.kind == "cuda" else "FLOP and typical rates"
    measured = sum(plan.estimates[item.experiment_id].measured_rate for item in runnable)
    rest = f", and for the other {len(runnable) - measured} from {source}" if measured < len(runnable) else ""
    return f"this machine's measured rate{rest}" if measured else source
