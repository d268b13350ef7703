"""Figures that somebody else published into sealed records, one per device: what the source did not say is unknown."""

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, count
from pathlib import Path

from sdbench.errors import UserError
from sdbench.schema.base import Known, Reading, Unknown, sha256_of
from sdbench.schema.experiment import Experiment
from sdbench.schema.fingerprint import (
    Configuration,
    Fingerprint,
    GpuIdentity,
    Hardware,
    Software,
    State,
    seal_fingerprint,
)
from sdbench.schema.manifest import MANIFEST_SCHEMA, Claim, Group, Manifest, ModelChoice, Protocol, Source
from sdbench.schema.outcome import OutOfMemory, Published
from sdbench.schema.record import PlannedExperiment, Record, Request, Result
from sdbench.schema.versions import RECORD_SCHEMA
from sdbench.store.bundle import seal_record
from sdbench.store.files import write_whole
from sdbench.store.lambda_csv import STEPS_OF_THE_STUDY, LambdaRow
from sdbench.store.lambda_fields import has_no_memory_figure, is_cpu
from sdbench.store.names import RECORD_NAME, SOURCE_NAME

MEMORY_MEANING = "torch.cuda.memory_reserved() after one call"
METHOD = "mean of 3 calls after 2 warm-ups, rounded to 0.01 s"
# The tool made two warm-up calls and three timed ones, in one process.
PROTOCOL = Protocol(warmup_calls=2, calls_min=3, calls_max=3, launches_min=1, launches_max=1)
AUTOCAST_CAVEAT = "autocast was not recorded: the figure may be of autocast"
ATTENTION_CAVEAT = "the attention implementation was not recorded"
TF32_CAVEAT = "TF32 was not recorded: it may have been on"
AUTOCAST_SUFFIX = " (autocast not recorded)"
FAILURE_MESSAGE = "the source has the failure mark -1 in place of a latency"
GROUP_ID = "imported"

_NOT_RECORDED = Unknown(reason="not recorded by the source")
_NO_CPU_FIGURE = Unknown(reason="not measured on a CPU")
_NO_ORT_FIGURE = Unknown(reason="torch does not see the memory of onnxruntime")


@dataclass(frozen=True)
class ImportSource:
    """The file that is imported, what it is called, whose experiments it has, and when (UTC) it is imported."""

    name: str
    content: bytes
    title: str
    created_utc: str
    study: Source
    claims: tuple[Claim, ...] = ()


def import_rows(rows: Sequence[LambdaRow], source: ImportSource, out: Path) -> tuple[Path, ...]:
    """Write a sealed record per device, in the order of the rows, and return their folders.

    Raises:
        UserError: a folder holds something else than an earlier import of the same file.
        EnvironmentProblem: a folder is not writable or the disk is full.
    """
    by_device: dict[str, list[LambdaRow]] = {}
    for row in rows:
        by_device.setdefault(row.device, []).append(row)
    folders = [out / name for name in _folder_names(by_device, source)]
    for folder in folders:
        _refuse_other_content(folder, source)
    for folder, members in zip(folders, by_device.values(), strict=True):
        write_whole(folder / SOURCE_NAME, source.content)
        seal_record(folder, make_unsealed(members, source))
    return tuple(folders)


def make_unsealed(rows: Sequence[LambdaRow], source: ImportSource) -> dict[str, object]:
    """Return the record of one device's rows as JSON types, without its files and seal."""
    device = rows[0].device
    results = tuple(_make_result(row) for row in rows)
    # Without defaults, so that a later option or field gives the same rows the same name.
    content = [result.model_dump(mode="json", exclude_defaults=True) for result in results]
    draft = Record.model_validate(
        {
            "schema": RECORD_SCHEMA,
            "origin": "imported",
            "session": None,
            "device_group": None,
            "exported": None,
            "run_id": f"{_slug(Path(source.name).stem)}-{_slug(device)}-{sha256_of([device, content])[:8]}",
            "created_utc": source.created_utc,
            "ended_utc": source.created_utc,
            "ended": "complete",
            "wall_s": _NOT_RECORDED,
            "request": _make_request(rows, source),
            "manifest": _make_manifest(rows, source),
            "device": _device_of(device),
            "fingerprint": _make_fingerprint(device),
            "results": results,
            "files": (),
            "warnings": (),
            "seal": "0" * 64,
        }
    )
    return {key: value for key, value in draft.to_json_dict().items() if key not in ("files", "seal")}


def _folder_names(by_device: Mapping[str, Sequence[LambdaRow]], source: ImportSource) -> list[str]:
    """The file's name and the device's; a number where two devices' names differ in nothing but signs."""
    stem = _slug(Path(source.name).stem)
    names: list[str] = []
    for device, rows in by_device.items():
        steps = rows[0].experiment.steps
        name = f"{stem}-{_slug(device)}" + f"-{steps}-steps" * (steps != STEPS_OF_THE_STUDY)
        # The first free name: "a-2" may be the name of another device too.
        tries = chain((name,), (f"{name}-{number}" for number in count(2)))
        names.append(next(candidate for candidate in tries if candidate not in names))
    return names


def _refuse_other_content(folder: Path, source: ImportSource) -> None:
    """An import may be repeated, with claims for example; it replaces neither a run nor another file's figures."""
    kept = folder / SOURCE_NAME
    if (folder / RECORD_NAME).exists() and not (kept.is_file() and kept.read_bytes() == source.content):
        raise UserError(f"{folder} holds another record; import into another folder with --out, or move it away")


def _device_of(name: str) -> str:
    return "cpu" if is_cpu(name) else "cuda:0"


def _slug(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:64] or "unnamed"


def _make_result(row: LambdaRow) -> Result:
    experiment = row.experiment
    planned = PlannedExperiment(
        experiment_id=experiment.experiment_id,
        label=experiment.label + ("" if row.autocast_recorded else AUTOCAST_SUFFIX),
        groups=(GROUP_ID,),
        experiment=experiment,
        protocol=PROTOCOL,
    )
    if row.latency_s is None:
        full = OutOfMemory(
            stage="unknown",
            where="host" if is_cpu(row.device) else "device",
            message=FAILURE_MESSAGE,
            partial=(),
        )
        return Result(planned=planned, outcome=full, trust=())
    outcome = Published(
        latency_s=row.latency_s,
        memory_bytes=_memory_reading(row),
        memory_meaning=MEMORY_MEANING,
        method=METHOD,
        caveats=_caveats(row),
    )
    return Result(planned=planned, outcome=outcome, trust=())


def _memory_reading(row: LambdaRow) -> Reading[int]:
    if row.memory_bytes is not None:
        return Known[int](value=row.memory_bytes)
    if not has_no_memory_figure(row.device, row.experiment):
        return _NOT_RECORDED
    return _NO_CPU_FIGURE if is_cpu(row.device) else _NO_ORT_FIGURE


def _caveats(row: LambdaRow) -> tuple[str, ...]:
    """What the file leaves open about how a figure came about; nothing of it is known for onnxruntime."""
    experiment = row.experiment
    if experiment.backend != "pytorch":
        return ()
    open_questions = {
        AUTOCAST_CAVEAT: not row.autocast_recorded,
        TF32_CAVEAT: experiment.precision == "fp32" and not is_cpu(row.device),
        ATTENTION_CAVEAT: experiment.attention != "xformers",
    }
    return tuple(caveat for caveat, is_open in open_questions.items() if is_open)


def _make_manifest(rows: Sequence[LambdaRow], source: ImportSource) -> Manifest:
    first = rows[0].experiment
    group = Group(
        id=GROUP_ID,
        title=f"What {source.name} has of {rows[0].device}",
        include=tuple(_written_options(row.experiment) for row in rows),
    )
    return Manifest.model_validate(
        {
            "schema": MANIFEST_SCHEMA,
            "title": source.title,
            "source": source.study,
            "model": ModelChoice(architecture=first.architecture, weights=first.weights, hub_id=first.hub_id),
            "protocol": PROTOCOL,
            "experiments": (group,),
            "claims": source.claims,
        }
    )


def _written_options(experiment: Experiment) -> dict[str, str | int | float | bool | None]:
    """The options that the manifest's model does not say already."""
    said_by_model = ("architecture", "weights", "hub_id")
    options = experiment.model_dump(mode="json", exclude_defaults=True)
    shown = {"precision": experiment.precision, "batch": experiment.batch, "steps": experiment.steps}
    return shown | {name: value for name, value in options.items() if name not in said_by_model}


def _make_request(rows: Sequence[LambdaRow], source: ImportSource) -> Request:
    return Request(
        manifest_name=source.name,
        manifest_sha256=hashlib.sha256(source.content).hexdigest(),
        only=(),
        device=_device_of(rows[0].device),
        weights=None,
        budget_s=None,
        settings=(f"steps={rows[0].experiment.steps}",),
    )


def _make_fingerprint(device: str) -> Fingerprint:
    hardware = dict.fromkeys(Hardware.model_fields, _NOT_RECORDED)
    known: dict[str, Reading[str] | Known[tuple[GpuIdentity, ...]]]
    if is_cpu(device):
        known = {"cpu_model": Known[str](value=device)}
    else:
        identity = {name: _NOT_RECORDED for name in GpuIdentity.model_fields if name not in ("index", "name")}
        gpu = GpuIdentity.model_validate({"index": 0, "name": Known[str](value=device), **identity})
        known = {"gpus": Known[tuple[GpuIdentity, ...]](value=(gpu,))}
    return seal_fingerprint(
        Hardware.model_validate(hardware | known),
        Configuration.model_validate(dict.fromkeys(Configuration.model_fields, _NOT_RECORDED)),
        Software.model_validate(dict.fromkeys(Software.model_fields, _NOT_RECORDED)),
        State.model_validate(dict.fromkeys(State.model_fields, _NOT_RECORDED)),
    )
