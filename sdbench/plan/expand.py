"""Matrices into experiments: combine, exclude, include, override, and join what several groups ask for alike."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from math import prod
from typing import Any

from pydantic import ValidationError

from sdbench.errors import ManifestError, UserError
from sdbench.plan.manifest_file import LoadedManifest, nearest, option_problem
from sdbench.schema.document import parse_yaml
from sdbench.schema.experiment import Experiment
from sdbench.schema.manifest import Group, Manifest, Protocol
from sdbench.schema.record import PlannedExperiment

MAX_EXPERIMENTS = 10_000
ID_PREFIX_MIN_CHARACTERS = 4


@dataclass(frozen=True)
class Settings:
    """What the command line sets over the manifest: experiment options, and protocol keys."""

    options: Mapping[str, Any]
    protocol: Mapping[str, Any]


def parse_settings(assignments: Sequence[str]) -> Settings:
    """Return the settings written as ``key=value``; a protocol key is written ``protocol.key=value``.

    Raises:
        UserError: no assignment, an unknown key, or a value of the wrong type.
    """
    options: dict[str, Any] = {}
    protocol: dict[str, Any] = {}
    for assignment in assignments:
        key, equals, text = assignment.partition("=")
        if not equals or not key:
            raise UserError(f"--set {assignment!r}: write key=value, for example steps=4")
        value = parse_yaml(text, f"--set {key}").value if text else ""
        if key.startswith("protocol."):
            name = key.removeprefix("protocol.")
            if name not in Protocol.model_fields:
                raise UserError(
                    f"--set {assignment!r}: unknown protocol key {name!r}; {nearest(name, Protocol.model_fields)}"
                )
            protocol[name] = value
        elif key in Experiment.model_fields:
            if problem := option_problem(key, value):
                raise UserError(f"--set {assignment!r}: {problem}")
            options[key] = value
        else:
            known = [*Experiment.model_fields, *(f"protocol.{name}" for name in Protocol.model_fields)]
            raise UserError(f"--set {assignment!r}: unknown key {key!r}; {nearest(key, known)}")
    return Settings(options, protocol)


def expand(loaded: LoadedManifest, settings: Settings, only: Sequence[str] = ()) -> tuple[PlannedExperiment, ...]:
    """Return the experiments of a manifest in its order, each once, with every group that asks for it.

    Args:
        loaded: the checked manifest.
        settings: options and protocol keys that win over the manifest.
        only: ids of groups or (prefixes of ids) of experiments to keep; all when empty.

    Raises:
        ManifestError: a matrix expands to nothing or to too many, options contradict, or excludes form a cycle.
        UserError: ``only`` names nothing that is there.
    """
    manifest = loaded.manifest
    _refuse_too_many(loaded, settings)
    _refuse_exclude_cycles(loaded)
    by_group = {group.id: _expand_group(loaded, index, settings) for index, group in enumerate(manifest.experiments)}
    planned: dict[str, PlannedExperiment] = {}
    for index, group in enumerate(manifest.experiments):
        banned = {
            experiment.experiment_id
            for entry in group.exclude
            if "group" in entry
            for experiment in by_group[str(entry["group"])]
        }
        kept = [experiment for experiment in by_group[group.id] if experiment.experiment_id not in banned]
        if not kept:
            raise _group_error(
                loaded, index, f"group {group.id!r} expands to nothing: every combination is excluded; exclude less"
            )
        protocol = _protocol(loaded, index, settings)
        for experiment in kept:
            _add(planned, experiment, group.id, protocol)
    virtual = {item.experiment.backend == "virtual" for item in planned.values()}
    if len(virtual) > 1:
        raise ManifestError(
            f"{loaded.document.name}: virtual and real experiments do not mix in one record; make two manifests of it"
        )
    return _keep_only(tuple(planned.values()), manifest, only)


def _add(planned: dict[str, PlannedExperiment], experiment: Experiment, group_id: str, protocol: Protocol) -> None:
    key = experiment.experiment_id
    if key not in planned:
        planned[key] = PlannedExperiment(
            experiment_id=key, label=experiment.label, groups=(group_id,), experiment=experiment, protocol=protocol
        )
    elif planned[key].protocol != protocol:
        raise ManifestError(
            f"groups {planned[key].groups[0]!r} and {group_id!r} both ask for {experiment.label!r}, "
            "with different protocols; give them the same protocol, or exclude it from one"
        )
    elif group_id not in planned[key].groups:
        earlier = planned[key]
        planned[key] = PlannedExperiment(
            experiment_id=key,
            label=earlier.label,
            groups=(*earlier.groups, group_id),
            experiment=earlier.experiment,
            protocol=earlier.protocol,
        )


def _combinations(group: Group, settings: Settings) -> Iterator[tuple[dict[str, Any], bool]]:
    """Yield each combination and whether an exclude may take it out: not what was included by hand."""
    axes = {key: values for key, values in group.matrix.items() if key not in settings.options}
    if group.matrix or not group.include:
        for values in product(*axes.values()):
            yield dict(zip(axes, values, strict=True)), True
    yield from ((dict(entry), False) for entry in group.include)


def _expand_group(loaded: LoadedManifest, index: int, settings: Settings) -> list[Experiment]:
    manifest = loaded.manifest
    group = manifest.experiments[index]
    base = {key: value for key, value in manifest.model.model_dump().items() if value is not None}
    base |= manifest.defaults | group.options
    excludes = [entry for entry in group.exclude if "group" not in entry]
    kept: dict[str, Experiment] = {}
    for combination, excludable in _combinations(group, settings):
        experiment = _experiment(loaded, index, base | combination | dict(settings.options))
        options = experiment.model_dump()
        if excludable and any(_matches(entry, options) for entry in excludes):
            continue
        kept.setdefault(experiment.experiment_id, experiment)
    if not kept:
        raise _group_error(
            loaded, index, f"group {group.id!r} expands to nothing: every combination is excluded; exclude less"
        )
    return list(kept.values())


def _experiment(loaded: LoadedManifest, index: int, options: dict[str, Any]) -> Experiment:
    if options.get("weights") == "pretrained" and not (options.get("hub_id") and options.get("revision")):
        raise _group_error(
            loaded,
            index,
            "weights: pretrained needs model.hub_id and model.revision (a commit hash), "
            "so that others get the same weights",
        )
    try:
        return Experiment.model_validate(options)
    except ValidationError as error:
        detail = error.errors()[0]
        name = str(detail["loc"][0]) if detail["loc"] else ""
        if detail["type"] == "missing":
            problem = f"no {name!r} is given; set it under model, defaults or options"
        else:
            problem = f"{name} " * bool(name) + detail["msg"].removeprefix("Value error, ")
        raise _group_error(loaded, index, problem) from None


def _matches(entry: Mapping[str, Any], options: Mapping[str, Any]) -> bool:
    return all(
        options[key] == value and isinstance(options[key], bool) == isinstance(value, bool)
        for key, value in entry.items()
    )


def _protocol(loaded: LoadedManifest, index: int, settings: Settings) -> Protocol:
    override = loaded.manifest.experiments[index].protocol
    keys = loaded.manifest.protocol.model_dump() | override.model_dump(exclude_none=True) | dict(settings.protocol)
    try:
        protocol = Protocol.model_validate(keys)
    except ValidationError as error:
        detail = error.errors()[0]
        raise UserError(f"--set protocol.{detail['loc'][0]}={detail['input']}: {detail['msg']}") from None
    for low, high in (("calls_min", "calls_max"), ("launches_min", "launches_max")):
        if keys[low] > keys[high]:
            raise _group_error(
                loaded, index, f"protocol {low} {keys[low]} is above {high} {keys[high]}; raise {high} or lower {low}"
            )
    return protocol


def _refuse_too_many(loaded: LoadedManifest, settings: Settings) -> None:
    count = 0
    for index, group in enumerate(loaded.manifest.experiments):
        count += prod(len(values) for key, values in group.matrix.items() if key not in settings.options) + len(
            group.include
        )
        if count > MAX_EXPERIMENTS:
            raise _group_error(
                loaded,
                index,
                f"up to here the matrices give {count:,} experiments, "
                f"over the limit of {MAX_EXPERIMENTS:,}; split the manifest",
            )


def _refuse_exclude_cycles(loaded: LoadedManifest) -> None:
    known = {group.id: index for index, group in enumerate(loaded.manifest.experiments)}
    edges: dict[str, list[str]] = {name: [] for name in known}
    for index, group in enumerate(loaded.manifest.experiments):
        for position, entry in enumerate(group.exclude):
            if "group" not in entry:
                continue
            other = str(entry["group"])
            path = ("experiments", index, "exclude", position, "group")
            if other not in known:
                _, where = loaded.document.locate(path)
                raise ManifestError(f"{where}: exclude names no group {other!r}; {nearest(other, known)}")
            if len(entry) > 1:
                _, where = loaded.document.locate(path)
                raise ManifestError(f"{where}: an exclude with 'group' has no other keys; write two entries")
            edges[group.id].append(other)
    for start, index in known.items():
        if cycle := _find_cycle(edges, start):
            raise _group_error(
                loaded, index, "a cycle of excludes: " + " excludes ".join(cycle) + "; remove one of them"
            )


def _find_cycle(edges: Mapping[str, list[str]], start: str) -> list[str] | None:
    trails = [[start]]
    visited: set[str] = set()
    while trails:
        trail = trails.pop()
        for other in edges[trail[-1]]:
            if other == start:
                return [*trail, start]
            if other not in visited:
                visited.add(other)
                trails.append([*trail, other])
    return None


def _keep_only(
    planned: tuple[PlannedExperiment, ...], manifest: Manifest, only: Sequence[str]
) -> tuple[PlannedExperiment, ...]:
    if not only:
        return planned
    kept: dict[str, PlannedExperiment] = {}
    for wanted in only:
        found = [
            item
            for item in planned
            if wanted in item.groups
            or (len(wanted) >= ID_PREFIX_MIN_CHARACTERS and item.experiment_id.startswith(wanted))
        ]
        if not found:
            raise UserError(
                f"--only {wanted!r} names no group and no experiment; "
                f"{nearest(wanted, (group.id for group in manifest.experiments))}"
            )
        kept |= {item.experiment_id: item for item in found}
    return tuple(item for item in planned if item.experiment_id in kept)


def _group_error(loaded: LoadedManifest, index: int, problem: str) -> ManifestError:
    _, where = loaded.document.locate(("experiments", index))
    return ManifestError(f"{where}: {problem}")
