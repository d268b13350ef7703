"""Whether the pictures beside a record are the images whose hashes it holds."""

import hashlib
import io
from collections.abc import Iterator, Mapping

from sdbench.schema.outcome import launches_of
from sdbench.schema.record import Record

# As in the report: an image of 4096 x 4096 is past what any card here makes.
_PIXELS_MAX = 4096 * 4096


def check_pictures(record: Record, files: Mapping[str, bytes]) -> tuple[int, list[str]]:
    """Return how many pictures were decoded, and what contradicts the record about them.

    Raises:
        ImportError: Pillow is not installed.
    """
    from PIL import Image

    count, wrong = 0, []
    for path, sha256, size in _named(record):
        if path not in files:
            wrong.append(f"{path} is missing")
            continue
        try:
            with Image.open(io.BytesIO(files[path]), formats=("WEBP",)) as opened:
                if opened.width * opened.height > _PIXELS_MAX:
                    wrong.append(f"{path} has more pixels than any image here")
                    continue
                found = opened.convert("RGB")
        # What Pillow raises for damaged files.
        except (OSError, ValueError, SyntaxError, EOFError, Image.DecompressionBombError):
            wrong.append(f"{path} is no picture")
            continue
        count += 1
        if found.size != size:
            wrong.append(f"{path} has {found.width}x{found.height} pixels, the record says {size[0]}x{size[1]}")
        elif hashlib.sha256(found.tobytes()).hexdigest() != sha256:
            wrong.append(f"{path} is another image than the one that was made")
    return count, wrong


def _named(record: Record) -> Iterator[tuple[str, str, tuple[int, int]]]:
    for result in record.results:
        for launch in launches_of(result.outcome):
            for image in launch.images:
                if image.path is not None:
                    yield image.path, image.sha256, (image.width, image.height)
