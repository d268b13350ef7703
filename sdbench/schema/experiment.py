"""An experiment: one fully specified thing to measure, and its identity."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from sdbench.schema.base import Count, Model, PositiveFloat, PositiveInt, sha256_of

Architecture = Literal["tiny", "sd-v1-4"]
Precision = Literal["fp32", "fp16", "bf16"]
Autocast = Literal["off", "fp16", "bf16"]
Scheduler = Literal["pndm", "ddim", "euler", "dpm++"]
DeviceKind = Literal["cpu", "cuda"]
Attention = Literal["sdpa", "sdpa-math", "sdpa-flash", "sdpa-efficient", "sdpa-cudnn", "eager", "sliced", "xformers"]
GraphOptimization = Literal["disabled", "basic", "extended", "all"]

ID_DIGITS = 16
# Latents are an eighth of the image, and the UNets halve them up to three times: other sizes fail inside the UNet.
SIZE_STEP_PX = 8

Share = Annotated[float, Field(ge=0, le=1, strict=False)]
ImageSize = Annotated[int, Field(ge=SIZE_STEP_PX, le=8192, multiple_of=SIZE_STEP_PX)]


_LABELS = {
    "tf32": "TF32",
    "vae_slicing": "VAE slicing",
    "vae_tiling": "VAE tiling",
    "channels_last": "channels last",
}
# The options that only one backend or workload looks at.
_OPTIONS_OF = {
    "backend=pytorch": ("autocast", "tf32", "attention", "vae_slicing", "vae_tiling", "channels_last"),
    "backend=onnxruntime": ("graph_optimization",),
    "workload=largest-batch": ("batch_max", "memory_limit_bytes"),
    "workload=precision": ("sweep_min", "sweep_max", "sweep_every"),
    "backend=virtual": (
        "virtual_latency_s",
        "virtual_call_noise",
        "virtual_launch_noise",
        "virtual_correlation",
        "virtual_drift",
        "virtual_mode_gap",
        "virtual_throttle",
        "virtual_stall",
        "virtual_fault",
        "virtual_fault_launch",
    ),
}


class Experiment(Model):
    """Every option of one measurement.

    The defaults are those of the 2022 study, but for TF32: the study did not record it, torch has it on for
    convolutions, and here it is off unless asked for. A released default never changes, because an option at its
    default is left out of the identity (ADR 0001).
    """

    architecture: Architecture
    workload: str = "latency"
    backend: str = "pytorch"
    device: Literal["any", "cpu", "cuda"] = "any"
    weights: Literal["synthetic", "pretrained"] = "synthetic"
    weights_seed: Count = 0
    hub_id: Annotated[str, Field(pattern=r"^[\w.-]+/[\w.-]+$", description="OWNER/NAME")] | None = None
    revision: Annotated[str, Field(pattern=r"^[0-9a-f]{40}$", description="a full commit hash")] | None = None
    precision: Precision = "fp32"
    autocast: Autocast = "off"
    tf32: bool = False
    batch: Annotated[int, Field(ge=1, le=4096)] = 1
    steps: Annotated[int, Field(ge=1, le=1000)] = 50
    height: ImageSize = 512
    width: ImageSize = 512
    scheduler: Scheduler = "pndm"
    guidance_scale: Annotated[float, Field(ge=0, le=100, strict=False)] = 7.5
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 42
    threads: PositiveInt | None = None
    prompt: Annotated[str, Field(max_length=2000)] = "a photo of an astronaut riding a horse on mars"
    negative_prompt: Annotated[str, Field(max_length=2000)] = ""
    attention: Attention = "sdpa"
    vae_slicing: bool = False
    vae_tiling: bool = False
    channels_last: bool = False
    graph_optimization: GraphOptimization = "all"
    inter_op_threads: PositiveInt | None = None
    batch_max: Annotated[int, Field(ge=1, le=4096)] = 256
    memory_limit_bytes: PositiveInt | None = None
    sweep_min: Annotated[int, Field(ge=1, le=1000)] = 10
    sweep_max: Annotated[int, Field(ge=1, le=1000)] = 100
    sweep_every: Annotated[int, Field(ge=1, le=1000)] = 5
    virtual_latency_s: PositiveFloat = 1.0
    virtual_call_noise: Share = 0.005
    virtual_launch_noise: Share = 0.01
    virtual_correlation: Annotated[float, Field(ge=0, lt=1, strict=False)] = 0.0
    virtual_drift: Annotated[float, Field(ge=-0.1, le=0.1, strict=False)] = 0.0
    virtual_mode_gap: Share = 0.0
    virtual_throttle: Share = 0.0
    virtual_stall: Share = 0.0
    virtual_fault: Literal["none", "crash", "out-of-memory", "hang", "not-finite"] = "none"
    virtual_fault_launch: Count = 0

    @model_validator(mode="after")
    def _options_fit_each_other(self) -> "Experiment":
        """An option that nothing would look at is refused: the figure would seem to depend on it."""
        for belongs_to, names in _OPTIONS_OF.items():
            key, _, value = belongs_to.partition("=")
            ignored = [name for name in names if getattr(self, name) != type(self).model_fields[name].default]
            if ignored and getattr(self, key) != value:
                msg = f"{ignored[0]} says something only with {key}: {value}; leave it out"
                raise ValueError(msg)
        if self.backend == "virtual" and self.workload != "latency":
            msg = f"backend: virtual measures latency only, not workload: {self.workload}"
            raise ValueError(msg)
        if self.workload == "largest-batch" and self.batch != 1:
            msg = "the workload largest-batch looks for the batch; leave batch out"
            raise ValueError(msg)
        if self.sweep_min > self.sweep_max:
            msg = f"sweep_min {self.sweep_min} is above sweep_max {self.sweep_max}; lower it"
            raise ValueError(msg)
        return self

    @property
    def sweep_steps(self) -> tuple[int, ...]:
        """The step counts of the separate runs of a precision study."""
        return tuple(range(self.sweep_min, self.sweep_max + 1, self.sweep_every))

    @property
    def experiment_id(self) -> str:
        """The first 16 hex digits of the SHA-256 of the options that differ from their defaults."""
        options = self.model_dump(mode="json", exclude_defaults=True)
        if self.weights == "synthetic":
            # A hub id says nothing about synthetic weights.
            options.pop("hub_id", None)
            options.pop("revision", None)
        return sha256_of(options)[:ID_DIGITS]

    @property
    def label(self) -> str:
        """What people call the experiment: ``tiny fp32 batch 1 64x64 4 steps``."""
        words: list[str] = [self.architecture, self.precision]
        if self.autocast != "off":
            words.append(f"autocast {self.autocast}")
        words += [text for name, text in _LABELS.items() if getattr(self, name)]
        if self.attention != "sdpa":
            words.append(self.attention if self.attention.startswith("sdpa") else f"{self.attention} attention")
        if self.workload == "largest-batch":
            words.append("largest batch")
        else:
            words.append(f"batch {self.batch}")
        words += [f"{self.width}x{self.height}", f"{self.steps} step{'s' * (self.steps != 1)}"]
        if self.scheduler != "pndm":
            words.append(self.scheduler)
        if self.backend != "pytorch":
            words.append(self.backend)
        if self.device != "any":
            words.append(self.device)
        if self.threads is not None:
            words.append(f"{self.threads} threads")
        if self.inter_op_threads is not None:
            words.append(f"{self.inter_op_threads} inter-op threads")
        if self.graph_optimization != "all":
            words.append(f"graph optimization {self.graph_optimization}")
        if self.workload == "precision":
            words.append("against fp32")
        return " ".join(words)


def at_batch(experiment: Experiment, batch: int) -> Experiment:
    """Return the latency experiment at a batch size that a search for the largest batch is about."""
    kept = {
        name: value for name, value in dict(experiment).items() if name not in _OPTIONS_OF["workload=largest-batch"]
    }
    return Experiment.model_validate(kept | {"workload": "latency", "batch": batch})
