"""An experiment: one fully specified thing to measure, and its identity."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from sdbench.schema.base import Count, Model, PositiveInt, sha256_of

Architecture = Literal["tiny", "sd-v1-4"]
Precision = Literal["fp32", "fp16", "bf16"]
Autocast = Literal["off", "fp16", "bf16"]
Scheduler = Literal["pndm", "ddim", "euler", "dpm++"]
DeviceKind = Literal["cpu", "cuda"]

ID_DIGITS = 16
# Latents are an eighth of the image, and the UNets halve them up to three times: other sizes fail inside the UNet.
SIZE_STEP_PX = 8

ImageSize = Annotated[int, Field(ge=SIZE_STEP_PX, le=8192, multiple_of=SIZE_STEP_PX)]


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

    @model_validator(mode="after")
    def _options_fit_each_other(self) -> "Experiment":
        if self.weights == "pretrained" and not (self.hub_id and self.revision):
            msg = (
                "weights: pretrained needs model.hub_id and model.revision (a commit hash), "
                "so that others get the same weights"
            )
            raise ValueError(msg)
        return self

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
        if self.tf32:
            words.append("TF32")
        words += [f"batch {self.batch}", f"{self.width}x{self.height}", f"{self.steps} step{'s' * (self.steps != 1)}"]
        if self.scheduler != "pndm":
            words.append(self.scheduler)
        if self.backend != "pytorch":
            words.append(self.backend)
        if self.device != "any":
            words.append(self.device)
        if self.threads is not None:
            words.append(f"{self.threads} threads")
        return " ".join(words)
