"""How far reduced precision, and other ways to compute, are from an fp32 reference."""

from collections.abc import Iterable, Sequence

from sdbench.report.chart_model import LineChart, LinePoint
from sdbench.report.format import NONE, Row, cell, format_number, numbers
from sdbench.report.model import Cell, PictureSeries, PictureStep, PrecisionSection, Section, Table
from sdbench.report.series import Point, Source, needs_log_scale
from sdbench.report.thumbnails import make_picture
from sdbench.schema.base import Known, Reading
from sdbench.schema.workload_results import Divergence, PrecisionResult
from sdbench.units import format_count

TITLE = "What does precision do to the image?"
_SYNTHETIC = (
    "With synthetic weights the images are noise. The arithmetic differences are real: "
    "they come from the same operations on numbers of the same size, but how visible they would be in a real picture "
    "these runs cannot show."
)
_METRICS = (
    "SSIM, PSNR and NRMSE are computed on the unrounded images in 0 to 1 (scikit-image); the pictures are for the eye. "
    "1 - SSIM is 0 for identical images."
)

# A slider of more steps is no easier to read, and each has three pictures of up to 20 KiB.
_PICTURE_STEPS = 20

_Results = list[tuple[Point, PrecisionResult]]


def build(source: Source) -> Section | str:
    """Return metric curves over the steps, their table, and the pictures of each pair."""
    results = [(point, point.workload_result) for point in source.points if point.workload_result is not None]
    if not results:
        return "Nothing was compared."
    synthetic = any(point.experiment.weights == "synthetic" for point, _ in results)
    sweep = [(point, item.steps, item) for point, result in results for item in result.sweep]
    trajectory = [(point, item.call or 0, item) for point, result in results for item in result.trajectory]
    charts = (
        _chart(source, "finished images, by number of steps", "steps of the run", sweep),
        _chart(source, "one run, decoded after every denoiser call", "denoiser call", trajectory),
    )
    series = (_series(source, point, result) for point, result in results)
    return PrecisionSection(
        paragraphs=(_SYNTHETIC, _METRICS) if synthetic else (_METRICS,),
        charts=tuple(chart for chart in charts if chart is not None),
        tables=(_table(source, results),),
        series=tuple(shown for shown in series if shown.steps),
    )


def _chart(source: Source, what: str, x_axis: str, items: Iterable[tuple[Point, int, Divergence]]) -> LineChart | None:
    points = tuple(
        LinePoint(line=source.name(point), x=x, value=1 - item.ssim.value)
        for point, x, item in items
        if isinstance(item.ssim, Known) and item.ssim.value < 1
    )
    if not points:
        return None
    log_scale = needs_log_scale([point.value for point in points])
    values = (f"{point.line} at {point.x}: {format_number(point.value)}" for point in points)
    return LineChart(
        alt=f"1 - SSIM of {what}: {', '.join(values)}",
        caption=f"1 - SSIM against the fp32 reference: {what}. Identical images have no point.",
        x_axis=x_axis,
        axis="1 - SSIM",
        log_scale=log_scale,
        points=points,
    )


def _table(source: Source, results: _Results) -> Table:
    caption = "Finished images against the fp32 reference with the same prompt, noise and number of steps"
    columns = numbers("steps", "1 - SSIM", "PSNR, dB", "NRMSE", "largest difference", "not finite")
    rows = ((point, (str(item.steps), *_cells(item))) for point, result in results for item in result.sweep)
    return source.table(caption, columns, rows)


def _cells(item: Divergence) -> Row:
    if item.identical:
        return ("0", "identical", "0", "0", "0")
    dissimilarity = 1 - item.ssim.value if isinstance(item.ssim, Known) else None
    readings = (_number(reading) for reading in (item.psnr_db, item.nrmse, item.largest_difference))
    return (dissimilarity, *readings, f"{item.non_finite_count:,}")


def _number(reading: Reading[float]) -> Cell | float:
    return reading.value if isinstance(reading, Known) else cell(NONE, "muted")


def _series(source: Source, point: Point, result: PrecisionResult) -> PictureSeries:
    items = result.trajectory or result.sweep
    shown = _spread(items)
    steps = tuple(step for item in shown if (step := _step(source, point, result, item)).pictures)
    left_out = f"; {len(shown)} of {format_count(len(items), 'step')}" if len(shown) < len(items) else ""
    return PictureSeries(title=source.name(point) + left_out, steps=steps)


def _spread(items: Sequence[Divergence]) -> Sequence[Divergence]:
    """As many of the items as a page holds, the first and the last among them."""
    if len(items) <= _PICTURE_STEPS:
        return items
    return [items[round(place * (len(items) - 1) / (_PICTURE_STEPS - 1))] for place in range(_PICTURE_STEPS)]


def _step(source: Source, point: Point, result: PrecisionResult, item: Divergence) -> PictureStep:
    moment = f"{item.steps} steps" if item.call is None else f"denoiser call {item.call}"
    stills = {
        "fp32 reference": item.reference_path,
        point.label.removesuffix(" against fp32"): item.candidate_path,
        f"difference, {result.amplification} times as large": item.difference_path,
    }
    pictures = (
        make_picture(point.machine, path, f"{caption} at {moment}; {source.name(point)}", caption)
        for caption, path in stills.items()
    )
    return PictureStep(label=f"{moment}: {_closeness(item)}", pictures=tuple(filter(None, pictures)))


def _closeness(item: Divergence) -> str:
    if item.identical:
        return "identical to the reference"
    if not isinstance(item.psnr_db, Known) or not isinstance(item.ssim, Known):
        return f"{format_count(item.non_finite_count, 'value')} not finite"
    return f"PSNR {item.psnr_db.value:.1f} dB, 1 - SSIM {format_number(1 - item.ssim.value)}"
