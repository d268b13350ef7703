"""From a request to the experiments that would run on this machine, with their rough cost."""

from dataclasses import dataclass, field, replace
from pathlib import Path

from sdbench.models.user_pipelines import load_own
from sdbench.plan.estimate import CostEstimate, estimate
from sdbench.plan.expand import expand, parse_settings
from sdbench.plan.machine import describe_machine
from sdbench.plan.manifest_file import LoadedManifest, load_manifest
from sdbench.plan.own_pipelines import name_pipeline
from sdbench.plan.rates import read_rates
from sdbench.plan.shipped import find_manifest
from sdbench.plan.skips import reason_to_skip
from sdbench.probes.devices import Device, choose_device
from sdbench.schema.outcome import Skipped
from sdbench.schema.pipeline import OwnPipeline
from sdbench.schema.record import PlannedExperiment, Request
from sdbench.store.cache_folder import cache_folder

# The device of a request for each GPU of the host, one after the other.
ALL_DEVICES = "cuda:all"


@dataclass(frozen=True)
class PlanRequest:
    """What to measure: a manifest, by path or shipped name, and what to change of it.

    Attributes:
        manifest: a path, or the name of a manifest that ships with sdbench, such as ``quick``.
        only: groups or experiment ids (their first characters); empty means all.
        settings: options of every experiment, ``KEY=VALUE`` or ``protocol.KEY=VALUE``.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
        weights: ``synthetic`` or ``pretrained`` instead of the manifest's value.
        budget_s: the time (s) within which the run should end.
    """

    manifest: Path | str
    only: tuple[str, ...] = ()
    settings: tuple[str, ...] = ()
    device: str = "auto"
    weights: str | None = None
    budget_s: float | None = None

    @property
    def assignments(self) -> list[str]:
        """The settings, with the weights as one of them."""
        return [*self.settings, *([f"weights={self.weights}"] if self.weights else [])]


@dataclass(frozen=True)
class Plan:
    """The experiments of a request on this machine, their rough cost, and which cannot run here."""

    loaded: LoadedManifest
    request: Request
    device: Device
    planned: tuple[PlannedExperiment, ...]
    estimates: dict[str, CostEstimate]
    skipped: dict[str, Skipped]
    budget_s: float | None
    pipelines: dict[str, OwnPipeline] = field(default_factory=dict)


def request_arguments(request: PlanRequest) -> list[str]:
    """Return the options of ``sdbench run`` that are equivalent to a request, without the manifest."""
    budget = f"{request.budget_s}s" if request.budget_s else None
    single = {"--device": request.device, "--weights": request.weights, "--budget": budget}
    return [
        *(f"--only={text}" for text in request.only),
        *(f"--set={text}" for text in request.settings),
        *(f"{name}={value}" for name, value in single.items() if value),
    ]


def name_own_pipeline(request: PlanRequest, loaded: LoadedManifest, *, ask_hub: bool = True) -> PlanRequest:
    """Return a request in which a pipeline that is not shipped has its name instead of a path.

    Unless ``ask_hub``, the manifest's pipeline stands for one of a repository.

    Raises:
        UserError: the path or the repository has no pipeline that can be measured.
        EnvironmentProblem: the repository is not available, or the cache cannot be written.
    """
    settings = name_pipeline(request.settings, request.weights, loaded.manifest, cache_folder(), ask_hub=ask_hub)
    return replace(request, settings=tuple(settings))


def expand_request(request: PlanRequest) -> tuple[PlannedExperiment, ...]:
    """Return the experiments of a request, without looking at this machine or asking the hub.

    Raises:
        UserError: the manifest or an option is invalid.
    """
    loaded = load_manifest(find_manifest(request.manifest))
    request = name_own_pipeline(request, loaded, ask_hub=False)
    return expand(loaded, parse_settings(request.assignments), request.only)


def make_plan(request: PlanRequest | Path | str) -> Plan:
    """Return what a request would measure on this machine.

    Raises:
        UserError: the manifest or an option is invalid.
        EnvironmentProblem: the requested device is not available.
    """
    if not isinstance(request, PlanRequest):
        request = PlanRequest(request)
    path = find_manifest(request.manifest)
    loaded = load_manifest(path)
    request = name_own_pipeline(request, loaded)
    settings = parse_settings(request.assignments)
    planned = expand(loaded, settings, request.only)
    # These need no GPU, in whatever state it is.
    without_gpu = all(item.experiment.device == "cpu" or item.experiment.backend == "virtual" for item in planned)
    device = choose_device("cpu" if without_gpu and request.device == "auto" else request.device)
    machine = describe_machine(device, read_rates(device.name, cache_folder()))
    estimates = {item.experiment_id: estimate(item, machine) for item in planned}
    names = dict.fromkeys(item.experiment.pipeline for item in planned)
    skipped = {}
    for item in planned:
        cost = estimates[item.experiment_id]
        skip = reason_to_skip(item.experiment, machine, cost.memory_bytes, cost.weights_bytes)
        if skip is not None:
            skipped[item.experiment_id] = skip
    return Plan(
        loaded=loaded,
        request=Request(
            manifest_name=path.name,
            manifest_sha256=loaded.sha256,
            only=request.only,
            device=request.device,
            weights=request.weights,
            budget_s=request.budget_s,
            settings=request.settings,
        ),
        device=device,
        planned=planned,
        estimates=estimates,
        skipped=skipped,
        budget_s=request.budget_s or settings.protocol.get("budget_s") or loaded.manifest.protocol.budget_s,
        pipelines={name: load_own(name, cache_folder()) for name in names if "@" in name},
    )
