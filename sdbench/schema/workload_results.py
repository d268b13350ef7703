"""What a launch can find next to samples: shortage of memory, exported networks, a search, a comparison of images."""

from typing import Annotated, Literal

from pydantic import Field

from sdbench.schema.base import Compact, Count, Model, Number, PositiveInt, Reading, Sha256

# A network of a pipeline by its role: unet, transformer, text_encoder, text_encoder_2, vae_decoder.
ExportedPart = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,63}$")]


class AllocatorEvents(Compact):
    """How often torch's allocator on the GPU got no memory at first: such a call is slower than with room to spare."""

    retries: Count = Field(description="How often it freed its cache and asked again, in the timed calls.")
    caught_out_of_memory: Count = Field(description="How often a call continued without, warm-up calls included.")


class Export(Model):
    """One network as an ONNX file: its hash and size with external data, and how long (s) exporting it took once."""

    part: ExportedPart = Field(description="Which network.")
    sha256: Sha256 = Field(description="Hash of the ONNX file with its external data.")
    size_bytes: PositiveInt = Field(description="Size in bytes.")
    export_s: Number = Field(description="Seconds that exporting took once.")
    cached: bool = Field(description="Whether an earlier export was used.")


class BatchProbe(Model):
    """One try of a batch size: whether it fitted, the memory peak (bytes), or why it did not or only just did."""

    batch: PositiveInt = Field(description="Batch size that was tried.")
    fits: bool = Field(description="Whether it fitted.")
    peak_bytes: Reading[int] = Field(description="Peak memory in bytes.")
    wall_s: Number = Field(description="Seconds that it took.")
    message: str = Field(description="Why it did not fit, or only just did.")


class BatchSearch(Model):
    """The search for the largest batch that fits: its probes in order and the limit (bytes) they ran under.

    ``largest_batch`` is 0 when not even one image fits, and ``batch_max`` when nothing larger was to be tried.
    """

    kind: Literal["batch_search"] = Field(default="batch_search", description="Kind of result.")
    limit_bytes: PositiveInt = Field(description="Memory that could be used.")
    limit_source: str = Field(description="Where the limit comes from.")
    loaded_bytes: Reading[int] = Field(description="Memory in use after loading.")
    probes: tuple[BatchProbe, ...] = Field(description="What was tried, in order.")
    largest_batch: Count = Field(description="Largest batch that fits; 0 when none does.")
    batch_max: PositiveInt = Field(description="Upper end of the search.")


class Divergence(Model):
    """How far a candidate's image is from the reference's, both float RGB in 0 to 1.

    ``steps`` are the requested ones, and ``call`` is the denoiser call after which a trajectory was decoded, None for a
    finished image. SSIM, PSNR (dB) and NRMSE are scikit-image's; they are unknown where values are not finite, PSNR
    also where the images are identical. The pictures are WebP, the difference amplified by ``amplification``.
    """

    steps: PositiveInt = Field(description="Steps of the scheduler.")
    call: PositiveInt | None = Field(description="Denoiser call that was decoded; null for a finished image.")
    ssim: Reading[float] = Field(description="Structural similarity.")
    psnr_db: Reading[float] = Field(description="Peak signal-to-noise ratio in dB.")
    nrmse: Reading[float] = Field(description="Normalized root-mean-square error.")
    largest_difference: Reading[float] = Field(description="Largest difference of a value in 0 to 1.")
    non_finite_count: Count = Field(description="Values of the candidate that are not finite.")
    reference_non_finite_count: Count = Field(description="Values of the reference that are not finite.")
    identical: bool = Field(description="Whether the images are identical.")
    reference_path: str | None = Field(description="Image of the reference.")
    candidate_path: str | None = Field(description="Image of the candidate.")
    difference_path: str | None = Field(description="Image of the amplified difference.")


class PrecisionResult(Model):
    """A candidate against a reference of the same prompt and noise.

    ``trajectory`` is one run with every step decoded, ``sweep`` separate runs of different lengths.
    """

    kind: Literal["precision"] = Field(default="precision", description="Kind of result.")
    reference_id: str = Field(description="Identity of the reference experiment.")
    reference_label: str = Field(description="The reference in words.")
    amplification: PositiveInt = Field(description="Factor of the difference images.")
    trajectory: tuple[Divergence, ...] = Field(description="One run, decoded after every denoiser call.")
    sweep: tuple[Divergence, ...] = Field(description="Separate runs of different lengths.")
    trajectory_animation_path: str | None = Field(description="Animation of the trajectory.")
    sweep_animation_path: str | None = Field(description="Animation of the sweep.")


WorkloadResult = Annotated[BatchSearch | PrecisionResult, Field(discriminator="kind")]
