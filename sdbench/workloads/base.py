"""What a workload gets from the worker, and what it gives back."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from sdbench.backends.base import Backend, Clock
from sdbench.schema import manifest
from sdbench.schema.experiment import Experiment
from sdbench.schema.outcome import (
    Check,
    Energy,
    ImageResult,
    MemoryFigures,
    Notice,
    Series,
    Stage,
    StopReason,
    WorkerEnvironment,
)
from sdbench.schema.study import BatchProbe, BatchSearch, Export, PrecisionStudy


class Session(Protocol):
    """One launch: what is asked, the clock, the meters, and the way to say how far it is."""

    @property
    def experiment(self) -> Experiment:
        """What to measure."""

    @property
    def protocol(self) -> manifest.Protocol:
        """How often."""

    @property
    def clock(self) -> Clock:
        """The clock of every timing."""

    @property
    def known_probes(self) -> tuple[BatchProbe, ...]:
        """What earlier workers of the same search found."""

    def open_backend(self, experiment: Experiment) -> Backend:
        """Load ``experiment`` and start new memory peaks; the time it takes counts as load time."""

    def start_energy(self) -> None:
        """Start the energy meter."""

    def stop_energy(self, call_count: int, duration_s: float) -> Energy:
        """Return the energy (J) since the start."""

    def reset_memory(self) -> None:
        """Start new memory peaks."""

    def read_memory(self) -> MemoryFigures:
        """Return the memory figures (bytes) since the last reset."""

    def say_stage(self, stage: Stage) -> None:
        """Tell the supervisor which stage begins."""

    def say_sample(self, latency_s: float, warmup: bool) -> None:
        """Tell the supervisor one call's latency (s)."""

    def say_probing(self, batch: int) -> None:
        """Tell the supervisor which batch is tried now, in case it kills this process."""

    def say_probe(self, probe: BatchProbe) -> None:
        """Tell the supervisor what trying a batch gave."""

    def image_path(self, name: str) -> str | None:
        """Return the path within the bundle of a picture to keep, or None when none are kept in this launch."""


@dataclass(frozen=True)
class Findings:
    """What a workload found. ``pictures`` maps paths within the bundle to the bytes of a WebP."""

    batch: int
    series: tuple[Series, ...]
    stop_reason: StopReason
    first_call_s: float
    memory: MemoryFigures
    energy: Energy
    checks: tuple[Check, ...]
    images: tuple[ImageResult, ...]
    notices: tuple[Notice, ...]
    environment: WorkerEnvironment
    exports: tuple[Export, ...]
    study: BatchSearch | PrecisionStudy | None = None
    pictures: Mapping[str, bytes] = field(default_factory=dict)


class Workload(Protocol):
    """What a module named in ``WORKLOADS`` offers."""

    def run(self, session: Session) -> Findings:
        """Do the workload and return what it found."""


def encode_webp(picture: Any) -> bytes:
    """Return a PIL image as lossless WebP."""
    import io

    buffer = io.BytesIO()
    picture.save(buffer, format="WEBP", lossless=True)
    return buffer.getvalue()
