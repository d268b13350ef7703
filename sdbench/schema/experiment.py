"""An experiment: one fully specified thing to measure, and its identity."""

import json
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, ValidationInfo, model_validator
from pydantic_core import PydanticCustomError

from sdbench.schema.base import Count, Model, PositiveInt, sha256_of

Weights = Literal["synthetic", "pretrained"]
Precision = Literal["fp32", "fp16", "bf16"]
Autocast = Literal["off", "fp16", "bf16"]
Tf32 = Literal[False, "convolutions", True]
Scheduler = Literal["pndm", "ddim", "euler", "dpm++", "euler-ancestral", "unipc", "lcm", "flow-euler"]
TimestepSpacing = Literal["leading", "trailing", "linspace"]
DeviceKind = Literal["cpu", "cuda"]
Attention = Literal["sdpa", "sdpa-math", "sdpa-flash", "sdpa-efficient", "sdpa-cudnn", "eager", "sliced", "xformers"]
GraphOptimization = Literal["disabled", "basic", "extended", "all"]
Fault = Literal["none", "crash", "out-of-memory", "hang", "not-finite"]

# What messages expect of a revision.
REVISION_FORM = "a commit hash, all 40 hex digits in lower case; branches and tags move"
ID_DIGITS = 16
# A latent stands for 8 x 8 pixels in every pipeline so far; some pack latents, and the plan then asks for more.
SIZE_STEP_PX = 8
STEPS_MAX = 1000

Ratio = Annotated[float, Field(ge=0, le=1)]
ImageSize = Annotated[int, Field(ge=SIZE_STEP_PX, le=8192, multiple_of=SIZE_STEP_PX)]
StepCount = Annotated[int, Field(ge=1, le=STEPS_MAX)]
BatchSize = Annotated[int, Field(ge=1, le=4096)]
GuidanceScale = Annotated[float, Field(ge=0, le=100)]
Prompt = Annotated[str, Field(max_length=2000)]
ConfigValue = bool | int | float | str | None


class ConfigChanges(dict[str, ConfigValue]):
    """Changed keys of configs; never changed itself, so that an experiment has a hash."""

    def __hash__(self) -> int:  # type: ignore[override]
        """Return a hash of the keys and values, whatever their order."""
        return hash(frozenset(self.items()))


HubId = Annotated[str, Field(pattern=r"^[\w.-]+/[\w.-]+$")]
Revision = Annotated[str, Field(pattern=r"^[0-9a-f]{40}$")]

_LABELS = {"vae_slicing": "VAE slicing", "vae_tiling": "VAE tiling", "channels_last": "channels last"}
_PROMPT = "a photo of an astronaut riding a horse on mars"
# The options that only one backend or workload reads.
_OPTIONS_OF = {
    "backend=pytorch": ("autocast", "tf32", "attention", "vae_slicing", "vae_tiling", "channels_last"),
    "backend=onnxruntime": ("graph_optimization",),
    "workload=largest-batch": ("batch_max", "memory_limit_bytes"),
    "workload=precision": ("sweep_min", "sweep_max", "sweep_every"),
    "backend=virtual": ("virtual",),
}


def _check_name(name: str, info: ValidationInfo) -> str:
    """Refuse a name that is not in the table given as context, which is given for manifests and not for records."""
    known = (info.context or {}).get(info.field_name, (name,))
    if name not in known:
        raise PydanticCustomError("unknown_name", "unknown {field}", {"field": info.field_name, "known": sorted(known)})
    return name


KnownName = Annotated[str, AfterValidator(_check_name)]
# That of a user's pipeline ends with a hash of its configs.
PipelineName = Annotated[str, Field(pattern=r"^[\w.+-]{1,64}(@[0-9a-f]{12})?$"), AfterValidator(_check_name)]

# What the 2022 study measured.
STUDY_STEPS = 50


class VirtualOptions(Model):
    """The noise model of the virtual backend, which tries and tests everything around a measurement."""

    latency_s: float = Field(default=1.0, gt=0, le=1e6, description="Seconds that a call takes.")
    call_noise: Ratio = Field(default=0.005, description="Relative standard deviation from call to call.")
    launch_noise: Ratio = Field(default=0.01, description="Relative standard deviation from launch to launch.")
    correlation: float = Field(default=0.0, ge=0, lt=1, description="Correlation with the launch before, AR(1).")
    drift: float = Field(default=0.0, ge=-0.1, le=0.1, description="Relative change added with each launch.")
    mode_gap: Ratio = Field(default=0.0, description="How much longer a random half of the launches takes, as a ratio.")
    throttle: Ratio = Field(default=0.0, description="Share of launches that are throttled and take 1.2 times as long.")
    stall: Ratio = Field(default=0.0, description="Share of calls that take 5 times as long.")
    clock_mhz: float | None = Field(
        default=None, gt=0, le=1e5, description="Clock of the device in MHz, which calls follow; unknown if null."
    )
    clock_noise: Ratio = Field(default=0.0, description="Relative standard deviation of the clock between launches.")
    fault: Fault = Field(default="none", description="What goes wrong.")
    fault_launch: Count = Field(default=0, description="The launch of the run in which it goes wrong, from 0.")


class Experiment(Model):
    """Every option of one measurement.

    A released default never changes, because an option at its default is left out of the identity (ADR 0001).
    """

    pipeline: PipelineName = Field(description="What makes the images: a shipped pipeline, see sdbench pipelines.")
    config: Annotated[dict[str, ConfigValue], AfterValidator(ConfigChanges)] = Field(
        default={},
        validate_default=True,
        description="Keys of the pipeline's configs to change, COMPONENT.KEY, as transformer.num_layers.",
    )
    workload: KnownName = Field(default="latency", description="What is measured: latency, largest-batch or precision.")
    backend: KnownName = Field(default="pytorch", description="What runs it: pytorch, onnxruntime or virtual.")
    device: Literal["any", "cpu", "cuda"] = Field(default="any", description="The kind of device it is for.")
    weights: Weights = Field(default="synthetic", description="Seeded random weights, or those of hub_id at revision.")
    weights_seed: Count = Field(default=0, description="Seed of synthetic weights.")
    hub_id: HubId | None = Field(default=None, description="Repository of pretrained weights, OWNER/NAME.")
    revision: Revision | None = Field(default=None, description="Full commit hash of the repository.")
    precision: Precision = Field(default="fp32", description="Data type of the weights.")
    autocast: Autocast = Field(default="off", description="Data type of torch's autocast around the call.")
    tf32: Tf32 = Field(default=False, description="TF32 on GPUs: off, for convolutions only (torch's default), or on.")
    batch: BatchSize = Field(default=1, description="Images in one call.")
    steps: StepCount = Field(default=50, description="Denoising steps.")
    height: ImageSize = Field(default=512, description="Height of the image in pixels.")
    width: ImageSize = Field(default=512, description="Width of the image in pixels.")
    scheduler: Scheduler = Field(default="pndm", description="Scheduler of diffusers.")
    guidance_scale: GuidanceScale = Field(
        default=7.5, description="Guidance; at 1 or below most pipelines do half the work."
    )
    max_sequence_length: PositiveInt | None = Field(
        default=None, description="Tokens of a prompt for T5 and Qwen3; the pipeline's own number if null."
    )
    timestep_spacing: TimestepSpacing | None = Field(
        default=None, description="How the scheduler spreads its steps; as the pipeline's config says if null."
    )
    seed: int = Field(default=42, ge=0, lt=2**63, description="Seed of the initial noise.")
    threads: PositiveInt | None = Field(default=None, description="CPU threads of one operator; all usable if null.")
    prompt: Prompt = Field(default=_PROMPT, description="The text that the images are made from.")
    negative_prompt: Prompt = Field(default="", description="The text that guidance steers away from.")
    attention: Attention = Field(
        default="sdpa",
        description="Attention of the denoiser: torch's SDPA with any or one kernel, or a diffusers processor.",
    )
    vae_slicing: bool = Field(default=False, description="Decode the images of a batch one by one.")
    vae_tiling: bool = Field(default=False, description="Decode large images tile by tile.")
    channels_last: bool = Field(default=False, description="Memory layout of denoiser and VAE.")
    graph_optimization: GraphOptimization = Field(default="all", description="Graph optimization of onnxruntime.")
    inter_op_threads: PositiveInt | None = Field(
        default=None, description="CPU threads across operators; library default if null."
    )
    batch_max: BatchSize = Field(default=256, description="Upper end of the search of workload largest-batch.")
    memory_limit_bytes: PositiveInt | None = Field(
        default=None, description="Bytes largest-batch may use; all if null."
    )
    sweep_min: StepCount = Field(default=10, description="Fewest steps of the runs of workload precision.")
    sweep_max: StepCount = Field(default=100, description="Most steps of the runs of workload precision.")
    sweep_every: StepCount = Field(default=5, description="Difference in steps between two runs of workload precision.")
    virtual: VirtualOptions = Field(default=VirtualOptions(), description="The noise model of backend virtual.")

    @model_validator(mode="after")
    def _options_fit_each_other(self) -> "Experiment":
        """Refuse an option that nothing reads: the result would seem to depend on it."""
        for belongs_to, names in _OPTIONS_OF.items():
            key, _, value = belongs_to.partition("=")
            ignored = [name for name in names if getattr(self, name) != type(self).model_fields[name].default]
            if ignored and getattr(self, key) != value:
                raise ValueError(f"{ignored[0]!r} applies only to {key}: {value}; remove it")
        if self.backend == "virtual" and self.workload != "latency":
            raise ValueError(f"backend: virtual measures latency only, not workload: {self.workload}")
        if self.workload == "largest-batch" and self.batch != 1:
            raise ValueError("'batch' does not apply to workload: largest-batch, which searches for it; remove it")
        if self.sweep_min > self.sweep_max:
            raise ValueError(f"sweep_min {self.sweep_min} is above sweep_max {self.sweep_max}; lower it")
        return self

    @property
    def sweep_steps(self) -> tuple[int, ...]:
        """The step counts of the separate runs of workload precision."""
        return tuple(range(self.sweep_min, self.sweep_max + 1, self.sweep_every))

    @property
    def experiment_id(self) -> str:
        """The first 16 hex digits of the SHA-256 of the options that differ from their defaults."""
        options = self.model_dump(mode="json", exclude_defaults=True)
        if self.weights == "synthetic":
            # Synthetic weights do not depend on a repository.
            options.pop("hub_id", None)
            options.pop("revision", None)
        return sha256_of(options)[:ID_DIGITS]

    @property
    def needs_hub(self) -> bool:
        """Whether its weights are those of a repository; a user's pipeline may have its own."""
        return self.weights == "pretrained" and (self.hub_id is not None or "@" not in self.pipeline)

    def has(self, options: Mapping[str, Any]) -> bool:
        """Return whether the experiment has these values of these options; true is not 1."""
        pairs = [(getattr(self, name), value) for name, value in options.items()]
        return all(own == value and isinstance(own, bool) == isinstance(value, bool) for own, value in pairs)

    @property
    def pipeline_title(self) -> str:
        """The pipeline and what is changed in it: ``flux.1-schnell num_layers=2``, which is another pipeline."""
        keys = {path: path.rpartition(".")[2] for path in sorted(self.config)}
        # Two networks may have a key of one name.
        names = {path: key if list(keys.values()).count(key) == 1 else path for path, key in keys.items()}
        values = {path: value if isinstance(value, str) else json.dumps(value) for path, value in self.config.items()}
        return " ".join((self.pipeline, *(f"{name}={values[path]}" for path, name in names.items())))

    @property
    def label(self) -> str:
        """What people call the experiment: ``tiny-sd fp32 batch 1 64x64 4 steps``."""
        written = self.model_dump(exclude_defaults=True)
        tf32 = "TF32" if self.tf32 is True else "TF32 convolutions"
        attention = self.attention if self.attention.startswith("sdpa") else f"{self.attention} attention"
        batch = "largest batch" if self.workload == "largest-batch" else f"batch {self.batch}"
        steps = f"{self.steps} step{'' if self.steps == 1 else 's'}"
        # An option at its default is not named.
        words = (
            self.pipeline_title,
            self.precision,
            "autocast" in written and f"autocast {self.autocast}",
            self.tf32 and tf32,
            *(getattr(self, name) and text for name, text in _LABELS.items()),
            "attention" in written and attention,
            f"{batch} {self.width}x{self.height} {steps}",
            # Flow matching has one.
            self.scheduler != "flow-euler" and written.get("scheduler"),
            *(written.get(name) for name in ("timestep_spacing", "backend", "device")),
            self.threads and f"{self.threads} thread{'' if self.threads == 1 else 's'}",
            self.inter_op_threads and f"{self.inter_op_threads} inter-op threads",
            "graph_optimization" in written and f"graph optimization {self.graph_optimization}",
            self.workload == "precision" and "against fp32",
        )
        return " ".join(text for text in words if text)


def at_batch(experiment: Experiment, batch: int) -> Experiment:
    """Return the latency experiment at one batch size, without the options of other workloads."""
    others = [name for owner, names in _OPTIONS_OF.items() if owner.startswith("workload=") for name in names]
    kept = {name: value for name, value in dict(experiment).items() if name not in others}
    return Experiment.model_validate(kept | {"workload": "latency", "batch": batch})
