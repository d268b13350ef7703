"""Views of records that lie in no folder."""

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from sdbench.report import render, series, site, view, write
from sdbench.report.model import ReportView
from sdbench.report.prices import NO_PRICES, Prices
from sdbench.schema.outcome import Series
from sdbench.schema.record import Record
from sdbench.store.run import LaunchTelemetry, Run

Telemetry = Mapping[str, Sequence[tuple[str, int, tuple[Series, ...]]]]
Images = Mapping[str, Mapping[str, bytes]]


def make_run(record: Record, telemetry: Telemetry | None = None, images: Images | None = None) -> Run:
    """Return a run of a record that was never written; ``telemetry`` and ``images`` are by run id."""
    run = Run(Path("no-folder"), record)
    launches = (telemetry or {}).get(record.run_id, ())
    # What the properties would have read.
    vars(run)["telemetry"] = tuple(
        LaunchTelemetry(experiment_id=experiment_id, index=index, series=of_launch)
        for experiment_id, index, of_launch in launches
    )
    vars(run)["images"] = (images or {}).get(record.run_id, {})
    return run


def build_view(
    records: Sequence[Record],
    telemetry: Telemetry | None = None,
    images: Images | None = None,
    prices: Prices = NO_PRICES,
) -> ReportView:
    return view.build_view([make_run(record, telemetry, images) for record in records], prices)


def make_source(
    records: Sequence[Record], telemetry: Telemetry | None, images: Images | None, prices: Prices = NO_PRICES
) -> series.Source:
    return series.make_source([make_run(record, telemetry, images) for record in records], prices)


def write_site(records: Sequence[Record], folder: Path) -> Path:
    return site.write_site([make_run(record) for record in records], folder)


def write_report(records: Sequence[Record], path: Path) -> Path:
    return write.write_report([make_run(record) for record in records], path)


def render_report(shown: ReportView) -> str:
    with tempfile.TemporaryDirectory() as folder:
        return render.write_view(shown, Path(folder) / "report.html").read_text(encoding="utf-8")
