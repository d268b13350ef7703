"""Pictures of untrusted input: decoded, made small, written again, and kept next to the page where they are many."""

import base64
import io
import random
import re
import zlib
from pathlib import Path

import pytest
from PIL import Image

from sdbench.report.model import EmbeddedImage, ReportView, Section
from sdbench.report.render import write_view
from sdbench.report.thumbnails import IMAGE_BYTES, SIDE_PX, shrink
from tests.records import make_record
from tests.views import build_view

SVG = b'<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>'


def encoded(image: Image.Image, kind: str) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind)
    return stream.getvalue()


def noise(size: int, seed: int = 0) -> Image.Image:
    return Image.frombytes("RGB", (size, size), random.Random(seed).randbytes(3 * size * size))


def png_that_claims(width: int, height: int) -> bytes:
    """A PNG whose head has another size than its few bytes of data."""
    png = bytearray(encoded(Image.new("RGB", (8, 8)), "PNG"))
    png[16:24] = width.to_bytes(4, "big") + height.to_bytes(4, "big")
    png[29:33] = zlib.crc32(png[12:29]).to_bytes(4, "big")
    return bytes(png)


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "JPEG"])
def test_a_picture_becomes_a_small_webp(kind: str) -> None:
    made = shrink(encoded(noise(700), kind))
    assert made is not None
    content, width, height = made
    assert len(content) <= IMAGE_BYTES
    assert max(width, height) == SIDE_PX
    with Image.open(io.BytesIO(content)) as picture:
        assert (picture.format, picture.size) == ("WEBP", (width, height))


def test_what_a_file_holds_beside_its_pixels_is_gone() -> None:
    stream = io.BytesIO()
    exif = Image.Exif()
    exif[0x010E] = "<script>alert(1)</script>"
    Image.new("RGB", (8, 8)).save(stream, "WEBP", exif=exif)
    made = shrink(stream.getvalue() + b"<script>alert(1)</script>")
    assert made is not None
    assert b"script" not in made[0]


@pytest.mark.parametrize(
    "content",
    [
        SVG,
        b"",
        b"\x89PNG\r\n\x1a\n",
        b"RIFF\x00\x00\x00\x00WEBP",
        encoded(noise(64), "PNG")[:500],
        encoded(noise(64), "WEBP")[:500],
        png_that_claims(65_535, 65_535),
        png_that_claims(5000, 5000),
        encoded(Image.new("RGB", (8, 8)), "GIF"),
        encoded(Image.new("RGB", (8, 8)), "BMP"),
        b"%PDF-1.4",
        b"<html><script>alert(1)</script>",
    ],
    ids=range(12),
)
def test_what_is_no_picture_or_too_large_a_one_is_left_out(content: bytes) -> None:
    assert shrink(content) is None


def view_with_pictures(count: int) -> ReportView:
    view = build_view((make_record(),))
    pictures = tuple(
        EmbeddedImage(
            webp_base64=base64.b64encode(encoded(noise(70, seed), "WEBP")).decode(),
            alt=f"picture {seed}",
            caption=f"picture {seed}",
            width=70,
            height=70,
        )
        for seed in range(count)
    )
    section = Section(name="images", title="Pictures", pictures=pictures)
    chapters = tuple(
        chapter.model_copy(update={"sections": (section,)}) if chapter.name == "pictures" else chapter
        for chapter in view.chapters
    )
    return view.model_copy(update={"chapters": chapters})


def test_many_pictures_go_into_a_folder_beside_the_page(tmp_path: Path) -> None:
    view = view_with_pictures(800)
    total = sum(len(base64.b64decode(p.webp_base64)) for s in view.sections for p in getattr(s, "pictures", ()))
    assert total > 3 * 1024**2
    text = write_view(view, tmp_path / "a page.html").read_text(encoding="utf-8")
    sources = re.findall(r'<img src="([^"]+)"', text)
    embedded = [source for source in sources if source.startswith("data:image/webp;base64,")]
    assert sum(len(base64.b64decode(source.partition(",")[2])) for source in embedded) <= 3 * 1024**2
    files = {path.name for path in (tmp_path / "a page.files").iterdir()}
    assert {f"a%20page.files/{name}" for name in files} == set(sources) - set(embedded)
    assert len(embedded) + len(files) == 800
    assert "img-src data: 'self' file:;" in text


def test_a_page_with_few_pictures_has_no_folder(tmp_path: Path) -> None:
    text = write_view(view_with_pictures(3), tmp_path / "page.html").read_text(encoding="utf-8")
    assert "img-src data:;" in text
    assert [path.name for path in tmp_path.iterdir()] == ["page.html"]
