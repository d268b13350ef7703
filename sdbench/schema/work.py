"""How much work a pipeline call is: what follows from the configs and the size, on any machine."""

from pydantic import Field

from sdbench.schema.base import Compact, Count, PositiveInt

# The check of how many samples the denoiser gets in a call: twice the batch where guidance takes a second half.
DENOISER_BATCH_CHECK = "denoiser batch with guidance"


class Work(Compact):
    """The work of one pipeline call, counted and not measured."""

    pixels: PositiveInt = Field(description="Pixels of one image.")
    latent_tokens: PositiveInt = Field(description="Tokens that the denoiser makes of one image: latents or patches.")
    text_tokens: dict[str, PositiveInt] = Field(description="Tokens of a prompt by text encoder.")
    denoiser_calls: PositiveInt = Field(description="Denoiser calls of one pipeline call.")
    native_steps: PositiveInt = Field(description="Steps that the pipeline was made for.")
    denoiser_calls_at_native_steps: PositiveInt = Field(description="Denoiser calls that these would make.")
    flop_per_image: dict[str, Count] = Field(
        description="FLOP of one image by network, of all its calls: an addition and a multiplication are two."
    )

    weight_bytes: dict[str, Count] = Field(
        description="Bytes of weights that the calls of a network read in one pipeline call, whatever its batch."
    )
    activation_bytes_per_image: dict[str, Count] = Field(
        description="Bytes that the operators of a network read and write for one image in eager mode, weights apart: "
        "an upper bound, because caches and fused operators move less."
    )
    operators: dict[str, Count] = Field(description="Operators of a network in one pipeline call, views apart.")

    @property
    def flop(self) -> int:
        """The FLOP of one image in all networks; 0 where they were not counted."""
        return sum(self.flop_per_image.values())
