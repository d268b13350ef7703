"""The sealed record of one run."""

from typing import Any, Literal

from pydantic import Field, FiniteFloat

from sdbench.schema.base import Count, Known, Model, Reading, Sha256, sha256_of
from sdbench.schema.experiment import Experiment
from sdbench.schema.fingerprint import Fingerprint
from sdbench.schema.manifest import Manifest, Protocol
from sdbench.schema.outcome import Notice, Outcome, TrustCheck, launches_of


class Request(Model):
    """What the user asked for beside the manifest: enough to ask the same again."""

    manifest_name: str
    manifest_sha256: Sha256
    only: tuple[str, ...]
    device: str
    weights: str | None
    budget_s: FiniteFloat | None
    settings: tuple[str, ...]


class PlannedExperiment(Model):
    """One experiment, the groups of the manifest that ask for it, and how it is measured."""

    experiment_id: str
    label: str
    groups: tuple[str, ...]
    experiment: Experiment
    protocol: Protocol


class Result(Model):
    """A planned experiment, its outcome, and how far that can be trusted: no check where nothing was timed."""

    planned: PlannedExperiment
    outcome: Outcome
    trust: tuple[TrustCheck, ...]


class Session(Model):
    """Two sides that took turns in one session: which one a record is, the seed of the order, and what the side set.

    ``settings`` are as they were asked for, ``threads=1`` or ``env.OMP_NUM_THREADS=1``, without secrets.
    """

    session_id: str
    side: Literal["a", "b"]
    seed: Count
    settings: Reading[tuple[str, ...]]


class DeviceGroup(Model):
    """The devices of one host that were measured for one question: each alone, or all at once.

    Records of one ``group_id`` belong together; where ``at_once`` is set, the others ran beside this one.
    """

    group_id: str
    devices: tuple[str, ...]
    at_once: bool


class Exported(Model):
    """How a record that left its machine differs from the one that was made there.

    ``source_seal`` is the seal of that one; ``withheld`` names, as ``Model.field``, what did not leave or was redacted.
    """

    source_seal: Sha256
    withheld: tuple[str, ...]


class BundledFile(Model):
    """A file of the bundle beside the record, by its path within the folder."""

    path: str
    sha256: Sha256
    size_bytes: Count


class Record(Model):
    """Everything one run found. ``seal`` is the SHA-256 of the canonical JSON of all the rest.

    An imported record holds what somebody else published: its outcomes are ``Published``, and what the source did not
    record is unknown. A virtual one was made by the virtual backend: its figures are of no machine. ``exported`` is
    None on the machine that measured.
    """

    schema_: Literal["sdbench/record/v6"] = Field(alias="schema")
    origin: Literal["measured", "imported", "virtual"]
    run_id: str
    created_utc: str
    ended_utc: str
    ended: Literal["complete", "interrupted", "paused"]
    wall_s: Reading[float]
    request: Request
    session: Session | None
    device_group: DeviceGroup | None
    exported: Exported | None
    manifest: Manifest
    device: str
    fingerprint: Fingerprint
    results: tuple[Result, ...]
    files: tuple[BundledFile, ...]
    warnings: tuple[Notice, ...]
    seal: Sha256

    @property
    def device_name(self) -> str:
        """The processor's model for a run on the CPU; for CUDA the name the worker saw, or else the fingerprint's."""
        hardware = self.fingerprint.hardware
        if not self.device.startswith("cuda"):
            return hardware.cpu_model.value if isinstance(hardware.cpu_model, Known) else self.device
        for result in self.results:
            for launch in launches_of(result.outcome):
                return launch.environment.device_name
        gpus = hardware.gpus.value if isinstance(hardware.gpus, Known) else ()
        return next((gpu.name.value for gpu in gpus if isinstance(gpu.name, Known)), self.device)

    def to_json_dict(self) -> dict[str, Any]:
        """Return the record as JSON types, with the key ``schema`` as stored."""
        return self.model_dump(mode="json", by_alias=True)


def compute_seal(record: dict[str, Any]) -> str:
    """Return the SHA-256 (hex) of a record's canonical JSON without its ``seal``."""
    return sha256_of({key: value for key, value in record.items() if key != "seal"})
