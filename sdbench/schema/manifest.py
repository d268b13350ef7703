"""The manifest: what a person writes, checked but not yet expanded."""

from typing import Annotated, Any, Literal

from pydantic import Field, FiniteFloat

from sdbench.schema.base import Count, Model, PositiveFloat, PositiveInt
from sdbench.schema.experiment import Architecture

MANIFEST_SCHEMA = "sdbench/manifest/v1"

Identifier = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._-]{0,63}$")]
OptionValue = str | int | float | bool | None
Metric = Literal["latency_s", "throughput_images_per_min", "memory_bytes", "largest_batch", "dissimilarity"]


class Source(Model):
    """Where the experiments come from."""

    title: str
    authors: str | None = None
    year: int | None = None
    url: str | None = None


class ModelChoice(Model):
    """Which network, and whose weights."""

    architecture: Architecture | None = None
    weights: Literal["synthetic", "pretrained"] | None = None
    weights_seed: Count | None = None
    hub_id: Annotated[str, Field(pattern=r"^[\w.-]+/[\w.-]+$", description="OWNER/NAME")] | None = None
    revision: Annotated[str, Field(pattern=r"^[0-9a-f]{40}$", description="a full commit hash")] | None = None


class Protocol(Model):
    """How often to measure and when to stop.

    ``launch_budget_s`` bounds the timed calls of one launch, ``budget_s`` the whole run, and
    ``launch_timeout_s`` kills a launch that hangs.
    """

    warmup_calls: Annotated[int, Field(ge=1, le=1000)] = 2
    calls_min: Annotated[int, Field(ge=1, le=100_000)] = 3
    calls_max: Annotated[int, Field(ge=1, le=100_000)] = 20
    launch_budget_s: PositiveFloat = 600.0
    phase_calls: Annotated[int, Field(ge=1, le=1000)] = 1
    launches_min: Annotated[int, Field(ge=1, le=1000)] = 8
    launches_max: Annotated[int, Field(ge=1, le=1000)] = 20
    relative_half_width: Annotated[float, Field(gt=0, lt=1)] = 0.01
    confidence: Annotated[float, Field(gt=0.5, lt=1)] = 0.95
    budget_s: PositiveFloat | None = None
    launch_timeout_s: PositiveFloat = 3600.0


class ProtocolOverride(Model):
    """The protocol keys that a group of experiments sets for itself; the budget belongs to the whole run."""

    warmup_calls: Annotated[int, Field(ge=1, le=1000)] | None = None
    calls_min: Annotated[int, Field(ge=1, le=100_000)] | None = None
    calls_max: Annotated[int, Field(ge=1, le=100_000)] | None = None
    launch_budget_s: PositiveFloat | None = None
    phase_calls: Annotated[int, Field(ge=1, le=1000)] | None = None
    launches_min: Annotated[int, Field(ge=1, le=1000)] | None = None
    launches_max: Annotated[int, Field(ge=1, le=1000)] | None = None
    relative_half_width: Annotated[float, Field(gt=0, lt=1)] | None = None
    launch_timeout_s: PositiveFloat | None = None


class Group(Model):
    """A named set of experiments: options, and a matrix whose every combination is one experiment."""

    id: Identifier
    title: str
    options: dict[str, OptionValue] = Field(default_factory=dict)
    protocol: ProtocolOverride = ProtocolOverride()
    matrix: dict[str, tuple[OptionValue, ...]] = Field(default_factory=dict)
    include: tuple[dict[str, OptionValue], ...] = ()
    exclude: tuple[dict[str, OptionValue], ...] = ()


class Selector(Model):
    """One side of a claim: the experiment whose options have these values.

    ``machine`` is part of a device's name and ``runs_on`` its kind; with either, the two sides may come from
    different runs.
    ``at_steps`` names a run of a precision study; ``pick`` chooses among several experiments that fit.
    """

    options: dict[str, OptionValue]
    machine: Annotated[str, Field(min_length=1)] | None = None
    runs_on: Literal["cpu", "cuda"] | None = None
    pick: Literal["only", "largest batch"] = "only"
    at_steps: PositiveInt | None = None


class Interval(Model):
    """A closed interval; an end left out is open."""

    low: FiniteFloat | None = None
    high: FiniteFloat | None = None


class Claim(Model):
    """A statement of the source that a run can test.

    The value is the numerator's metric, over the denominator's when there is one; the statement holds when the value
    lies in ``expected``. ``dissimilarity`` is 1 - SSIM between candidate and reference.
    """

    id: Identifier
    text: str
    metric: Metric
    numerator: Selector
    denominator: Selector | None = None
    expected: Interval
    applies_to: Literal["any", "cpu", "cuda"] = "any"
    source: str


class Manifest(Model):
    """A checked manifest, as written: matrices are not expanded."""

    schema_: Literal["sdbench/manifest/v1"] = Field(alias="schema")
    title: Annotated[str, Field(min_length=1, max_length=200)]
    source: Source | None = None
    deviations: tuple[Annotated[str, Field(min_length=1)], ...] = ()
    model: ModelChoice = ModelChoice()
    protocol: Protocol = Protocol()
    defaults: dict[str, OptionValue] = Field(default_factory=dict)
    experiments: Annotated[tuple[Group, ...], Field(min_length=1)]
    claims: tuple[Claim, ...] = ()

    def to_json_dict(self) -> dict[str, Any]:
        """Return the manifest as JSON types, with the key ``schema`` as written."""
        return self.model_dump(mode="json", by_alias=True)


__all__ = [
    "MANIFEST_SCHEMA",
    "Claim",
    "Group",
    "Manifest",
    "Metric",
    "ModelChoice",
    "PositiveInt",
    "Protocol",
    "ProtocolOverride",
    "Source",
]
