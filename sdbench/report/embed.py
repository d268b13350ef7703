"""Files of a bundle inside the page."""

import base64
import hashlib

from sdbench.report.points import Machine, Source

# A page that is sent by mail stays below 10 MB with 24 pictures of this size.
MAX_IMAGE_BYTES = 256 * 1024
_MEDIA_TYPES = {b"\x89PNG\r\n\x1a\n": "image/png", b"RIFF": "image/webp", b"\xff\xd8\xff": "image/jpeg"}


def read_data_uri(source: Source, machine: Machine, path: str) -> str | None:
    """Return the image's bytes as a data URI, if the record names them and their hash is the record's; else None."""
    content = source.images.get(machine.record.run_id, {}).get(path)
    named = next((file for file in machine.record.files if file.path == path), None)
    if content is None or named is None or len(content) > MAX_IMAGE_BYTES:
        return None
    media_type = next((media for start, media in _MEDIA_TYPES.items() if content.startswith(start)), None)
    if media_type is None or hashlib.sha256(content).hexdigest() != named.sha256:
        return None
    return f"data:{media_type};base64,{base64.b64encode(content).decode()}"
