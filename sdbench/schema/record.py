"""The sealed record of one run."""

from typing import Literal

from pydantic import Field

from sdbench.schema.base import Count, Known, Model, Number, Reading, Sha256, Unknown
from sdbench.schema.ceilings import Ceilings
from sdbench.schema.experiment import Experiment
from sdbench.schema.fingerprint import Fingerprint
from sdbench.schema.manifest import Manifest, Protocol
from sdbench.schema.outcome import Outcome, QualityCheck, RecordWarning, launches_of
from sdbench.schema.pipeline import OwnPipeline


class Request(Model):
    """What the user requested in addition to the manifest: enough to repeat the run."""

    manifest_name: str = Field(description="Name of the manifest file.")
    manifest_sha256: Sha256 = Field(description="Hash of the manifest file.")
    only: tuple[str, ...] = Field(description="Groups and experiments that were selected.")
    device: str = Field(description="Device that was requested.")
    weights: str | None = Field(description="Weights that were requested.")
    budget_s: Number | None = Field(description="Budget in seconds that was requested.")
    settings: tuple[str, ...] = Field(description="Assignments over the manifest.")


class PlannedExperiment(Model):
    """One experiment, the groups of the manifest that contain it, and how it is measured."""

    experiment_id: str = Field(description="Identity of the experiment.")
    label: str = Field(description="The experiment in words.")
    groups: tuple[str, ...] = Field(description="Groups of the manifest that contain it.")
    experiment: Experiment = Field(description="Its options.")
    protocol: Protocol = Field(description="How it is measured.")


class Result(Model):
    """A planned experiment, its outcome, and how far that can be trusted: no check where nothing was timed."""

    planned: PlannedExperiment = Field(description="The experiment.")
    outcome: Outcome = Field(description="What became of it.")
    quality_checks: tuple[QualityCheck, ...] = Field(description="How far its values can be trusted.")


class Session(Model):
    """Two arms interleaved in one session: which one a record is, the seed of the order, and what the arm set.

    ``settings`` are as they were requested, ``threads=1`` or ``env.OMP_NUM_THREADS=1``, without secrets.
    """

    session_id: str = Field(description="Identity of the session.")
    arm: Literal["a", "b"] = Field(description="Which of its arms this record is.")
    seed: Count = Field(description="Seed of the order.")
    settings: Reading[tuple[str, ...]] = Field(description="What the arm set, without secrets.")


class DeviceGroup(Model):
    """The devices of one host that were measured for one question: each alone, or all at once.

    Records of one ``group_id`` belong together; where ``at_once`` is set, the others ran next to this one.
    """

    group_id: str = Field(description="Identity of the group.")
    devices: tuple[str, ...] = Field(description="Devices of the group.")
    at_once: bool = Field(description="Whether the others ran at the same time.")


class Publication(Model):
    """How a published record differs from the one on the machine that measured.

    ``source_seal`` is the seal of that one; ``redacted`` names, as ``Model.field``, what is not published or redacted.
    """

    source_seal: Sha256 = Field(description="Seal of the record on the machine that measured.")
    redacted: tuple[str, ...] = Field(description="Fields, as Model.field, that were left out or redacted.")


class BundledFile(Model):
    """A file of the bundle next to the record, by its path within the folder."""

    path: str = Field(description="Path within the folder.")
    sha256: Sha256 = Field(description="Hash of the content.")
    size_bytes: Count = Field(description="Size in bytes.")


class Record(Model):
    """Everything that one run measured. ``seal`` is the SHA-256 of its file with zeros in its place.

    An imported record holds reference results (``ReferenceResult``, or ``OutOfMemory`` where the source failed), and
    what the source did not record is unknown. A virtual one was made by the virtual backend: simulated results.
    ``publication`` is None on the machine that measured.
    """

    schema_: Literal["sdbench/record/v1"] = Field(alias="schema", description="Format and version.")
    origin: Literal["measured", "imported", "virtual"] = Field(description="Measured, imported or simulated.")
    run_id: str = Field(description="Identity of the run.")
    created_utc: str = Field(description="When the run started, UTC.")
    ended_utc: str = Field(description="When the run ended, UTC.")
    ended: Literal["complete", "interrupted", "paused"] = Field(description="How the run ended.")
    wall_s: Reading[float] = Field(description="Seconds from start to end.")
    request: Request = Field(description="What the command requested.")
    session: Session | None = Field(description="The interleaved session of which this is an arm.")
    device_group: DeviceGroup | None = Field(description="Devices of the host that were measured together.")
    publication: Publication | None = Field(description="How it differs from the record that was measured.")
    manifest: Manifest = Field(description="What was to be measured.")
    pipelines: dict[str, OwnPipeline] = Field(
        default={}, description="Pipelines that do not ship with sdbench, by name."
    )
    device: str = Field(description="Device as torch names it.")
    fingerprint: Fingerprint = Field(description="The machine and its software.")
    ceilings_at_end: Reading[Ceilings] = Field(
        description="What the machine reached at best when the run was complete."
    )
    results: tuple[Result, ...] = Field(description="Experiments with their outcomes.")
    files: tuple[BundledFile, ...] = Field(description="Files of the bundle.")
    warnings: tuple[RecordWarning, ...] = Field(description="What may affect the whole run.")
    seal: Sha256 = Field(description="SHA-256 of the file with zeros for these digits.")

    @property
    def machine_key(self) -> tuple[str, str, str]:
        """What is identical in runs of one machine and device: origin, hash of the hardware, device."""
        return self.origin, self.fingerprint.hardware_sha256, self.device

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

    @property
    def device_memory_bytes(self) -> Reading[int]:
        """How much memory (bytes) the device has: the GPU's own, or the host's for a run on the CPU."""
        hardware = self.fingerprint.hardware
        if not self.device.startswith("cuda"):
            return hardware.memory_total_bytes
        if isinstance(hardware.gpus, Unknown):
            return hardware.gpus
        gpu = next(iter(hardware.gpus.value), None)
        return Unknown(reason="the fingerprint has no GPU") if gpu is None else gpu.memory_total_bytes
