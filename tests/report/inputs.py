"""Records, telemetry and images that the report's tests share."""

import hashlib
import io
from typing import Any

from sdbench.report.model import ReportView, Section, Table
from sdbench.schema.base import Known, sha256_of
from sdbench.schema.outcome import ImageResult, Launch, RecordWarning, Series, Succeeded
from sdbench.schema.record import BundledFile, Record
from sdbench.schema.warning_codes import WarningCode
from tests.records import make_failed, make_launch, make_record, make_result, make_results, make_skipped
from tests.views import Images, Telemetry

IMAGE_PATH = "images/fp32.png"


def make_png() -> bytes:
    from PIL import Image

    stream = io.BytesIO()
    Image.new("RGB", (8, 8), (12, 34, 56)).save(stream, "PNG")
    return stream.getvalue()


def make_image_result() -> ImageResult:
    return ImageResult(sha256=sha256_of("pixels"), width=8, height=8, finite=True, constant=False, path=IMAGE_PATH)


def make_image_file(content: bytes) -> BundledFile:
    return BundledFile(path=IMAGE_PATH, sha256=hashlib.sha256(content).hexdigest(), size_bytes=len(content))


def make_throttled_launch(index: int, latency_s: float) -> Launch:
    warning = RecordWarning(code=WarningCode.GPU_THROTTLED, message="the power cap was active", hint="cool the machine")
    return make_launch(index, latency_s, throttled=Known(value=True), warnings=(warning,))


def make_full_record() -> Record:
    """A CPU record with a picture, a throttled launch, and every kind of outcome."""
    pictured = Succeeded(
        launches=tuple(make_launch(i, 0.2 + 0.01 * i, images=(make_image_result(),)) for i in range(3)),
        stop_reason="budget",
    )
    throttled = Succeeded(
        launches=(make_launch(0, 0.5), make_throttled_launch(1, 0.9), make_launch(2, 0.51)),
        stop_reason="converged",
    )
    extra = (make_result(pictured, seed=7), make_result(throttled, batch=8))
    return make_record(results=(*make_results(), *extra), files=(make_image_file(make_png()),))


def make_telemetry(record: Record) -> Telemetry:
    series = (
        Series(name="cpu clock", unit="MHz", samples=(3400.0, 3500.0, 3600.0)),
        Series(name="load average", unit="1", samples=(0.5, 0.25, 1.0)),
    )
    return {record.run_id: ((record.results[0].planned.experiment_id, 0, series),)}


def make_images(record: Record) -> Images:
    return {record.run_id: {IMAGE_PATH: make_png()}}


def make_record_without_successes(**changes: Any) -> Record:
    return make_record(results=(make_result(make_failed()), make_result(make_skipped(), batch=2)), **changes)


def find_section(view: ReportView, name: str) -> Section:
    return next(section for section in view.sections if section.name == name)


def find_table(view: ReportView, name: str) -> Table:
    return find_section(view, name).tables[0]


def column(table: Table, title: str) -> list[str]:
    index = [one.title for one in table.columns].index(title)
    return [row[index].text for row in table.rows]
