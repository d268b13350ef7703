"""Exported networks, kept under a hash of all that determines them, and checked whenever they are used."""

import fcntl
import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, get_args

from pydantic import FiniteFloat, ValidationError

from sdbench.errors import EnvironmentProblem
from sdbench.models.architectures import COMPONENTS, load_architecture
from sdbench.models.synthetic import RECIPE_VERSION
from sdbench.schema.base import Model, PositiveInt, Sha256, sha256_of
from sdbench.schema.experiment import Experiment
from sdbench.schema.outcome import Notice, Stage
from sdbench.schema.study import Export, ExportedPart

# Raise it with every change in onnx_export.py that changes a file.
EXPORTER_VERSION = 1
PARTS: tuple[ExportedPart, ...] = get_args(ExportedPart)
GRAPH_NAME = "graph.onnx"
MANIFEST_NAME = "export.json"
_LIBRARIES = ("torch", "diffusers", "transformers", "onnx", "onnx-ir", "onnxscript")
# 64 bits of a hash tell the exports of one machine apart; the whole key stands in the manifest and is compared.
_KEY_DIGITS = 16
_UNFINISHED = ".new-"
_REMEDY = "nothing is to be done; if it happens again without a new version, check the disk"


class Subject(Model):
    """What is exported: one network with its weights, in one precision."""

    part: ExportedPart
    precision: str
    weights: dict[str, str | int | None]
    configs: dict[str, dict[str, Any]]


class ExportFacts(Model):
    """What only the exporting process knows: the time one network took (s), and of the weights."""

    export_s: FiniteFloat
    weights_digest: str
    parameter_count: PositiveInt
    weights_dtypes: tuple[str, ...]


class ExportedFile(Model):
    """One file of an export."""

    name: str
    sha256: Sha256
    size_bytes: PositiveInt


class ExportManifest(Model):
    """What stands beside an exported network; ``key`` is the hash of ``subject`` and ``made_with``."""

    key: Sha256
    subject: Subject
    made_with: dict[str, str]
    facts: ExportFacts
    files: tuple[ExportedFile, ...]


@dataclass(frozen=True)
class CachedExport:
    """An export that was checked; ``cached`` says whether it was there before."""

    folder: Path
    manifest: ExportManifest
    cached: bool

    @property
    def graph_path(self) -> Path:
        """Where the graph lies, its data beside it."""
        return self.folder / GRAPH_NAME

    def describe(self) -> Export:
        """Return the export as records hold it: its hash is over the names and hashes of the graph and its data."""
        files = self.manifest.files
        return Export(
            part=self.manifest.subject.part,
            sha256=sha256_of({file.name: file.sha256 for file in files}),
            size_bytes=sum(file.size_bytes for file in files),
            export_s=self.manifest.facts.export_s,
            cached=self.cached,
        )


@dataclass(frozen=True)
class PreparedExports:
    """All parts of a pipeline, and what was rebuilt."""

    parts: dict[ExportedPart, CachedExport]
    notices: tuple[Notice, ...]


Exporter = Callable[[Experiment, Path, Mapping[ExportedPart, Path]], Mapping[ExportedPart, ExportFacts]]


def prepare_exports(
    experiment: Experiment, cache_folder: Path, say_stage: Callable[[Stage], None], export: Exporter
) -> PreparedExports:
    """Return the exports of an experiment's networks, checked; ``export`` writes those that are missing or unusable.

    Raises:
        EnvironmentProblem: the cache cannot be written.
        Exception: whatever ``export`` raises; the cache is then as before.
    """
    root = cache_folder / "onnx"
    wanted = {part: _Wanted(root, _subject_of(experiment, part), _versions()) for part in PARTS}
    found = {part: item.look_up() for part, item in wanted.items()}
    if all(isinstance(item, CachedExport) for item in found.values()):
        return _prepared(found, ())
    with _locked(root):
        # Another process may have made them while this one waited.
        found = {part: item.look_up() for part, item in wanted.items()}
        missing = {part: wanted[part] for part, item in found.items() if not isinstance(item, CachedExport)}
        reasons = {part: str(found[part]) or wanted[part].find_other_version() for part in missing}
        if missing:
            say_stage("export")
            _make(missing, lambda folders: export(experiment, cache_folder, folders))
        made = {part: item.look_up(cached=False) for part, item in missing.items()}
    return _prepared({**found, **made}, tuple(_notice(part, reason) for part, reason in reasons.items() if reason))


@dataclass(frozen=True)
class _Wanted:
    """An export that an experiment needs."""

    root: Path
    subject: Subject
    made_with: dict[str, str]

    @property
    def key(self) -> str:
        return sha256_of({"subject": self.subject.to_json_dict(), "made_with": self.made_with})

    @property
    def folder(self) -> Path:
        return self.root / self.key[:_KEY_DIGITS]

    def look_up(self, *, cached: bool = True) -> "CachedExport | str":
        """Return the export when it is whole, else what is wrong with it: nothing ("") when it was never made."""
        if not self.folder.is_dir():
            return ""
        manifest = _read_manifest(self.folder)
        if manifest is None:
            return f"{MANIFEST_NAME} is missing or damaged"
        if manifest.key != self.key:
            return "it is of another version"
        fault = next(filter(None, (_fault_of(self.folder, file) for file in manifest.files)), None)
        return fault or CachedExport(self.folder, manifest, cached)

    def find_other_version(self) -> str:
        """Return in which versions an export of the same network differs, "" when there is none."""
        others = (_read_manifest(path.parent) for path in sorted(self.root.glob(f"*/{MANIFEST_NAME}")))
        for other in others:
            if other is not None and other.subject == self.subject:
                changed = [
                    f"{name} {other.made_with.get(name, 'absent')} instead of {now}"
                    for name, now in self.made_with.items()
                    if other.made_with.get(name) != now
                ]
                return f"the one in the cache is of another version ({', '.join(changed)})"
        return ""


def _make(
    missing: Mapping[ExportedPart, _Wanted],
    export: Callable[[dict[ExportedPart, Path]], Mapping[ExportedPart, ExportFacts]],
) -> None:
    """Export into folders of their own, and put each in its place once it is whole and on the disk."""
    root = next(iter(missing.values())).root
    for stale in root.glob(f"{_UNFINISHED}*"):  # of a process that was killed: the lock is held by this one
        shutil.rmtree(stale, ignore_errors=True)
    with _written(root):
        folders = {part: Path(tempfile.mkdtemp(prefix=_UNFINISHED, dir=root)) for part in missing}
    try:
        facts = export(folders)
        with _written(root):
            for part, item in missing.items():
                _publish(folders[part], item, facts[part])
    finally:
        for folder in folders.values():
            shutil.rmtree(folder, ignore_errors=True)


def _publish(made: Path, wanted: _Wanted, facts: ExportFacts) -> None:
    files = tuple(_describe_file(path) for path in sorted(made.iterdir()))
    manifest = ExportManifest(
        key=wanted.key, subject=wanted.subject, made_with=wanted.made_with, facts=facts, files=files
    )
    (made / MANIFEST_NAME).write_text(manifest.model_dump_json(indent=1) + "\n", encoding="utf-8")
    made.chmod(0o755)
    for path in (*made.iterdir(), made):
        _sync(path)
    if wanted.folder.exists():
        shutil.rmtree(wanted.folder)
    made.rename(wanted.folder)
    _sync(wanted.root)


def _prepared(found: Mapping[ExportedPart, CachedExport | str], notices: tuple[Notice, ...]) -> PreparedExports:
    parts: dict[ExportedPart, CachedExport] = {}
    for part, item in found.items():
        if not isinstance(item, CachedExport):
            raise EnvironmentProblem(
                f"the export of the {part} is unusable as soon as written ({item}); check the disk"
            )
        parts[part] = item
    return PreparedExports(parts, notices)


def _subject_of(experiment: Experiment, part: ExportedPart) -> Subject:
    architecture = load_architecture(experiment.architecture)
    weights: dict[str, str | int | None] = (
        {"recipe": RECIPE_VERSION, "weights_seed": experiment.weights_seed}
        if experiment.weights == "synthetic"
        else {"hub_id": experiment.hub_id, "revision": experiment.revision}
    )
    configs = {component: architecture.config_of(component) for component in COMPONENTS}
    return Subject(part=part, precision=experiment.precision, weights=weights, configs=configs)


def _versions() -> dict[str, str]:
    return {"sdbench's exporter": str(EXPORTER_VERSION), **{name: version(name) for name in _LIBRARIES}}


def _read_manifest(folder: Path) -> ExportManifest | None:
    try:
        return ExportManifest.model_validate_json((folder / MANIFEST_NAME).read_bytes())
    except (OSError, ValidationError):
        return None


def _fault_of(folder: Path, file: ExportedFile) -> str | None:
    path = folder / file.name
    if not path.is_file():
        return f"{file.name} is missing"
    size_bytes = path.stat().st_size
    if size_bytes != file.size_bytes:
        return f"{file.name} has {size_bytes} bytes instead of {file.size_bytes}"
    if _describe_file(path).sha256 != file.sha256:
        return f"the SHA-256 of {file.name} differs"
    return None


def _describe_file(path: Path) -> ExportedFile:
    with path.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    return ExportedFile(name=path.name, sha256=digest, size_bytes=path.stat().st_size)


def _notice(part: ExportedPart, reason: str) -> Notice:
    return Notice(code="export-rebuilt", message=f"the {part} was exported to ONNX again: {reason}", remedy=_REMEDY)


@contextmanager
def _locked(root: Path) -> Iterator[None]:
    """Hold the cache alone: of two processes that need the same export, the second waits and finds it."""
    with _written(root):
        root.mkdir(parents=True, exist_ok=True)
        stream = (root / ".lock").open("a")
    with stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        yield


@contextmanager
def _written(root: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise EnvironmentProblem(
            f"cannot write {root}: {error.strerror}; check the folder and the free space"
        ) from None


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
