"""A pipeline as data: the configs of its networks, and what follows from them without building any."""

from math import isqrt
from typing import Any, Literal

from pydantic import Field

from sdbench.schema.base import Model, PositiveInt, Sha256, sha256_of

Guidance = Literal["batch", "embedding", "none"]
DENOISERS = ("unet", "transformer")
DECODER = "vae"
_DIGEST_DIGITS = 12
# Guidance above which a pipeline doubles its batch (do_classifier_free_guidance in diffusers 0.42), where it is not 1.
_GUIDED_ABOVE = {"ZImagePipeline": 0.0}


class Component(Model):
    """A network or the scheduler of a pipeline: its class, and its config with the keys of that class."""

    library: str = Field(description="diffusers or transformers.")
    class_name: str = Field(description="Name of the class in its library.")
    config: dict[str, Any] = Field(description="Its config, as in the file of its folder.")


class NativeOptions(Model):
    """What a pipeline was made for: the values of options that an experiment leaves out."""

    size_px: PositiveInt = Field(description="Height and width of the image in pixels.")
    steps: PositiveInt = Field(description="Denoising steps.")
    guidance_scale: float = Field(description="Guidance.")
    max_sequence_length: PositiveInt | None = Field(description="Tokens of a prompt; null if it is CLIP's 77.")


class PipelineConfig(Model):
    """A text-to-image pipeline of diffusers: its class, and the configs of its parts."""

    name: str = Field(description="Name of a shipped pipeline, or that of a folder and a hash of its configs.")
    class_name: str = Field(description="Class of the pipeline in diffusers.")
    networks: dict[str, Component] = Field(description="Text encoders, denoiser and decoder, in the order of a call.")
    scheduler: Component = Field(description="The scheduler that it comes with.")
    tokenizers: dict[str, dict[str, Any]] = Field(description="What the configs say of each tokenizer.")
    flags: dict[str, bool] = Field(description="What the class of the pipeline takes in addition to its parts.")
    native: NativeOptions = Field(description="What it was made for.")

    @property
    def denoiser_name(self) -> str:
        """The component that is called in each step: ``unet`` or ``transformer``."""
        return next(name for name in DENOISERS if name in self.networks)

    @property
    def denoiser(self) -> dict[str, Any]:
        """The config of the network that is called in each step."""
        return self.networks[self.denoiser_name].config

    @property
    def decoder(self) -> dict[str, Any]:
        """The config of the network that makes images of latents."""
        return self.networks[DECODER].config

    @property
    def text_encoders(self) -> tuple[str, ...]:
        """The components that encode the prompt, in their order."""
        return tuple(name for name in self.networks if name.startswith("text_encoder"))

    @property
    def latent_channels(self) -> int:
        """Channels of a latent."""
        return int(self.decoder["latent_channels"])

    @property
    def pixels_per_latent(self) -> int:
        """Pixels of the image in a row for one latent: every block of the decoder but the last doubles the size."""
        return int(2 ** (len(self.decoder["block_out_channels"]) - 1))

    @property
    def packing(self) -> int:
        """Latents in a row that the pipeline packs into one vector before the denoiser gets them; 1 where it does not.

        A packed denoiser has more input channels than there are latent channels (FluxPipeline._pack_latents).
        """
        return isqrt(int(self.denoiser["in_channels"]) // self.latent_channels)

    @property
    def pixels_per_token(self) -> int:
        """Pixels of the image in a row for one token of the denoiser; a UNet's tokens are the latents."""
        patches = self.denoiser.get("all_patch_size") or (self.denoiser.get("patch_size") or 1,)
        patch = 1 if self.denoiser_name == "unet" else int(patches[0])
        return self.pixels_per_latent * self.packing * patch

    @property
    def guidance(self) -> Guidance:
        """How guidance reaches the denoiser: as a second half of the batch, as an embedded number, or not at all."""
        if "guidance_embeds" in self.denoiser:
            return "embedding" if self.denoiser["guidance_embeds"] else "none"
        return "embedding" if self.denoiser.get("time_cond_proj_dim") else "batch"

    def guided_batch(self, guidance_scale: float) -> int:
        """Return how many samples of the denoiser stand for one image."""
        above = _GUIDED_ABOVE.get(self.class_name, 1.0)
        return 2 if self.guidance == "batch" and guidance_scale > above else 1

    def prompts_encoded(self, guidance_scale: float, negative_prompt: str) -> int:
        """Return how many texts are encoded for one image: some pipelines put zeros for an empty negative prompt."""
        if not negative_prompt and self.flags.get("force_zeros_for_empty_prompt"):
            return 1
        return self.guided_batch(guidance_scale)

    def runs_per_image(self, denoiser_calls: int, guidance_scale: float, negative_prompt: str) -> dict[str, int]:
        """Return how many samples each network computes for one image."""
        texts = self.prompts_encoded(guidance_scale, negative_prompt)
        samples = denoiser_calls * self.guided_batch(guidance_scale)
        return dict.fromkeys(self.text_encoders, texts) | {self.denoiser_name: samples, DECODER: 1}

    def prompt_tokens(self, max_sequence_length: int | None) -> int:
        """Return the tokens that a prompt is padded to for encoders other than CLIP's.

        Raises:
            ValueError: neither the experiment nor the pipeline says how many.
        """
        length = max_sequence_length or self.native.max_sequence_length
        if length is None:
            raise ValueError(f"{self.name} does not say to how many tokens it pads a prompt")
        return length

    def latent_tokens(self, height: int, width: int) -> int:
        """Return the tokens that the denoiser makes of an image of this size (pixels)."""
        return (height // self.pixels_per_token) * (width // self.pixels_per_token)

    @property
    def digest(self) -> str:
        """The first 12 hex digits of the SHA-256 of all configs."""
        return sha256_of(self.to_json_dict() | {"name": ""})[:_DIGEST_DIGITS]


class OwnPipeline(Model):
    """A pipeline that does not ship with sdbench: its configs, and what its weights are if it came with some.

    Its name ends with ``@`` and the digest of both.
    """

    config: PipelineConfig = Field(description="Its configs.")
    weights_sha256: Sha256 | None = Field(description="Hash of its weights files; null if it came without.")

    @property
    def digest(self) -> str:
        """The first 12 hex digits of the SHA-256 of configs and weights."""
        both = sha256_of([self.config.digest, self.weights_sha256])
        return both[:_DIGEST_DIGITS] if self.weights_sha256 else self.config.digest
