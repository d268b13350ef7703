"""What 50 steps would take, from the measured phases of fewer: never in the same column as what was measured."""

from sdbench.report.model import Cell, Section
from sdbench.report.phases import PROJECTED_STEPS, Projection, phases_of, project
from sdbench.report.points import Measured, Source
from sdbench.report.text import cell, format_number, make_table

TITLE = f"What would {PROJECTED_STEPS} steps take? A projection, not measured"
_FORMULA = (
    f"{PROJECTED_STEPS} steps = text encode + UNet calls x one denoising step (median) + VAE decode + rest. "
    "The UNet calls are those that the scheduler makes for 50 steps. Every term is measured; their sum is not. "
    "The rest is counted once, although a part of it grows with the steps. The interval holds what varies "
    "between launches, not what the formula leaves out."
)
_COLUMNS = (
    "#steps measured|#measured, s|#text encode, s|#UNet calls for 50|#one step, s|#VAE decode, s|#rest, s"
    "|#projected, not measured, s|#low|#high"
)


def build(source: Source) -> Section:
    """Return the projected latency (s) of 50 steps beside the measured one, with the formula."""
    rows = [row for m in source.own if (row := _row(source, m))]
    if not rows:
        sentence = f"No experiment with phases has fewer than {PROJECTED_STEPS} steps, so there is nothing to project."
        return Section(name="projection", title=TITLE, paragraphs=(sentence,))
    caption = f"Projection to {PROJECTED_STEPS} steps beside the measured latency, seconds per call of the whole batch"
    return Section(
        name="projection",
        title=TITLE,
        paragraphs=(_FORMULA,),
        tables=(make_table(caption, f"{source.row_columns}|{_COLUMNS}", rows),),
    )


def _row(source: Source, measured: Measured) -> tuple[Cell | str, ...] | None:
    projection, times = project(measured), phases_of(measured)
    if projection is None or times is None:
        return None
    return (
        *source.row_names(measured.point),
        str(measured.point.experiment.steps),
        format_number(measured.estimate.value),
        format_number(times.text_encode_s),
        str(projection.unet_calls),
        format_number(times.step_s),
        format_number(times.vae_decode_s),
        format_number(times.rest_s),
        *_projected_cells(projection),
    )


def _projected_cells(projection: Projection) -> tuple[Cell, ...]:
    estimate = projection.estimate
    return tuple(cell(format_number(value), "muted") for value in (estimate.value, estimate.low, estimate.high))
