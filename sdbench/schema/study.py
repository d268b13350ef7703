"""What a launch can find beside samples: exported networks, a search, a comparison of images."""

from typing import Annotated, Literal

from pydantic import Field, FiniteFloat

from sdbench.schema.base import Count, Model, PositiveInt, Reading, Sha256

ExportedPart = Literal["unet", "vae_decoder", "text_encoder"]


class Export(Model):
    """One network as an ONNX file: its hash and size with external data, and how long (s) exporting it took once."""

    part: ExportedPart
    sha256: Sha256
    size_bytes: PositiveInt
    export_s: FiniteFloat
    cached: bool


class BatchProbe(Model):
    """One try of a batch size: whether it fitted, the memory peak (bytes), or why it did not."""

    batch: PositiveInt
    fits: bool
    peak_bytes: Reading[int]
    wall_s: FiniteFloat
    message: str


class BatchSearch(Model):
    """The search for the largest batch that fits: its probes in order and the limit (bytes) they ran under.

    ``largest_batch`` is 0 when not even one image fits, and ``batch_max`` when nothing larger was to be tried.
    """

    kind: Literal["batch_search"] = "batch_search"
    limit_bytes: PositiveInt
    limit_source: str
    loaded_bytes: Reading[int]
    probes: tuple[BatchProbe, ...]
    largest_batch: Count
    batch_max: PositiveInt


class Divergence(Model):
    """How far a candidate's image is from the reference's, both float RGB in 0 to 1.

    ``steps`` were asked of the scheduler, and ``call`` is the UNet call after which a trajectory was decoded, None for
    a finished image. SSIM, PSNR (dB) and NRMSE are scikit-image's; they are unknown where values are not finite, PSNR
    also where the images are identical. The pictures are WebP, the difference amplified by the study's factor.
    """

    steps: PositiveInt
    call: PositiveInt | None
    ssim: Reading[float]
    psnr_db: Reading[float]
    nrmse: Reading[float]
    largest_difference: Reading[float]
    non_finite_count: Count
    reference_non_finite_count: Count
    identical: bool
    reference_path: str | None
    candidate_path: str | None
    difference_path: str | None


class PrecisionStudy(Model):
    """A candidate against a reference of the same prompt and noise.

    ``trajectory`` is one run with every step decoded, ``sweep`` separate runs of different lengths.
    """

    kind: Literal["precision_study"] = "precision_study"
    reference_id: str
    reference_label: str
    amplification: PositiveInt
    trajectory: tuple[Divergence, ...]
    sweep: tuple[Divergence, ...]
    trajectory_animation_path: str | None
    sweep_animation_path: str | None


Study = Annotated[BatchSearch | PrecisionStudy, Field(discriminator="kind")]
