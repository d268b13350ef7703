"""Sealed records of reference results, one per device: what the source did not record is unknown."""

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, count
from pathlib import Path
from typing import Literal, TypeVar

from sdbench.errors import UserError
from sdbench.lambda2022.csv_file import STEPS_OF_THE_STUDY, LambdaRow
from sdbench.lambda2022.fields import has_no_memory, is_cpu
from sdbench.schema.base import Known, Model, Reading, Unknown, sha256_of
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
from sdbench.schema.manifest import MANIFEST_SCHEMA, Claim, Group, Manifest, ModelOptions, Options, Protocol, Source
from sdbench.schema.outcome import Outcome, OutOfMemory, ReferenceResult
from sdbench.schema.record import PlannedExperiment, Record, Request, Result
from sdbench.schema.versions import RECORD_SCHEMA
from sdbench.store.bundle import seal_record
from sdbench.store.files import write_whole
from sdbench.store.layout import RECORD_NAME, SOURCE_NAME

# The tool made two warm-up calls and three timed ones, in one process.
PROTOCOL = Protocol(warmup_calls=2, calls_min=3, calls_max=3, launches_min=1, launches_max=1)
AUTOCAST_CAVEAT = (
    "the file does not record autocast; LambdaLabsML/lambda-diffusers at 0c9fbc7 ran every half-precision CUDA call "
    "under it"
)
ATTENTION_CAVEAT = "the file does not record the attention; diffusers of 2022 had no SDPA"
TF32_CAVEAT = "the file does not record TF32; torch's default is TF32 for convolutions only"
EMPTY_CACHE_CAVEAT = "the timed call includes torch.cuda.empty_cache()"
GROUP_ID = "imported"
IN_MODEL = ("pipeline", "weights", "hub_id")

_Part = TypeVar("_Part", bound=Model)

_NOT_RECORDED = Unknown(reason="not recorded by the source")


@dataclass(frozen=True)
class ImportSource:
    """The file that is imported, its title, the source it cites, and when (UTC) it is imported."""

    name: str
    content: bytes
    title: str
    created_utc: str
    cites: Source
    claims: tuple[Claim, ...] = ()


def import_rows(rows: Sequence[LambdaRow], source: ImportSource, out: Path) -> tuple[Path, ...]:
    """Write a sealed record per device, in the order of the rows, and return their folders.

    Raises:
        UserError: a folder contains something else than an earlier import of the same file.
        EnvironmentProblem: a folder is not writable or the disk is full.
    """
    by_device: dict[str, list[LambdaRow]] = {}
    for row in rows:
        by_device.setdefault(row.device, []).append(row)
    folders = [out / name for name in _folder_names(by_device, source)]
    for folder in folders:
        # An import may be repeated, with claims for example, but replaces neither a run nor another file's import.
        copy = folder / SOURCE_NAME
        if (folder / RECORD_NAME).exists() and not (copy.is_file() and copy.read_bytes() == source.content):
            raise UserError(f"{folder} contains another record; import into another folder with --out, or move it away")
    for folder, members in zip(folders, by_device.values(), strict=True):
        write_whole(folder / SOURCE_NAME, source.content)
        seal_record(folder, make_draft(members, source).to_json_dict())
    return tuple(folders)


def make_draft(rows: Sequence[LambdaRow], source: ImportSource) -> Record:
    """Return the record of one device's rows, before its files are listed and it is sealed."""
    device = rows[0].device
    device_id = "cpu" if is_cpu(device) else "cuda:0"
    results = tuple(_make_result(row) for row in rows)
    # Without defaults, so that a later option or field gives the same rows the same name.
    content = [result.model_dump(mode="json", exclude_defaults=True) for result in results]
    return Record.model_validate(
        {
            "schema": RECORD_SCHEMA,
            "origin": "imported",
            "session": None,
            "device_group": None,
            "publication": None,
            "run_id": f"{_slug(Path(source.name).stem)}-{_slug(device)}-{sha256_of([device, content])[:8]}",
            "created_utc": source.created_utc,
            "ended_utc": source.created_utc,
            "ended": "complete",
            "wall_s": _NOT_RECORDED,
            "request": Request(
                manifest_name=source.name,
                manifest_sha256=hashlib.sha256(source.content).hexdigest(),
                only=(),
                device=device_id,
                weights=None,
                budget_s=None,
                settings=(f"steps={rows[0].experiment.steps}",),
            ),
            "manifest": _make_manifest(rows, source),
            "device": device_id,
            "fingerprint": _make_fingerprint(device),
            "ceilings_at_end": _NOT_RECORDED,
            "results": results,
            "files": (),
            "warnings": (),
            "seal": "0" * 64,
        }
    )


def _folder_names(by_device: Mapping[str, Sequence[LambdaRow]], source: ImportSource) -> list[str]:
    """Return the file's name and the device's; with a number where two devices' slugs are equal."""
    names: list[str] = []
    for device, rows in by_device.items():
        steps = rows[0].experiment.steps
        suffix = "" if steps == STEPS_OF_THE_STUDY else f"-{steps}-steps"
        name = f"{_slug(Path(source.name).stem)}-{_slug(device)}{suffix}"
        # The first free name: "a-2" may be the name of another device too.
        tries = chain((name,), (f"{name}-{number}" for number in count(2)))
        names.append(next(candidate for candidate in tries if candidate not in names))
    return names


def _slug(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:64] or "unnamed"


def _make_result(row: LambdaRow) -> Result:
    experiment = row.experiment
    planned = PlannedExperiment(
        experiment_id=experiment.experiment_id,
        label=experiment.label,
        groups=(GROUP_ID,),
        experiment=experiment,
        protocol=PROTOCOL,
    )
    if row.latency_s is None:
        where: Literal["host", "device"] = "host" if is_cpu(row.device) else "device"
        message = "the source has the failure mark -1 instead of a latency"
        outcome: Outcome = OutOfMemory(stage="unknown", where=where, message=message, partial=())
    else:
        outcome = ReferenceResult(
            latency_s=row.latency_s,
            memory_bytes=_memory_reading(row),
            memory_meaning="torch.cuda.memory_reserved() after one call",
            method="mean of 3 calls after 2 warm-ups, rounded to 0.01 s",
            caveats=_caveats(row),
        )
    return Result(planned=planned, outcome=outcome, quality_checks=())


def _memory_reading(row: LambdaRow) -> Reading[int]:
    if row.memory_bytes is not None:
        return Known(value=row.memory_bytes)
    if is_cpu(row.device):
        return Unknown(reason="not measured on a CPU")
    if has_no_memory(row.device, row.experiment):
        return Unknown(reason="torch does not see the memory of onnxruntime")
    return _NOT_RECORDED


def _caveats(row: LambdaRow) -> tuple[str, ...]:
    """Return what the file does not record about how torch ran, and how the tool differs from sdbench."""
    experiment = row.experiment
    if experiment.backend != "pytorch":
        return ()
    applies = {
        AUTOCAST_CAVEAT: not row.autocast_recorded,
        TF32_CAVEAT: experiment.precision == "fp32" and not is_cpu(row.device),
        ATTENTION_CAVEAT: experiment.attention != "xformers",
        EMPTY_CACHE_CAVEAT: not is_cpu(row.device),
    }
    return tuple(caveat for caveat, is_open in applies.items() if is_open)


def _make_manifest(rows: Sequence[LambdaRow], source: ImportSource) -> Manifest:
    model = rows[0].experiment.model_dump(include=set(IN_MODEL))
    title = f"Results of {rows[0].device} in {source.name}"
    group = Group(id=GROUP_ID, title=title, include=tuple(_written_options(row.experiment) for row in rows))
    return Manifest.model_validate(
        {
            "schema": MANIFEST_SCHEMA,
            "title": source.title,
            "source": source.cites,
            "model": ModelOptions.model_validate(model),
            "protocol": PROTOCOL,
            "experiments": (group,),
            "claims": source.claims,
        }
    )


def _written_options(experiment: Experiment) -> Options:
    options = experiment.model_dump(mode="json", exclude_defaults=True)
    always = {"precision": experiment.precision, "batch": experiment.batch, "steps": experiment.steps}
    return Options.model_validate(always | {name: value for name, value in options.items() if name not in IN_MODEL})


def _make_fingerprint(device: str) -> Fingerprint:
    name = Known(value=device)
    if is_cpu(device):
        hardware = _unknown_but(Hardware, cpu_model=name)
    else:
        hardware = _unknown_but(Hardware, gpus=Known(value=(_unknown_but(GpuIdentity, name=name),)))
    return seal_fingerprint(hardware, _unknown_but(Configuration), _unknown_but(Software), _unknown_but(State))


def _unknown_but(part: type[_Part], **known: object) -> _Part:
    return part.model_validate(dict.fromkeys(part.model_fields, _NOT_RECORDED) | known)
