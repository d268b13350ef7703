"""Float images as pictures to look at; results are never computed from them."""

import io
from typing import Any

# Differences of reduced precision are 0.005 (fp16) to 0.05 (bf16) of the range; they become visible at twenty times.
AMPLIFICATION = 20
# Lossy WebP at this quality keeps a 512x512 picture near 20 KiB; the results are of the unrounded images.
_QUALITY = 80
_FRAME_MS = 300


def to_picture(image: Any) -> Any:
    """Return float RGB (height, width, 3) in 0 to 1 as a PIL image; what is not finite is magenta."""
    import numpy as np
    from PIL import Image

    finite = np.isfinite(image).all(axis=2)
    pixels = np.where(finite[..., None], image, np.array((1.0, 0.0, 1.0)))
    return Image.fromarray(np.round(pixels * 255).astype(np.uint8), "RGB")


def draw_difference(reference: Any, candidate: Any) -> Any:
    """Return the absolute difference of two float images, amplified by ``AMPLIFICATION`` and cut off at white."""
    import numpy as np

    with np.errstate(invalid="ignore"):
        return to_picture(np.minimum(np.abs(candidate - reference) * AMPLIFICATION, 1.0))


def encode_webp(picture: Any, **options: Any) -> bytes:
    """Return a PIL image as WebP, lossy unless Pillow's ``options`` say otherwise."""
    buffer = io.BytesIO()
    picture.save(buffer, format="WEBP", **{"quality": _QUALITY} | options)
    return buffer.getvalue()


def encode_animation(reference: tuple[Any, ...], candidate: tuple[Any, ...]) -> bytes:
    """Return an animated WebP: per frame the reference, the candidate and their difference side by side."""
    import numpy as np
    from PIL import Image

    pairs = zip(reference, candidate, strict=True)
    rows = [(to_picture(a), to_picture(b), draw_difference(a, b)) for a, b in pairs]
    frames = [Image.fromarray(np.hstack([np.asarray(picture) for picture in row])) for row in rows]
    return encode_webp(frames[0], save_all=True, append_images=frames[1:], duration=_FRAME_MS, loop=0)
