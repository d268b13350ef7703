"""Matrices into experiments: combine, exclude, include, override, and join what several groups have in common."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from graphlib import CycleError, TopologicalSorter
from itertools import product
from math import prod
from typing import Any

from pydantic import ValidationError, create_model

from sdbench.errors import ManifestError, UserError
from sdbench.models.pipeline_folders import load_pipeline, override
from sdbench.models.schedulers import SCHEDULERS
from sdbench.plan.families import drop_unchanged, native_options, refuse_options
from sdbench.plan.manifest_file import LoadedManifest, describe_problem, locate, make_tables, nearest
from sdbench.schema.base import Model
from sdbench.schema.document import parse_yaml
from sdbench.schema.experiment import Experiment, VirtualOptions
from sdbench.schema.manifest import Manifest, Options, Protocol
from sdbench.schema.pipeline import OwnPipeline, PipelineConfig
from sdbench.schema.record import PlannedExperiment
from sdbench.schema.written import make_written
from sdbench.store.cache_folder import cache_folder

MAX_EXPERIMENTS = 10_000
ID_PREFIX_MIN_CHARACTERS = 4


@dataclass(frozen=True)
class Settings:
    """What the command line sets over the manifest: experiment options, and protocol keys.

    ``pipelines`` are those of a record; others that do not ship are looked up in the cache.
    """

    options: Mapping[str, Any]
    protocol: Mapping[str, Any]
    pipelines: Mapping[str, OwnPipeline] = field(default_factory=dict)


def parse_settings(assignments: Sequence[str], pipelines: Mapping[str, OwnPipeline] | None = None) -> Settings:
    """Return the settings written as ``key=value``; keys of a block are written ``protocol.key`` and ``virtual.key``.

    ``pipelines`` are those that a record has.

    Raises:
        UserError: not an assignment, an unknown key, or an invalid value.
    """
    options: dict[str, Any] = {}
    protocol: dict[str, Any] = {}
    model = _assignment_model()
    for assignment in assignments:
        key, equals, text = assignment.partition("=")
        if not equals or not key:
            raise UserError(f"invalid setting {assignment!r}: expected key=value, for example steps=4")
        value = parse_yaml(text, f"--set {key}").value if text else ""
        block, dot, name = key.partition(".")
        try:
            written = json.dumps({block: {name: value} if dot else value})
            # One that is remembered on this machine is not in the table.
            tables = {} if key == "pipeline" and "@" in text else make_tables()
            assigned = model.model_validate_json(written, context=tables).values
        except ValidationError as error:
            problem = describe_problem(error.errors(include_url=False)[0], model)
            raise UserError(f"invalid setting {assignment!r}: {problem}") from None
        if "protocol" in assigned:
            protocol |= assigned["protocol"].values
        else:
            options = merge_options(options, assigned)
    return Settings(options, protocol, pipelines or {})


@cache
def _assignment_model() -> Any:
    """Return the model of what one ``--set`` may assign: options, and keys of the two blocks."""
    return create_model(
        "Assignment",
        __base__=Options,
        protocol=(make_written("ProtocolSettings", Protocol, Protocol.model_fields, doc="Protocol keys."), None),
        virtual=(make_written("VirtualSettings", VirtualOptions, VirtualOptions.model_fields, doc="Noise."), None),
    )


def merge_options(*layers: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options of all layers; later ones win, within the block ``virtual`` too."""
    merged: dict[str, Any] = {}
    for layer in layers:
        for name, value in layer.items():
            written = value.model_dump(exclude_unset=True) if isinstance(value, Model) else value
            merged[name] = merged[name] | written if isinstance(written, dict) and name in merged else written
    return merged


def expand(loaded: LoadedManifest, settings: Settings, only: Sequence[str] = ()) -> tuple[PlannedExperiment, ...]:
    """Return the experiments of a manifest in its order, each once, with every group that has it.

    Args:
        loaded: the checked manifest.
        settings: options and protocol keys that win over the manifest.
        only: ids of groups or (prefixes of ids) of experiments to keep; all when empty.

    Raises:
        ManifestError: a matrix expands to nothing or to too many, options contradict, or excludes form a cycle.
        UserError: ``only`` matches nothing.
    """
    manifest = loaded.manifest
    _refuse_too_many(loaded, settings)
    _refuse_exclude_cycles(loaded)
    by_group: dict[str, dict[str, Experiment]] = {}
    protocols: dict[str, Protocol] = {}
    problems: list[str] = []
    for index, group in enumerate(manifest.experiments):
        try:
            by_group[group.id] = _expand_group(loaded, index, settings)
            protocols[group.id] = _protocol(loaded, index, settings)
        except ManifestError as error:
            problems += error.problems
    if problems:
        raise ManifestError(*problems)
    return _keep_only(_join(loaded, by_group, protocols), manifest, only)


def _join(
    loaded: LoadedManifest, by_group: Mapping[str, Mapping[str, Experiment]], protocols: Mapping[str, Protocol]
) -> tuple[PlannedExperiment, ...]:
    planned: dict[str, PlannedExperiment] = {}
    are_virtual: set[bool] = set()
    for index, group in enumerate(loaded.manifest.experiments):
        measured_elsewhere = set[str]().union(*(by_group[entry.group] for entry in group.exclude if entry.group))
        kept = {key: item for key, item in by_group[group.id].items() if key not in measured_elsewhere}
        if not kept:
            raise _expands_to_nothing(loaded, index)
        for key, experiment in kept.items():
            protocol, label = protocols[group.id], experiment.label
            groups = planned[key].groups if key in planned else ()
            if key in planned and planned[key].protocol != protocol:
                problem = f"groups {groups[0]!r} and {group.id!r} both have {label!r}, with different protocols"
                raise _at_group(loaded, index, f"{problem}; give them the same protocol, or exclude it from one")
            planned[key] = PlannedExperiment(
                experiment_id=key, label=label, groups=(*groups, group.id), experiment=experiment, protocol=protocol
            )
        are_virtual |= {experiment.backend == "virtual" for experiment in kept.values()}
        if len(are_virtual) > 1:
            problem = "virtual and real experiments cannot share a record; write two manifests"
            raise _at_group(loaded, index, problem)
    return tuple(planned.values())


def _combinations(loaded: LoadedManifest, index: int, settings: Settings) -> Iterator[tuple[dict[str, Any], bool]]:
    """Yield each combination, in the order written, and whether it can be excluded: what is included cannot."""
    group = loaded.manifest.experiments[index]
    matrix = group.matrix.values
    written = loaded.document.value["experiments"][index].get("matrix", ())
    axes = {key: matrix[key] for key in written if key not in settings.options}
    if matrix or not group.include:
        for values in product(*axes.values()):
            yield dict(zip(axes, values, strict=True)), True
    yield from ((entry.values, False) for entry in group.include)


def _expand_group(loaded: LoadedManifest, index: int, settings: Settings) -> dict[str, Experiment]:
    manifest = loaded.manifest
    group = manifest.experiments[index]
    layers = (manifest.model.values, manifest.defaults.values, group.options.values)
    excludes = [entry.values for entry in group.exclude if not entry.group]
    kept: dict[str, Experiment] = {}
    for combination, excludable in _combinations(loaded, index, settings):
        options = merge_options(*layers, combination, settings.options)
        experiment = _experiment(loaded, index, options, settings.pipelines)
        if not (excludable and any(experiment.has(entry) for entry in excludes)):
            kept.setdefault(experiment.experiment_id, experiment)
    if not kept:
        raise _expands_to_nothing(loaded, index)
    return kept


def _experiment(
    loaded: LoadedManifest, index: int, options: dict[str, Any], pipelines: Mapping[str, OwnPipeline]
) -> Experiment:
    config = _find_config(loaded, index, options, pipelines)
    options = (native_options(config) if config else {}) | options
    if config is not None and "config" in options:
        options["config"] = drop_unchanged(config, options["config"])
    pinned = (options.get("hub_id") and options.get("revision")) or "@" in options.get("pipeline", "")
    if options.get("weights") == "pretrained" and not pinned:
        raise _at_group(loaded, index, "weights: pretrained needs model.hub_id and model.revision (a commit hash)")
    try:
        experiment = Experiment.model_validate(options)
    except ValidationError as error:
        detail = error.errors(include_url=False)[0]
        if detail["type"] == "missing":
            problem = f"{detail['loc'][0]!r} is missing; set it under model, defaults or options"
        else:
            problem = describe_problem(detail, Experiment) if detail["loc"] else detail["msg"]
        raise _at_group(loaded, index, problem.removeprefix("Value error, ")) from None
    if config is not None:
        if "scheduler" not in options:
            problem = f"{config.name} comes with {config.scheduler.class_name}, which sdbench does not know"
            raise _at_group(loaded, index, f"{problem}; set scheduler to one of {', '.join(SCHEDULERS)}")
        try:
            refuse_options(experiment, override(config, experiment.config))
        except UserError as error:
            raise _at_group(loaded, index, str(error)) from None
    return experiment


def _find_config(
    loaded: LoadedManifest, index: int, options: Mapping[str, Any], pipelines: Mapping[str, OwnPipeline]
) -> PipelineConfig | None:
    if "pipeline" not in options:
        return None
    name = options["pipeline"]
    try:
        return pipelines[name].config if name in pipelines else load_pipeline(name, cache_folder())
    except UserError as error:
        raise _at_group(loaded, index, str(error)) from None


def _protocol(loaded: LoadedManifest, index: int, settings: Settings) -> Protocol:
    override = loaded.manifest.experiments[index].protocol
    keys = loaded.manifest.protocol.model_dump() | override.values | dict(settings.protocol)
    for low, high in (("calls_min", "calls_max"), ("launches_min", "launches_max")):
        if keys[low] > keys[high]:
            problem = f"protocol {low} {keys[low]} is above {high} {keys[high]}; raise {high} or lower {low}"
            raise _at_group(loaded, index, problem)
    return Protocol.model_validate(keys)


def _refuse_too_many(loaded: LoadedManifest, settings: Settings) -> None:
    count = 0
    for index, group in enumerate(loaded.manifest.experiments):
        axes = (values for key, values in group.matrix.values.items() if key not in settings.options)
        count += prod(len(values) for values in axes) + len(group.include)
        if count > MAX_EXPERIMENTS:
            problem = f"up to here {count:,} experiments, over the limit of {MAX_EXPERIMENTS:,}; split the manifest"
            raise _at_group(loaded, index, problem)


def _refuse_exclude_cycles(loaded: LoadedManifest) -> None:
    groups = loaded.manifest.experiments
    known = {group.id: index for index, group in enumerate(groups)}
    problems: list[str] = []
    for index, group in enumerate(groups):
        for position, entry in enumerate(group.exclude):
            path = ("experiments", index, "exclude", position, "group")
            if entry.group and entry.group not in known:
                problem = f"unknown group {entry.group!r}; {nearest(entry.group, known)}"
                problems.append(locate(loaded.document, path, problem))
            elif entry.group and len(entry.values) > 1:
                problem = "an exclude with 'group' has no other keys; write two entries"
                problems.append(locate(loaded.document, path, problem))
    if problems:
        raise ManifestError(*problems)
    try:
        TopologicalSorter(
            {group.id: [entry.group for entry in group.exclude if entry.group] for group in groups}
        ).prepare()
    except CycleError as error:
        # Its second argument lists the cycle, each before what it is excluded by.
        cycle = error.args[1][::-1]
        problem = "a cycle of excludes: " + " excludes ".join(cycle) + "; remove one of them"
        raise _at_group(loaded, known[cycle[0]], problem) from None


def _expands_to_nothing(loaded: LoadedManifest, index: int) -> ManifestError:
    name = loaded.manifest.experiments[index].id
    return _at_group(loaded, index, f"group {name!r} expands to nothing: every combination is excluded; exclude less")


def _keep_only(
    planned: tuple[PlannedExperiment, ...], manifest: Manifest, only: Sequence[str]
) -> tuple[PlannedExperiment, ...]:
    kept: set[str] = set()
    for wanted in only:
        is_prefix = len(wanted) >= ID_PREFIX_MIN_CHARACTERS
        chosen = {
            item.experiment_id
            for item in planned
            if wanted in item.groups or (is_prefix and item.experiment_id.startswith(wanted))
        }
        if not chosen:
            known = nearest(wanted, (group.id for group in manifest.experiments))
            raise UserError(f"--only {wanted!r} matches no group and no experiment; {known}")
        kept |= chosen
    return tuple(item for item in planned if not only or item.experiment_id in kept)


def _at_group(loaded: LoadedManifest, index: int, problem: str) -> ManifestError:
    return ManifestError(locate(loaded.document, ("experiments", index), problem))
