"""The manifest: what a person writes, checked but not yet expanded."""

from typing import TYPE_CHECKING, Annotated, Literal, TypeAlias

from pydantic import Field

from sdbench.schema.base import Model, PositiveInt
from sdbench.schema.experiment import Experiment
from sdbench.schema.written import Written, make_written

MANIFEST_SCHEMA = "sdbench/manifest/v1"

Identifier = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._-]{0,63}$")]
Text = Annotated[str, Field(min_length=1)]
# 31 years: sums and products of durations stay finite.
Seconds = Annotated[float, Field(gt=0, le=1e9, allow_inf_nan=False)]
SecondsOrNone = Annotated[float, Field(ge=0, le=1e9, allow_inf_nan=False)]
Bound = Annotated[float, Field(ge=-1e18, le=1e18, allow_inf_nan=False)]
CallCount = Annotated[int, Field(ge=1, le=100_000)]
LaunchCount = Annotated[int, Field(ge=1, le=1000)]
Isolation = Literal["fork", "spawn"]
Metric = Literal["latency_s", "throughput_images_per_min", "memory_bytes", "largest_batch", "dissimilarity"]


class Source(Model):
    """Where the experiments come from."""

    title: str = Field(description="Title of the paper, article or study.")
    authors: str | None = Field(default=None, description="Who wrote it.")
    year: Annotated[int, Field(ge=0, le=9999)] | None = Field(default=None, description="Year of publication.")
    url: str | None = Field(default=None, description="Where it can be read.")


class Protocol(Model):
    """How often to measure and when to stop."""

    warmup_calls: LaunchCount = Field(default=2, description="Calls of a launch that are kept but not counted.")
    warmup_s: SecondsOrNone = Field(default=0.0, description="Seconds that the warm-up calls take at least.")
    calls_min: CallCount = Field(default=3, description="Fewest timed calls of a launch.")
    calls_max: CallCount = Field(default=20, description="Most timed calls of a launch.")
    launch_budget_s: Seconds = Field(default=600.0, description="Seconds that the timed calls of one launch may take.")
    sustained_s: SecondsOrNone = Field(
        default=0.0, description="Seconds of load before calls are timed once more, for the sustained ratio; 0: none."
    )
    launches_min: LaunchCount = Field(default=8, description="Fewest launches of an experiment.")
    launches_max: LaunchCount = Field(default=20, description="Most launches of an experiment.")
    relative_half_width: float = Field(default=0.01, gt=0, lt=1, description="Half width at which it has converged.")
    confidence: float = Field(default=0.95, gt=0.5, lt=1, description="Confidence level of the intervals.")
    budget_s: Seconds | None = Field(default=None, description="Seconds for the whole run; no limit when null.")
    launch_timeout_s: Seconds = Field(default=3600.0, description="Seconds after which a launch that hangs is killed.")
    isolation: Isolation = Field(
        default="fork",
        description="Launches are forked from a process that has only imported the libraries, or each is spawned.",
    )
    operators: Literal["auto", "always", "never"] = Field(
        default="auto",
        description="Whether the first launch profiles a further call: auto where a call takes under 20 s.",
    )
    trace: bool = Field(default=False, description="Keep the trace of the profiled call next to the record.")
    trace_bytes_max: PositiveInt = Field(
        default=2**26, description="Largest trace that is kept, before it is compressed; 200 to 450 bytes an event."
    )
    adjust: Literal["none", "reference"] = Field(
        default="none", description="Whether the ratio at equal reference operation decides a comparison."
    )


_OPTION_NAMES = tuple(Experiment.model_fields)
_MODEL_NAMES = ("pipeline", "config", "weights", "weights_seed", "hub_id", "revision")
# The budget and the confidence level belong to the whole run.
_OVERRIDABLE = tuple(name for name in Protocol.model_fields if name not in ("budget_s", "confidence"))

if TYPE_CHECKING:
    Options: TypeAlias = Written
    ModelOptions: TypeAlias = Written
    ProtocolOverride: TypeAlias = Written
    Matrix: TypeAlias = Written
else:
    Options = make_written("Options", Experiment, _OPTION_NAMES, doc="Options of experiments.")
    ModelOptions = make_written("ModelOptions", Experiment, _MODEL_NAMES, doc="Which network, and whose weights.")
    ProtocolOverride = make_written("ProtocolOverride", Protocol, _OVERRIDABLE, doc="What a group sets for itself.")
    Matrix = make_written("Matrix", Experiment, _OPTION_NAMES, doc="Values to combine, by option.", lists=True)


class Exclusion(Options):
    """The options that combinations have in common which are not measured, or the group that measures them."""

    group: Identifier = Field(default="", description="Leave out what this group measures; stands alone.")


class Group(Model):
    """A named set of experiments: options, and a matrix of which every combination is one experiment."""

    id: Identifier = Field(description="Name of the group, for --only and for exclude.")
    title: str = Field(description="What the group is about.")
    options: Options = Field(default=Options(), description="Options of all its experiments.")
    protocol: ProtocolOverride = Field(default=ProtocolOverride(), description="Differences from the manifest's.")
    matrix: Matrix = Field(default=Matrix(), description="Lists of values by option, to combine.")
    include: tuple[Options, ...] = Field(default=(), description="Experiments in addition to the matrix.")
    exclude: tuple[Exclusion, ...] = Field(default=(), description="Combinations of the matrix to leave out.")


class Selector(Model):
    """The experiment whose options have these values; those of one claim may come from different runs."""

    options: Options = Field(description="Options that the experiment must have.")
    machine: Text | None = Field(default=None, description="Words of the device's name, for example A100 80GB.")
    runs_on: Literal["cpu", "cuda"] | None = Field(default=None, description="The kind of device that the run is on.")
    pick: Literal["only", "largest batch"] = Field(default="only", description="Which of several matches is meant.")
    at_steps: PositiveInt | None = Field(default=None, description="Steps of a run of workload precision.")


class Interval(Model):
    """A closed interval; an end that is null is open."""

    low: Bound | None = Field(default=None, description="Lower end.")
    high: Bound | None = Field(default=None, description="Upper end.")


class Claim(Model):
    """A statement of the source that a run can test.

    The value is the numerator's metric, over the denominator's when there is one; the statement holds when the value
    lies in ``expected``. Where neither ``applies_to`` nor ``machines`` match, the claim is not tested.
    """

    id: Identifier = Field(description="Name of the claim.")
    text: str = Field(description="The statement in words.")
    metric: Metric = Field(description="What is compared; dissimilarity is 1 - SSIM from the fp32 image.")
    numerator: Selector = Field(description="The experiment that the statement is about.")
    denominator: Selector | None = Field(default=None, description="The experiment that it is divided by.")
    expected: Interval = Field(description="The values for which the statement holds.")
    applies_to: Literal["any", "cpu", "cuda"] = Field(default="any", description="Kind of device the claim is about.")
    machines: tuple[Text, ...] = Field(default=(), description="Words of the devices' names; all when empty.")
    source: str = Field(description="Where the source makes the statement.")


class Manifest(Model):
    """A checked manifest, as written: matrices are not expanded."""

    schema_: Literal["sdbench/manifest/v1"] = Field(alias="schema", description="Format and version of the file.")
    title: str = Field(min_length=1, max_length=200, description="Title of the run and of its report.")
    source: Source | None = Field(default=None, description="Where the experiments come from.")
    deviations: tuple[Text, ...] = Field(default=(), description="How the experiments differ from the source's.")
    model: ModelOptions = Field(default=ModelOptions(), description="The network and its weights.")
    protocol: Protocol = Field(default=Protocol(), description="How the experiments are measured.")
    defaults: Options = Field(default=Options(), description="Options of all experiments.")
    experiments: tuple[Group, ...] = Field(min_length=1, description="Groups of experiments.")
    claims: tuple[Claim, ...] = Field(default=(), description="Statements of the source to check.")
