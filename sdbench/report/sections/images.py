"""The pictures that were made, as far as the bundle keeps them."""

from sdbench.report.model import ImageSection, Picture, Section
from sdbench.report.points import Point, Source
from sdbench.report.text import format_count
from sdbench.report.thumbnails import make_picture

TITLE = "What came out?"
MAX_PICTURES = 24
_SYNTHETIC = (
    "With synthetic weights (seeded random numbers) the images are not pictures of anything: they show that the "
    "pipeline ran to its end and that its output is finite. Time and memory do not depend on the trained values."
)


def build(source: Source) -> Section:
    """Return the first image of each experiment, small."""
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
    if left_out_count:
        images = format_count(left_out_count, "more image")
        paragraphs.append(
            f"{images} left out: not given, over {MAX_PICTURES}, no picture, or unlike the record's hash."
        )
    if not pictures:
        return Section(name="images", title=TITLE, paragraphs=(*paragraphs[1:], "No image is shown here."))
    return ImageSection(name="images", title=TITLE, paragraphs=tuple(paragraphs), pictures=tuple(pictures))


def _first_picture(source: Source, point: Point) -> Picture | None:
    name = ", ".join(source.row_names(point))
    kind = "output with synthetic weights" if point.experiment.weights == "synthetic" else "output"
    for launch in point.launches:
        for image in launch.images:
            if picture := make_picture(source, point.machine, image.path, f"{kind} of {name}", name):
                return picture
    return None
