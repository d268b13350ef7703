"""Pictures of a bundle for the page: decoded, made small and encoded again, so that no untrusted bytes get onto it."""

import base64
import hashlib
import io
from collections.abc import Iterator
from typing import Any

from sdbench.report.extra import report_extra
from sdbench.report.model import EmbeddedImage
from sdbench.report.series import Machine

IMAGE_BYTES = 20 * 1024
# A picture on the page is at most so wide or high; the bundle has it as it was made.
SIDE_PX = 256
# An SD 1.5 image of 4096 x 4096 is past what any card here makes; a bomb of 65,535 x 65,535 takes 12 GiB to decode.
_PIXELS_MAX = 4096 * 4096
_STORED_BYTES_MAX = 32 * 1024**2
# What was made of a picture, by its SHA-256: pages of one site show the same ones.
_shrunk: dict[str, tuple[bytes, int, int] | None] = {}
_FORMATS = ("PNG", "WEBP", "JPEG")
_QUALITIES = (90, 75, 50, 25)


def make_picture(machine: Machine, path: str | None, alt: str, caption: str) -> EmbeddedImage | None:
    """Return an image of a machine's bundle for the page, as WebP of at most 20 KiB.

    None if the bundle does not have it, its hash is not the record's, or it is not a picture: a PNG, WebP or JPEG of at
    most 16 million pixels.

    Raises:
        EnvironmentProblem: the ``report`` extra is not installed.
    """
    content = machine.run.images.get(path) if path else None
    named = next((file for file in machine.record.files if file.path == path), None)
    if content is None or named is None or hashlib.sha256(content).hexdigest() != named.sha256:
        return None
    # By hash: a key of whole pictures would hold all of them in memory.
    if named.sha256 not in _shrunk:
        _shrunk[named.sha256] = shrink(content)
    made = _shrunk[named.sha256]
    if made is None:
        return None
    webp, width, height = made
    return EmbeddedImage(
        webp_base64=base64.b64encode(webp).decode(), alt=alt, caption=caption, width=width, height=height
    )


def shrink(content: bytes) -> tuple[bytes, int, int] | None:
    """Return the first frame of a picture as a small WebP, its width and height (px); None if it is not one."""
    with report_extra():
        from PIL import Image
    if len(content) > _STORED_BYTES_MAX:
        return None
    try:
        with Image.open(io.BytesIO(content), formats=_FORMATS) as opened:
            if opened.width * opened.height > _PIXELS_MAX:
                return None
            picture = opened.convert("RGB")
    # What Pillow raises for damaged files, by format.
    except (OSError, ValueError, SyntaxError, EOFError, Image.DecompressionBombError, Image.DecompressionBombWarning):
        return None
    picture.thumbnail((SIDE_PX, SIDE_PX))
    return next((webp, picture.width, picture.height) for webp in _encode(picture) if len(webp) <= IMAGE_BYTES)


def _encode(picture: Any) -> Iterator[bytes]:
    """The picture as WebP, each time smaller; 16 by 16 pixels always fit."""
    shown = picture
    while True:
        for quality in _QUALITIES:
            buffer = io.BytesIO()
            shown.resize(picture.size).save(buffer, format="WEBP", quality=quality, method=4)
            yield buffer.getvalue()
        shown = shown.resize((max(16, shown.width // 2), max(16, shown.height // 2)))
