"""The pictures that were made, as far as the bundle keeps them."""

from sdbench.report.embed import read_data_uri
from sdbench.report.model import ImageSection, Picture
from sdbench.report.points import Point, Source
from sdbench.report.text import format_count
from sdbench.schema.outcome import ImageResult

TITLE = "What came out?"
MAX_PICTURES = 24
_SYNTHETIC = (
    "With synthetic weights (seeded random numbers) the images are not pictures of anything: they show that the "
    "pipeline ran to its end and that its output is finite. Time and memory do not depend on the trained values."
)


def build(source: Source) -> ImageSection:
    """Return the small images of the bundle as data URIs, the first of each launch's experiment."""
    pictures: list[Picture] = []
    left_out_count = 0
    for point in source.points:
        found = _first_picture(source, point)
        if found is None:
            left_out_count += any(image.path for launch in point.launches for image in launch.images)
        elif len(pictures) < MAX_PICTURES:
            pictures.append(found)
        else:
            left_out_count += 1
    paragraphs = [_SYNTHETIC] if any(p.experiment.weights == "synthetic" for p in source.points if p.launches) else []
    if not pictures:
        paragraphs.append("No image is embedded here.")
    if left_out_count:
        images = format_count(left_out_count, "more image")
        paragraphs.append(f"{images} left out: not given, too large, over {MAX_PICTURES}, or unlike the record's hash.")
    return ImageSection(name="images", title=TITLE, paragraphs=tuple(paragraphs), pictures=tuple(pictures))


def _first_picture(source: Source, point: Point) -> Picture | None:
    for launch in point.launches:
        for image in launch.images:
            if image.path and (uri := read_data_uri(source, point.machine, image.path)):
                return _picture(source, point, image, uri)
    return None


def _picture(source: Source, point: Point, image: ImageResult, uri: str) -> Picture:
    name = ", ".join(source.row_names(point))
    kind = "output with synthetic weights" if point.experiment.weights == "synthetic" else "output"
    return Picture(data_uri=uri, alt=f"{kind} of {name}", caption=name, width=image.width, height=image.height)
