"""The pictures that were made, as far as the bundle keeps them."""

from sdbench.report.model import EmbeddedImage, Section
from sdbench.report.series import Point, Source
from sdbench.report.thumbnails import make_picture
from sdbench.units import format_count

TITLE = "What came out?"
MAX_PICTURES = 24
_SYNTHETIC = (
    "With synthetic weights (seeded random numbers) the images are noise: they show that the pipeline ran to its end "
    "and that its output is finite. Time and memory do not depend on the trained values."
)

_DRAWN_TOKENS = (
    "Where the vocabulary of a text encoder is on the hub only, the ids of the prompt were drawn too. It pads every "
    "prompt to one length, so its time does not depend on them."
)


def build(source: Source) -> Section:
    """Return the first image of each experiment, small."""
    pictures: list[EmbeddedImage] = []
    left_out_count = 0
    for point in source.points:
        picture = _first_picture(source, point)
        if picture is not None and len(pictures) < MAX_PICTURES:
            pictures.append(picture)
        else:
            left_out_count += any(image.path for launch in point.launches for image in launch.images)
    paragraphs = []
    if pictures and any(point.experiment.weights == "synthetic" for point in source.points if point.launches):
        paragraphs.append(_SYNTHETIC)
    if any(launch.environment.drawn_tokens for launch in source.launches):
        paragraphs.append(_DRAWN_TOKENS)
    if left_out_count:
        images = format_count(left_out_count, "more image")
        reasons = f"missing, over {MAX_PICTURES}, not a picture, or different from the record's hash"
        paragraphs.append(f"{images} left out: {reasons}.")
    if not pictures:
        paragraphs.append("No image is shown here.")
    noise_count = len(pictures) if paragraphs and paragraphs[0] == _SYNTHETIC else 0
    fold = f"{format_count(noise_count, 'picture')} of noise" if noise_count else ""
    return Section(paragraphs=tuple(paragraphs), pictures=tuple(pictures), pictures_fold=fold)


def _first_picture(source: Source, point: Point) -> EmbeddedImage | None:
    name = source.name(point)
    kind = "output with synthetic weights" if point.experiment.weights == "synthetic" else "output"
    paths = (image.path for launch in point.launches for image in launch.images)
    pictures = (make_picture(point.machine, path, f"{kind} of {name}", name) for path in paths)
    return next(filter(None, pictures), None)
