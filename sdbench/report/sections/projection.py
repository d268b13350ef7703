"""What the native steps would take, from the phases of fewer: never in the same column as what was measured."""

from sdbench.compare.projection import project
from sdbench.report.format import Row, cell, format_number, numbers
from sdbench.report.model import Section
from sdbench.report.sections.phases import phases_of
from sdbench.report.series import Measured, Source

TITLE = "What would the pipeline's own number of steps take? A projection, not measured"
_FORMULA = (
    "Projected = (denoiser calls x one denoising step (median) + text encoders, VAE decode and rest) "
    "x timed / observed call. The denoiser calls are those that the scheduler makes for the pipeline's own "
    "steps. The phases are of one "
    "observed call of each launch, its last warm-up, which may be slower than the timed ones: a ratio far from 1 makes "
    "the projection rougher than its interval says. Every term is measured; the result is not. "
    "The rest is counted once, although a part of it grows with the steps. The interval holds what varies "
    "between launches, not what the formula leaves out."
)
_COLUMNS = numbers(
    "steps measured",
    "measured, s",
    "projected steps",
    "denoiser calls",
    "one step, s",
    "outside the steps, s",
    "observed / timed",
    "projected, not measured, s",
    "low",
    "high",
)


def build(source: Source) -> Section | str:
    """Return the projected latency (s) of the native steps next to the measured one, with the formula."""
    rows = [(point, row) for point in source.own if (row := _row(point))]
    if not rows:
        return (
            "No experiment with phases has fewer steps than its pipeline was made for, so there is nothing to project."
        )
    caption = "Projection to the native steps next to the measured latency, seconds per call of the whole batch"
    return Section(paragraphs=(_FORMULA,), tables=(source.table(caption, _COLUMNS, rows),))


def _row(measured: Measured) -> Row | None:
    projection, times = project(measured.planned, measured.counted), phases_of(measured)
    if projection is None or times is None:
        return None
    estimate = projection.estimate
    ends = (estimate.low, estimate.high) if estimate.is_useful else (None, None)
    return (
        str(measured.experiment.steps),
        measured.estimate.value,
        str(projection.steps),
        str(projection.denoiser_calls),
        times.step_s,
        times.text_encode_s + times.vae_decode_s + times.rest_s,
        f"{projection.observed_ratio:.3f}{' (first call)' * projection.of_first_call}",
        *(cell(format_number(value), "muted") for value in (estimate.value, *ends)),
    )
