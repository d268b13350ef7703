"""From a run's folder to the bundle that leaves: made once, kept beside the record, and sent as it was shown."""

import hashlib
import json
import struct
from collections.abc import Iterator, Mapping
from pathlib import Path

from sdbench.errors import RecordError, UserError
from sdbench.schema.record import BundledFile, Record
from sdbench.store.archive import ARCHIVE_BYTES_MAX, PublishedBundle, check_files, pack, read_bundle
from sdbench.store.bundle import encode_sealed, load_images, load_record, load_telemetry, record_path, verify_files
from sdbench.store.files import write_whole
from sdbench.store.journal import encode_line
from sdbench.store.names import IMAGE_FOLDER, MANIFEST_NAME, RECORD_NAME, TELEMETRY_NAME
from sdbench.store.publication import export_record, published_fields
from sdbench.units import format_bytes

EXPORT_NAME = "export.zip"
# What a WebP file is made of; anything else (EXIF, XMP, colour profiles) may say where and by whom it was made.
_PICTURE_CHUNKS = {b"VP8 ", b"VP8L", b"VP8X", b"ALPH", b"ANIM", b"ANMF"}


def export_bundle(path: Path, environ: Mapping[str, str]) -> tuple[PublishedBundle, bytes]:
    """Return the bundle of a run as it may leave this machine, and its archive.

    What was made once is kept in the run's folder and not made anew: what leaves is what was shown.

    Raises:
        RecordError: the run is damaged.
        UserError: an identifier or a picture holds what may not leave, or the run is too large.
    """
    record = load_record(path)
    folder = record_path(path).parent
    verify_files(folder, record)
    if record.exported is not None:
        files = {file.path: (folder / file.path).read_bytes() for file in record.files}
        files |= {RECORD_NAME: record_path(path).read_bytes()}
        return _pack(record, files)
    kept = folder / EXPORT_NAME
    if kept.is_file():
        content = kept.read_bytes()
        try:
            bundle = read_bundle(content, str(kept))
        except RecordError as problem:
            raise UserError(f"{problem}. It is what may leave of {folder}: remove it, and it is made anew") from None
        if bundle.record.exported is not None and bundle.record.exported.source_seal == record.seal:
            return bundle, content
    bundle, content = _pack(*_export(record, folder, environ))
    if path.is_dir():
        write_whole(kept, content)
    return bundle, content


def _pack(record: Record, files: Mapping[str, bytes]) -> tuple[PublishedBundle, bytes]:
    check_files(record, files, record.run_id)
    content = pack(files)
    if len(content) > ARCHIVE_BYTES_MAX:
        raise UserError(
            f"{record.run_id}: {format_bytes(len(content))}, more than a bundle may have "
            f"({format_bytes(ARCHIVE_BYTES_MAX)}); split the manifest"
        )
    return PublishedBundle(record, files, hashlib.sha256(content).hexdigest()), content


def _export(record: Record, folder: Path, environ: Mapping[str, str]) -> tuple[Record, dict[str, bytes]]:
    export = export_record(record, environ)
    files = {MANIFEST_NAME: _encode_manifest(record, export.content)}
    if telemetry := _export_telemetry(folder):
        files[TELEMETRY_NAME] = telemetry
    for name, content in load_images(folder, record).items():
        if unknown := set(_chunks(content)) - _PICTURE_CHUNKS:
            raise UserError(
                f"{folder / name}: holds {min(unknown)!r} beside the picture, which may say more than the picture; "
                f"remove the file from {IMAGE_FOLDER}/ or strip its metadata"
            )
        files[name] = content
    named = [
        BundledFile(path=name, sha256=hashlib.sha256(content).hexdigest(), size_bytes=len(content))
        for name, content in sorted(files.items())
    ]
    sealed, encoded = encode_sealed(export.content, named)
    return sealed, files | {RECORD_NAME: encoded}


def _encode_manifest(record: Record, content: Mapping[str, object]) -> bytes:
    """Return the manifest as it was checked, as YAML (which JSON is): comments stay on the machine."""
    exported = type(record.manifest).model_validate_json(json.dumps(content["manifest"]))
    written = exported.model_dump(mode="json", by_alias=True, exclude_defaults=True)
    # The schema has no default but is the first thing that a reader looks for.
    return (json.dumps({"schema": exported.schema_} | written, indent=2, ensure_ascii=False) + "\n").encode()


def _export_telemetry(folder: Path) -> bytes:
    columns = published_fields().columns
    lines = []
    for experiment_id, index, series in load_telemetry(folder):
        kept = [item.to_json_dict() for item in series if item.name in columns]
        lines.append(encode_line({"experiment_id": experiment_id, "index": index, "series": kept}))
    return b"".join(lines)


def _chunks(webp: bytes) -> Iterator[bytes]:
    """Yield the names of the chunks of a WebP file, those within an animation's frames too.

    Source: RFC 9649, sections 2.3 to 2.7.
    """
    if webp[:4] != b"RIFF" or webp[8:12] != b"WEBP":
        yield b"no WebP"
        return
    yield from _walk_chunks(webp, 12, len(webp))


def _walk_chunks(webp: bytes, start: int, end: int) -> Iterator[bytes]:
    frame_header_bytes = 16
    while start + 8 <= end:
        name, length = webp[start : start + 4], struct.unpack_from("<I", webp, start + 4)[0]
        yield name
        if name == b"ANMF":
            yield from _walk_chunks(webp, start + 8 + frame_header_bytes, min(start + 8 + length, end))
        start += 8 + length + length % 2
    if start < end:
        yield b"more"
