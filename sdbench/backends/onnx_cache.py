"""Exported networks, kept under a hash of all that determines them, and checked whenever they are used."""

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from pydantic import FiniteFloat, ValidationError

from sdbench.backends.onnx_parts import part_of
from sdbench.errors import EnvironmentProblem
from sdbench.models.pipeline_folders import find_pipeline
from sdbench.models.synthetic import RECIPE_VERSION
from sdbench.schema.base import Model, PositiveInt, sha256_of
from sdbench.schema.experiment import Experiment
from sdbench.schema.outcome import RecordWarning, warn
from sdbench.schema.pipeline import PipelineConfig
from sdbench.schema.record import BundledFile
from sdbench.schema.warning_codes import WarningCode
from sdbench.schema.wire import Stage
from sdbench.schema.workload_results import Export, ExportedPart
from sdbench.store.cache_folder import EXPORTS_FOLDER
from sdbench.store.files import describe_file, sync_folder
from sdbench.store.lock import hold_file

# Raise it with every change in onnx_export.py or onnx_parts.py that changes a file.
EXPORTER_VERSION = 3
GRAPH_NAME = "graph.onnx"
MANIFEST_NAME = "export.json"
_LIBRARIES = ("torch", "diffusers", "transformers", "onnx", "onnx-ir", "onnxscript")
# 64 bits of a hash distinguish the exports of one machine; the manifest has all that is hashed, and is compared.
_KEY_DIGITS = 16
_UNFINISHED = ".new-"


class Identity(Model):
    """What determines the files of an export: one network with its weights, in one precision, and the exporter.

    The other networks of the pipeline are in it, because the facts of an export are of the pipeline's weights.
    """

    part: ExportedPart
    opset: PositiveInt
    precision: str
    weights: dict[str, str | int | None]
    pipeline_class: str
    networks: dict[str, dict[str, Any]]
    made_with: dict[str, str]


class ExportFacts(Model):
    """What only the exporting process knows: the time one network took (s), and of the weights."""

    export_s: FiniteFloat
    weights_digest: str
    parameter_count: PositiveInt
    weights_dtypes: tuple[str, ...]


class ExportManifest(Model):
    """The file that describes an exported network, stored next to it."""

    identity: Identity
    facts: ExportFacts
    files: tuple[BundledFile, ...]


@dataclass(frozen=True)
class CachedExport:
    """An export that was checked; ``cached`` if an earlier process made it."""

    folder: Path
    manifest: ExportManifest
    cached: bool

    def describe(self) -> Export:
        """Return the export as records hold it: its hash is over the names and hashes of the graph and its data."""
        files = self.manifest.files
        return Export(
            part=self.manifest.identity.part,
            sha256=sha256_of({file.path: file.sha256 for file in files}),
            size_bytes=sum(file.size_bytes for file in files),
            export_s=self.manifest.facts.export_s,
            cached=self.cached,
        )


@dataclass(frozen=True)
class PreparedExports:
    """All parts of a pipeline, and what was rebuilt."""

    parts: dict[ExportedPart, CachedExport]
    warnings: tuple[RecordWarning, ...]


# Writes each part into its folder.
Exporter = Callable[[Mapping[ExportedPart, Path]], Mapping[ExportedPart, ExportFacts]]


def prepare_exports(
    experiment: Experiment, cache_folder: Path, opset: int, emit_stage: Callable[[Stage], None], export: Exporter
) -> PreparedExports:
    """Return the exports of an experiment's networks, checked; ``export`` writes those that are missing or unusable.

    Raises:
        EnvironmentProblem: the cache cannot be written.
        Exception: whatever ``export`` raises; the cache is then as before.
    """
    root = cache_folder / EXPORTS_FOLDER
    config = find_pipeline(experiment, cache_folder)
    parts = map(part_of, config.networks)
    identities = {part: _identify(experiment, part, opset, config) for part in parts}
    exports = {part: _look_up(root, identity) for part, identity in identities.items()}
    reasons: dict[ExportedPart, str | None] = {}
    if not all(isinstance(item, CachedExport) for item in exports.values()):
        with _writing(root):
            root.mkdir(parents=True, exist_ok=True)
        with hold_file(root / ".lock"):
            # Another process may have made them while this one waited.
            exports = {part: _look_up(root, identity) for part, identity in identities.items()}
            reasons = {
                part: item or _find_other_version(root, identities[part])
                for part, item in exports.items()
                if not isinstance(item, CachedExport)
            }
            if reasons:
                emit_stage("export")
                missing = {part: identities[part] for part in reasons}
                _make(root, missing, export)
                exports |= {part: _look_up(root, identity, cached=False) for part, identity in missing.items()}
    return PreparedExports(
        {part: _require(part, item) for part, item in exports.items()},
        tuple(
            warn(WarningCode.EXPORT_REBUILT, f"the {part} was exported to ONNX again: {reason}")
            for part, reason in reasons.items()
            if reason
        ),
    )


def _identify(experiment: Experiment, part: ExportedPart, opset: int, config: PipelineConfig) -> Identity:
    return Identity(
        part=part,
        opset=opset,
        precision=experiment.precision,
        weights={"recipe": RECIPE_VERSION, "weights_seed": experiment.weights_seed}
        if experiment.weights == "synthetic"
        else {"hub_id": experiment.hub_id, "revision": experiment.revision, "pipeline": experiment.pipeline},
        pipeline_class=config.class_name,
        networks={name: item.to_json_dict() for name, item in config.networks.items()},
        made_with={"sdbench's exporter": str(EXPORTER_VERSION), **{name: version(name) for name in _LIBRARIES}},
    )


def _folder_of(root: Path, identity: Identity) -> Path:
    return root / sha256_of(identity.to_json_dict())[:_KEY_DIGITS]


def _look_up(root: Path, identity: Identity, *, cached: bool = True) -> CachedExport | str | None:
    """Return the export when it is complete, what is wrong with it when it is not, None when it was never made."""
    folder = _folder_of(root, identity)
    if not folder.is_dir():
        return None
    manifest = _read_manifest(folder)
    if manifest is None:
        return f"{MANIFEST_NAME} is missing or damaged"
    if manifest.identity != identity:
        return "it is of another version"
    problem = next(filter(None, (_find_damage(folder, file) for file in manifest.files)), None)
    return problem or CachedExport(folder, manifest, cached)


def _require(part: ExportedPart, export: CachedExport | str | None) -> CachedExport:
    if isinstance(export, CachedExport):
        return export
    raise EnvironmentProblem(
        f"the export of the {part} is unusable as soon as written ({export or 'missing'}); check the disk"
    )


def _find_other_version(root: Path, identity: Identity) -> str | None:
    """Return in which versions an export of the same network differs, None when there is none."""
    now = identity.made_with
    for path in sorted(root.glob(f"*/{MANIFEST_NAME}")):
        other = _read_manifest(path.parent)
        if other is not None and other.identity.model_copy(update={"made_with": now}) == identity:
            before = other.identity.made_with
            changed = [name for name in now if before.get(name) != now[name]]
            versions = ", ".join(f"{name} {before.get(name, 'absent')} instead of {now[name]}" for name in changed)
            return f"the one in the cache is of another version ({versions})"
    return None


def _make(root: Path, missing: Mapping[ExportedPart, Identity], export: Exporter) -> None:
    """Export into folders of their own, and put each in its place once it is complete and on the disk."""
    for stale in root.glob(f"{_UNFINISHED}*"):  # of a process that was killed: the lock is held by this one
        shutil.rmtree(stale, ignore_errors=True)
    with _writing(root):
        folders = {part: Path(tempfile.mkdtemp(prefix=_UNFINISHED, dir=root)) for part in missing}
    try:
        facts = export(folders)
        with _writing(root):
            for part, identity in missing.items():
                _publish(folders[part], _folder_of(root, identity), identity, facts[part])
    finally:
        for folder in folders.values():
            shutil.rmtree(folder, ignore_errors=True)


def _publish(draft: Path, folder: Path, identity: Identity, facts: ExportFacts) -> None:
    files = tuple(describe_file(draft, path) for path in sorted(draft.iterdir()))
    manifest = ExportManifest(identity=identity, facts=facts, files=files)
    (draft / MANIFEST_NAME).write_text(manifest.model_dump_json(indent=1) + "\n", encoding="utf-8")
    draft.chmod(0o755)
    for path in draft.iterdir():
        with path.open("rb") as stream:
            os.fsync(stream.fileno())
    sync_folder(draft)
    if folder.exists():
        shutil.rmtree(folder)
    draft.rename(folder)
    sync_folder(folder.parent)


def _read_manifest(folder: Path) -> ExportManifest | None:
    try:
        return ExportManifest.model_validate_json((folder / MANIFEST_NAME).read_bytes())
    except (OSError, ValidationError):
        return None


def _find_damage(folder: Path, file: BundledFile) -> str | None:
    path = folder / file.path
    if not path.is_file():
        return f"{file.path} is missing"
    size_bytes = path.stat().st_size
    if size_bytes != file.size_bytes:
        return f"{file.path} has {size_bytes} bytes instead of {file.size_bytes}"
    return None if describe_file(folder, path) == file else f"the SHA-256 of {file.path} differs"


@contextmanager
def _writing(root: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        message = f"cannot write {root}: {error.strerror}; check the folder and the free space"
        raise EnvironmentProblem(message) from None
