"""From a run's folder to its published bundle: made once, kept next to the record, and sent as it was shown."""

import hashlib
import json
import struct
from collections.abc import Iterator, Mapping
from pathlib import Path

from sdbench.errors import RecordError, UserError
from sdbench.publish.archive import ARCHIVE_BYTES_MAX, PublishedBundle, check_files, pack, read_bundle
from sdbench.publish.filter import export_record, published_fields
from sdbench.schema.record import BundledFile, Record
from sdbench.store.bundle import encode_sealed, read_files
from sdbench.store.files import read_file, write_whole
from sdbench.store.journal import encode_line
from sdbench.store.layout import IMAGE_FOLDER, MANIFEST_NAME, RECORD_NAME, TELEMETRY_NAME
from sdbench.store.run import Run, load_run
from sdbench.units import format_bytes

EXPORT_NAME = "export.zip"
# What a WebP file is made of; anything else (EXIF, XMP, colour profiles) may reveal where and by whom it was made.
_PICTURE_CHUNKS = {b"VP8 ", b"VP8L", b"VP8X", b"ALPH", b"ANIM", b"ANMF"}


def export_bundle(path: Path, environ: Mapping[str, str]) -> PublishedBundle:
    """Return the bundle of a run as it is published.

    What was made once is kept in the run's folder and not made again: what is published is what was shown.

    Raises:
        RecordError: the run is damaged.
        UserError: an identifier or a picture holds private data, or the run is too large.
    """
    run = load_run(path)
    if run.record.publication is not None:
        return _pack(run.record, read_files(path, run.record))
    kept = run.folder / EXPORT_NAME
    if kept.is_file():
        try:
            bundle = read_bundle(read_file(kept, ARCHIVE_BYTES_MAX), str(kept))
        except RecordError as problem:
            hint = f"It is the published form of {run.folder}: remove it, and it is made again"
            raise UserError(f"{problem}. {hint}") from None
        if bundle.is_of(run.record):
            return bundle
    bundle = _pack(*_export(run, environ))
    if path.is_dir():
        write_whole(kept, bundle.archive)
    return bundle


def _pack(record: Record, files: Mapping[str, bytes]) -> PublishedBundle:
    check_files(record, files, record.run_id)
    content = pack(files)
    if len(content) > ARCHIVE_BYTES_MAX:
        raise UserError(
            f"{record.run_id}: {format_bytes(len(content))}, more than a bundle may have "
            f"({format_bytes(ARCHIVE_BYTES_MAX)}); split the manifest"
        )
    return PublishedBundle(record, files, content)


def _export(run: Run, environ: Mapping[str, str]) -> tuple[Record, dict[str, bytes]]:
    content = export_record(run.record, environ)
    files = {MANIFEST_NAME: _encode_manifest(run.record, content)}
    if telemetry := _export_telemetry(run):
        files[TELEMETRY_NAME] = telemetry
    for name, image in run.images.items():
        is_webp = image[:4] == b"RIFF" and image[8:12] == b"WEBP"
        if unknown := (set(_chunks(image, 12, len(image))) if is_webp else {b"no WebP"}) - _PICTURE_CHUNKS:
            raise UserError(
                f"{run.folder / name}: holds {min(unknown)!r} next to the picture, which may reveal more than the "
                f"picture; remove the file from {IMAGE_FOLDER}/ or strip its metadata"
            )
        files[name] = image
    named = [
        BundledFile(path=name, sha256=hashlib.sha256(file).hexdigest(), size_bytes=len(file))
        for name, file in sorted(files.items())
    ]
    sealed, encoded = encode_sealed(content, named)
    return sealed, files | {RECORD_NAME: encoded}


def _encode_manifest(record: Record, content: Mapping[str, object]) -> bytes:
    """Return the manifest as it was checked, as YAML (which JSON is), without its comments."""
    exported = type(record.manifest).model_validate_json(json.dumps(content["manifest"]))
    written = exported.model_dump(mode="json", by_alias=True, exclude_defaults=True)
    # The schema has no default but is what a reader needs first.
    return (json.dumps({"schema": exported.schema_} | written, indent=2, ensure_ascii=False) + "\n").encode()


def _export_telemetry(run: Run) -> bytes:
    columns = published_fields().columns
    lines = []
    for launch in run.telemetry:
        kept = [item.to_json_dict() for item in launch.series if item.name in columns]
        lines.append(encode_line({"experiment_id": launch.experiment_id, "index": launch.index, "series": kept}))
    return b"".join(lines)


def _chunks(webp: bytes, start: int, end: int) -> Iterator[bytes]:
    """Yield the names of the chunks of a WebP file, those within an animation's frames too.

    Source: RFC 9649, sections 2.3 to 2.7.
    """
    frame_header_bytes = 16
    while start + 8 <= end:
        name, length = webp[start : start + 4], struct.unpack_from("<I", webp, start + 4)[0]
        yield name
        if name == b"ANMF":
            yield from _chunks(webp, start + 8 + frame_header_bytes, min(start + 8 + length, end))
        start += 8 + length + length % 2
    if start < end:
        yield b"more"
