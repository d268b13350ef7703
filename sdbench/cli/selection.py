"""From the options that ``run`` and ``plan`` share to what would run here."""

import argparse
from dataclasses import dataclass

from sdbench.plan.estimate import Estimate, estimate, reason_to_skip
from sdbench.plan.expand import expand, parse_settings
from sdbench.plan.manifest_file import LoadedManifest, load_manifest
from sdbench.probes.cgroup import count_usable_cpus
from sdbench.probes.devices import Device, choose_device
from sdbench.schema.outcome import Skipped
from sdbench.schema.record import PlannedExperiment, Request
from sdbench.units import parse_duration_s


@dataclass(frozen=True)
class Selection:
    """What is asked for, on which device, at which rough cost, and what cannot run there."""

    loaded: LoadedManifest
    request: Request
    device: Device
    planned: tuple[PlannedExperiment, ...]
    estimates: dict[str, Estimate]
    skipped: dict[str, Skipped]
    budget_s: float | None


def select(options: argparse.Namespace) -> Selection:
    """Return what the command line selects on this machine.

    Raises:
        UserError: the manifest or an option is wrong.
        EnvironmentProblem: the device asked for is not there.
    """
    loaded = load_manifest(options.manifest)
    assignments = [*options.settings, *([f"weights={options.weights}"] if options.weights else [])]
    settings = parse_settings(assignments)
    planned = expand(loaded, settings, options.only)
    budget_s = parse_duration_s(options.budget) if options.budget else None
    device = choose_device(options.device)
    cpu_count = count_usable_cpus()
    estimates = {item.experiment_id: estimate(item, device.kind, cpu_count) for item in planned}
    skipped = {}
    for item in planned:
        needed_bytes = estimates[item.experiment_id].memory_bytes
        skip = reason_to_skip(item.experiment, device.kind, device.memory_total_bytes, needed_bytes, cpu_count)
        if skip is not None:
            skipped[item.experiment_id] = skip
    request = Request(
        manifest_name=options.manifest.name,
        manifest_sha256=loaded.sha256,
        only=tuple(options.only),
        device=options.device,
        weights=options.weights,
        budget_s=budget_s,
        settings=tuple(options.settings),
    )
    return Selection(
        loaded=loaded,
        request=request,
        device=device,
        planned=planned,
        estimates=estimates,
        skipped=skipped,
        budget_s=budget_s or settings.protocol.get("budget_s") or loaded.manifest.protocol.budget_s,
    )
