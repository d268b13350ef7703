"""The pictures that were made, as far as the bundle keeps them."""

import base64
import hashlib

from sdbench.report.model import ImageSection, Picture
from sdbench.report.points import Machine, Point, Source
from sdbench.report.text import format_count
from sdbench.schema.outcome import ImageResult

TITLE = "What came out?"
# A page that is sent by mail stays below 10 MB with 24 pictures of this size.
MAX_IMAGE_BYTES = 256 * 1024
MAX_PICTURES = 24
_MEDIA_TYPES = {b"\x89PNG\r\n\x1a\n": "image/png", b"RIFF": "image/webp", b"\xff\xd8\xff": "image/jpeg"}
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
            if image.path and (uri := _data_uri(source, point.machine, image.path)):
                return _picture(source, point, image, uri)
    return None


def _picture(source: Source, point: Point, image: ImageResult, uri: str) -> Picture:
    name = ", ".join(source.row_names(point))
    kind = "output with synthetic weights" if point.experiment.weights == "synthetic" else "output"
    return Picture(data_uri=uri, alt=f"{kind} of {name}", caption=name, width=image.width, height=image.height)


def _data_uri(source: Source, machine: Machine, path: str) -> str | None:
    """The image's bytes as a data URI, if the record names them and their hash is the record's."""
    content = source.images.get(machine.record.run_id, {}).get(path)
    named = next((file for file in machine.record.files if file.path == path), None)
    if content is None or named is None or len(content) > MAX_IMAGE_BYTES:
        return None
    media_type = next((media for start, media in _MEDIA_TYPES.items() if content.startswith(start)), None)
    if media_type is None or hashlib.sha256(content).hexdigest() != named.sha256:
        return None
    return f"data:{media_type};base64,{base64.b64encode(content).decode()}"
