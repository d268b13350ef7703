"""How much work one image is, counted by network, and at what rate a call does it."""

from math import fsum

from sdbench.report.format import Row, format_percent, numbers
from sdbench.report.model import Section
from sdbench.report.series import Measured, Source
from sdbench.schema.metrics import result_work
from sdbench.schema.pipeline import DECODER
from sdbench.schema.work import Work

TITLE = "How much work is one image?"
_NOTE = (
    "Counted from the shapes, not measured: matrix products, convolutions and attention of every network, an addition "
    "and a multiplication as two FLOP. TFLOP/s = TFLOP per image x images / latency: the rate of the whole call, with "
    "everything else that it does."
)
_FLOP_PER_TFLOP = 1e12
_COLUMNS = numbers(
    "pixels",
    "latent tokens",
    "text tokens",
    "denoiser calls",
    "TFLOP",
    "text encoders",
    "denoiser",
    "decoder",
    "TFLOP/s of the call",
)


def build(source: Source) -> Section | str:
    """Return what was counted of one image of each experiment, with the rate (TFLOP/s) of its calls."""
    counted = [(point, work) for point in source.own if (work := result_work(point.outcome)) and work.flop]
    if not counted:
        return "No experiment says how much work its images are."
    rows = ((point, _row(point, work)) for point, work in counted)
    return Section(
        paragraphs=(_NOTE,),
        tables=(source.table("The work of one image, and the share of each role in its TFLOP", _COLUMNS, rows),),
    )


def _row(point: Measured, work: Work) -> Row:
    encoders = fsum(flop for name, flop in work.flop_per_image.items() if name in work.text_tokens)
    decoder = work.flop_per_image.get(DECODER, 0)
    shares = (encoders, work.flop - encoders - decoder, decoder)
    return (
        f"{work.pixels:,}",
        f"{work.latent_tokens:,}",
        " + ".join(map(str, work.text_tokens.values())),
        f"{work.denoiser_calls:,}",
        work.flop / _FLOP_PER_TFLOP,
        *(format_percent(share / work.flop) for share in shares),
        work.flop * point.batch / point.estimate.value / _FLOP_PER_TFLOP,
    )
