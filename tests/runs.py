"""Run folders on the disk for tests: a sealed record with its manifest, telemetry, pictures and journal."""

import hashlib
import io
import json
from pathlib import Path
from typing import Any

from PIL import Image

from sdbench.schema.outcome import ImageResult, Series, Succeeded
from sdbench.schema.record import Record
from sdbench.store.bundle import seal_record
from sdbench.store.journal import encode_line
from tests.records import make_launch, make_manifest, make_record, make_result

LAUNCHES = 3
SIDE_PX = 8


def make_webp(shade: int = 128, **options: Any) -> bytes:
    """Return a small lossless picture."""
    buffer = io.BytesIO()
    Image.new("RGB", (SIDE_PX, SIDE_PX), (shade, shade, 0)).save(buffer, "WEBP", lossless=True, **options)
    return buffer.getvalue()


def hash_pixels(webp: bytes) -> str:
    """Return the SHA-256 of a picture's RGB bytes, as a record holds it."""
    return hashlib.sha256(Image.open(io.BytesIO(webp)).convert("RGB").tobytes()).hexdigest()


def make_run(folder: Path, webp: bytes | None = None, **changes: Any) -> Record:
    """Write a run that agrees with itself into ``folder`` and return its record, with fields changed by name."""
    webp = webp or make_webp()
    path = "images/0-0.webp"
    image = ImageResult(sha256=hash_pixels(webp), width=SIDE_PX, height=SIDE_PX, finite=True, constant=False, path=path)
    launches = tuple(
        make_launch(
            index,
            0.25 * (1 + index / 100),
            call_count=5,
            images=(image if index == 0 else image.model_copy(update={"path": None}),),
            started_utc=f"2026-01-15T10:0{index}:00Z",
        )
        for index in range(LAUNCHES)
    )
    result = make_result(Succeeded(launches=launches, stop_reason="budget"), groups=("only",))
    manifest = make_manifest(
        experiments=(
            {"id": "only", "title": "One", "options": {"pipeline": "tiny-sd", "height": 64, "width": 64, "steps": 4}},
        )
    )
    given = {"run_id": folder.name, "results": (result,), "manifest": manifest, **changes}
    record = make_record(**given)
    folder.mkdir(parents=True)
    (folder / "images").mkdir()
    (folder / path).write_bytes(webp)
    written = {"schema": manifest.schema_} | manifest.model_dump(mode="json", by_alias=True, exclude_defaults=True)
    (folder / "manifest.yaml").write_text(f"# who wrote it\n{json.dumps(written)}\n")
    series = (
        Series(name="time_s", unit="s", samples=(0.0, 1.0)),
        Series(name="load1", unit="tasks", samples=(1.0, 2.0)),
        Series(name="of_the_host", unit="", samples=(7.0, 7.0)),
    )
    entries = [
        {
            "experiment_id": result.planned.experiment_id,
            "index": index,
            "series": [item.to_json_dict() for item in series],
        }
        for index in range(LAUNCHES)
    ]
    (folder / "telemetry.jsonl").write_bytes(b"".join(map(encode_line, entries)))
    journal: list[dict[str, Any]] = [
        {"kind": "start", "key": "k", "run_id": record.run_id, "created_utc": record.created_utc}
    ]
    journal += [
        {"kind": "launch", "experiment_id": item.planned.experiment_id, "launch": launch.to_json_dict()}
        for item in record.results
        if isinstance(item.outcome, Succeeded)
        for launch in item.outcome.launches
    ]
    (folder / "journal.jsonl").write_bytes(b"".join(map(encode_line, journal)))
    unsealed = {key: value for key, value in record.to_json_dict().items() if key not in ("seal", "files")}
    return seal_record(folder, unsealed)
