"""``sdbench plan``: every experiment, what is skipped here and why, rough time and memory."""

import argparse
import json

from sdbench.cli.selection import Selection, select
from sdbench.units import format_bytes, format_duration


def execute(options: argparse.Namespace) -> int:
    """Print the plan and return 0."""
    selection = select(options)
    print(json.dumps(plan_json(selection), indent=1) if options.json else plan_text(selection))
    return 0


def plan_json(selection: Selection) -> dict[str, object]:
    """Return the plan as JSON types; times in s, memory in bytes."""
    return {
        "device": selection.device.torch_name,
        "budget_s": selection.budget_s,
        "experiments": [
            {
                **item.to_json_dict(),
                "estimate": selection.estimates[item.experiment_id].to_json_dict(),
                "skipped": skip.to_json_dict() if (skip := selection.skipped.get(item.experiment_id)) else None,
            }
            for item in selection.planned
        ],
    }


def plan_text(selection: Selection) -> str:
    """Return the plan for people."""
    runnable = [item for item in selection.planned if item.experiment_id not in selection.skipped]
    width = max(len(item.label) for item in selection.planned)
    lines = [
        f"{selection.loaded.manifest.title}",
        f"device {selection.device.torch_name} ({selection.device.name})",
        f"{len(selection.planned)} experiments, {len(runnable)} of them run here",
        "",
        f"{'experiment':16}  {'what':{width}}  {'launches':>8}  {'a launch':>9}  {'memory':>8}  groups",
    ]
    least_s = most_s = 0.0
    for item in selection.planned:
        cost = selection.estimates[item.experiment_id]
        skip = selection.skipped.get(item.experiment_id)
        if skip is not None:
            lines.append(f"{item.experiment_id}  {item.label:{width}}  skipped: {skip.reason}; {skip.remedy}")
            continue
        protocol = item.protocol
        least_s += protocol.launches_min * cost.launch_s
        most_s += protocol.launches_max * cost.launch_s
        launches = f"{protocol.launches_min}-{protocol.launches_max}"
        lines.append(
            f"{item.experiment_id}  {item.label:{width}}  {launches:>8}  {format_duration(cost.launch_s):>9}"
            f"  {format_bytes(cost.memory_bytes):>8}  {', '.join(item.groups)}"
        )
    budget = f"; the budget ends it at {format_duration(selection.budget_s)}" if selection.budget_s else ""
    lines += [
        "",
        f"in all about {format_duration(least_s)} to {format_duration(most_s)}{budget}",
        "times and memory are rough, from the architecture alone: within a factor of three",
    ]
    return "\n".join(lines)
