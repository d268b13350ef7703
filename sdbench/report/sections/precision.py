"""How far reduced precision, and other ways to compute, are from an fp32 reference."""

from collections.abc import Iterable

from sdbench.report.chart_model import LineChart, LinePoint
from sdbench.report.embed import read_data_uri
from sdbench.report.model import Cell, Picture, PictureGroup, PrecisionSection, Table
from sdbench.report.points import Point, Source, needs_log_scale
from sdbench.report.text import NONE, UNKNOWN, format_number, format_reading, make_table
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


def build(source: Source) -> PrecisionSection:
    """Return metric curves over the steps, their table, and the pictures of each pair."""
    studies = [(point, point.study) for point in source.points if point.study is not None]
    if not studies:
        return PrecisionSection(name="precision", title=TITLE, paragraphs=("Nothing was compared.",), groups=())
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
        groups=tuple(_group(source, point, study) for point, study in studies),
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


def _group(source: Source, point: Point, study: PrecisionStudy) -> PictureGroup:
    last = study.trajectory[-1] if study.trajectory else study.sweep[-1]
    stills = (
        ("fp32 reference", last.reference_path),
        (_candidate_words(point), last.candidate_path),
        (f"difference, {study.amplification} times as large", last.difference_path),
    )
    pictures = tuple(
        picture for caption, path in stills if (picture := _picture(source, point, caption, path)) is not None
    )
    caption = "Reference, candidate and difference, call by call"
    animation = _picture(source, point, caption, study.trajectory_animation_path, frames_wide=3)
    return PictureGroup(title=_name(source, point), pictures=pictures, animation=animation)


def _picture(source: Source, point: Point, caption: str, path: str | None, frames_wide: int = 1) -> Picture | None:
    uri = read_data_uri(source, point.machine, path) if path else None
    if uri is None:
        return None
    e = point.experiment
    alt = f"{caption}; {_name(source, point)}"
    return Picture(data_uri=uri, alt=alt, caption=caption, width=e.width * frames_wide, height=e.height)


def _candidate_words(point: Point) -> str:
    return point.label.removesuffix(" against fp32")


def _name(source: Source, point: Point) -> str:
    return ", ".join(source.row_names(point))
