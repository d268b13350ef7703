"""The pages that the browser's tests look at."""

from typing import Any

from sdbench.report.model import ReportView
from sdbench.schema.base import Known
from sdbench.schema.outcome import Series, Succeeded
from sdbench.schema.record import Record
from tests.fingerprints import make_fingerprint
from tests.records import CLAIM, make_launch, make_manifest, make_record, make_result, make_results
from tests.report.inputs import make_full_record, make_images
from tests.report.test_report_workload_results import CANDIDATE, make_search_result, make_webp, precision_record
from tests.views import Images, Telemetry, build_view

LAUNCHES = 6
ROWS_OF_A_LONG_PAGE = 450


def make_rich_view() -> ReportView:
    """Return a page on which every section has something to show: two drivers, pictures, a study, telemetry."""
    workload_result, full = precision_record(), make_full_record()
    baseline = _with_driver("570.1", 1.0, (*make_results("cuda:0"), make_search_result()), claims=(CLAIM,))
    candidate = _with_driver("580.2", 1.1, ())
    renamed = workload_result.model_copy(update={"run_id": "workload_result", "seal": "1" * 64})
    images: Images = {**make_images(full), "workload_result": {CANDIDATE: make_webp()}}
    return build_view((baseline, candidate, full, renamed), make_traces(baseline), images)


def make_long_view() -> ReportView:
    """Return a page of more rows than are shown without scripts."""
    results = tuple(
        make_result(Succeeded(launches=_launches(1.0 + seed / 100), stop_reason="budget"), seed=seed)
        for seed in range(ROWS_OF_A_LONG_PAGE)
    )
    return build_view((make_record(results=results),))


def make_traces(record: Record) -> Telemetry:
    """Return telemetry that changes, of one launch."""
    times = Series(name="time_s", unit="s", samples=tuple(float(second) for second in range(120)))
    clock = Series(name="gpu_sm_clock_mhz", unit="MHz", samples=tuple(1980.0 - second for second in range(120)))
    power = Series(name="gpu_power_w", unit="W", samples=tuple(300.0 + second % 7 for second in range(120)))
    return {record.run_id: ((record.results[0].planned.experiment_id, 0, (times, clock, power)),)}


def _launches(pace: float) -> tuple[Any, ...]:
    return tuple(make_launch(index, pace * (1 + index / 1000)) for index in range(LAUNCHES))


def _with_driver(version: str, pace: float, more: tuple[Any, ...], **manifest: Any) -> Record:
    fingerprint = make_fingerprint("cuda:0")
    software = fingerprint.software.model_copy(update={"gpu_kernel_driver": Known(value=version)})
    results = tuple(
        make_result(Succeeded(launches=_launches(pace * batch), stop_reason="budget"), batch=batch, scheduler="ddim")
        for batch in (1, 2, 4)
    )
    return make_record(
        run_id=f"driver-{version}",
        device="cuda:0",
        manifest=make_manifest(**manifest),
        created_utc=f"2026-01-{15 if pace == 1.0 else 16}T10:00:00Z",
        fingerprint=fingerprint.model_copy(update={"software": software}),
        results=(*results, *more),
    )
