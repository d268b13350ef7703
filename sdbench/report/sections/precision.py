"""How far reduced precision, and other ways to compute, are from an fp32 reference."""

from collections.abc import Iterable, Sequence

from sdbench.report.chart_model import LineChart, LinePoint
from sdbench.report.model import Cell, PictureSeries, PictureStep, PrecisionSection, Section, Table
from sdbench.report.points import Point, Source, needs_log_scale
from sdbench.report.text import NONE, UNKNOWN, format_count, format_number, format_reading, make_table
from sdbench.report.thumbnails import make_picture
from sdbench.schema.base import Known, Reading
from sdbench.schema.study import Divergence, PrecisionStudy

TITLE = "What does precision do to the image?"
_SYNTHETIC = (
    "With synthetic weights the pictures are not pictures of anything. The arithmetic differences are what they are: "
    "they come from the same operations on numbers of the same size, but how visible they would be in a real picture "
    "these runs cannot say."
)
_METRICS = (
    "SSIM, PSNR and NRMSE are computed on the unrounded images in 0 to 1 (scikit-image); the pictures are for the eye. "
    "1 - SSIM is 0 for identical images."
)

# A slider of more steps is no easier to read, and each has three pictures of up to 20 KiB.
_PICTURE_STEPS = 20


def build(source: Source) -> Section:
    """Return metric curves over the steps, their table, and the pictures of each pair."""
    studies = [(point, point.study) for point in source.points if point.study is not None]
    if not studies:
        return Section(name="precision", title=TITLE, paragraphs=("Nothing was compared.",))
    synthetic = any(point.experiment.weights == "synthetic" for point, _ in studies)
    charts = (
        _chart(source, "finished images, by number of steps", "steps of the run", _sweep(studies)),
        _chart(source, "one run, decoded after every UNet call", "UNet call", _trajectory(studies)),
    )
    return PrecisionSection(
        name="precision",
        title=TITLE,
        paragraphs=(*((_SYNTHETIC,) if synthetic else ()), _METRICS),
        charts=tuple(chart for chart in charts if chart is not None),
        tables=(_table(source, studies),),
        series=tuple(series for point, study in studies if (series := _series(source, point, study)).steps),
    )


_Studies = list[tuple[Point, PrecisionStudy]]
_Curve = tuple[Point, list[tuple[int, Divergence]]]


def _sweep(studies: _Studies) -> list[_Curve]:
    return [(point, [(item.steps, item) for item in study.sweep]) for point, study in studies]


def _trajectory(studies: _Studies) -> list[_Curve]:
    return [(point, [(item.call or 0, item) for item in study.trajectory]) for point, study in studies]


def _chart(source: Source, what: str, x_axis: str, curves: Iterable[_Curve]) -> LineChart | None:
    points = tuple(
        LinePoint(line=_name(source, point), x=x, value=1 - item.ssim.value, low=None, high=None)
        for point, items in curves
        for x, item in items
        if isinstance(item.ssim, Known) and item.ssim.value < 1
    )
    if not points:
        return None
    log_scale = needs_log_scale([point.value for point in points])
    return LineChart(
        alt=f"1 - SSIM of {what}: "
        + ", ".join(f"{point.line} at {point.x}: {format_number(point.value)}" for point in points),
        caption=f"1 - SSIM against the fp32 reference: {what}. Identical images have no point.",
        x_axis=x_axis,
        doubling=False,
        axis="1 - SSIM, log scale" if log_scale else "1 - SSIM",
        log_scale=log_scale,
        points=points,
    )


def _table(source: Source, studies: _Studies) -> Table:
    rows = [
        (*source.row_names(point), str(item.steps), *_cells(item)) for point, study in studies for item in study.sweep
    ]
    caption = "Finished images against the fp32 reference with the same prompt, noise and number of steps"
    columns = "#steps|#1 - SSIM|#PSNR, dB|#NRMSE|#largest difference|#not finite"
    return make_table(caption, f"{source.row_columns}|{columns}", rows)


def _cells(item: Divergence) -> tuple[Cell | str, ...]:
    if item.identical:
        return ("0", "identical", "0", "0", "0")
    dissimilarity = format_number(1 - item.ssim.value) if isinstance(item.ssim, Known) else NONE
    numbers = (_number(reading) for reading in (item.psnr_db, item.nrmse, item.largest_difference))
    return (dissimilarity, *numbers, f"{item.non_finite_count:,}")


def _number(reading: Reading[float]) -> Cell | str:
    text = format_reading("ratio", reading)
    return Cell(text=NONE, tone="muted") if text.startswith(UNKNOWN) else text


def _series(source: Source, point: Point, study: PrecisionStudy) -> PictureSeries:
    items = study.trajectory or study.sweep
    shown = _spread(items)
    steps = tuple(step for item in shown if (step := _step(source, point, study, item)).pictures)
    left_out = f"; {len(shown)} of {format_count(len(items), 'step')}" if len(shown) < len(items) else ""
    fold = f"{format_count(len(steps) - 1, 'step')} before"
    return PictureSeries(title=_name(source, point) + left_out, fold=fold, steps=steps)


def _spread(items: Sequence[Divergence]) -> Sequence[Divergence]:
    """As many of the items as a page holds, the first and the last among them."""
    if len(items) <= _PICTURE_STEPS:
        return items
    return [items[round(place * (len(items) - 1) / (_PICTURE_STEPS - 1))] for place in range(_PICTURE_STEPS)]


def _step(source: Source, point: Point, study: PrecisionStudy, item: Divergence) -> PictureStep:
    moment = f"{item.steps} steps" if item.call is None else f"UNet call {item.call}"
    stills = (
        ("fp32 reference", item.reference_path),
        (_candidate_words(point), item.candidate_path),
        (f"difference, {study.amplification} times as large", item.difference_path),
    )
    name = _name(source, point)
    pictures = tuple(
        picture
        for caption, path in stills
        if (picture := make_picture(source, point.machine, path, f"{caption} at {moment}; {name}", caption))
    )
    return PictureStep(label=f"{moment}: {_closeness(item)}", pictures=pictures)


def _closeness(item: Divergence) -> str:
    if item.identical:
        return "identical to the reference"
    if not isinstance(item.psnr_db, Known) or not isinstance(item.ssim, Known):
        return f"{format_count(item.non_finite_count, 'value')} not finite"
    return f"PSNR {item.psnr_db.value:.1f} dB, 1 - SSIM {format_number(1 - item.ssim.value)}"


def _candidate_words(point: Point) -> str:
    return point.label.removesuffix(" against fp32")


def _name(source: Source, point: Point) -> str:
    return ", ".join(source.row_names(point))
