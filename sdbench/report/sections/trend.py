"""How the latencies of a machine changed over the versions of its driver, of torch, of the image, or of sdbench."""

from collections.abc import Iterator, Mapping, Sequence

from sdbench.compare.policy import MARGIN
from sdbench.compare.trends import ExperimentTrend, Step, Trend, find_trend
from sdbench.compare.versions import count_versions
from sdbench.compare.wording import describe_there, explain
from sdbench.report.chart_model import LineChart, LineMark, LinePoint
from sdbench.report.format import Row, cell, limit_rows, make_table, numbers, shorten_hashes, texts, verdict_cells
from sdbench.report.grouping import group_by
from sdbench.report.model import Section, Table
from sdbench.report.series import Source

TITLE = "Over the versions"
# What people update, the likeliest first.
FIELDS = ("driver", "torch", "cuda", "onnxruntime", "diffusers", "image", "sdbench")
# More lines than these hide each other; the table has all.
_LINES = 6
_TABLE_ROWS = 100
_COLUMNS = (
    *texts("Experiment", "Step", "Verdict"),
    *numbers("Change", "Interval"),
    *texts("Why", "Also changed there"),
)
_NONE_HERE = "No machine on this page has runs of two versions of its driver, torch, CUDA, image or sdbench."


def build(source: Source) -> Section | str:
    """Return a chart and a table per machine and field that has two versions or more."""
    own = [machine.record for machine in source.machines if machine.record.origin != "imported"]
    trends = [
        source.relabel(find_trend(records, field, MARGIN))
        for records in group_by(own, lambda record: record.machine_key).values()
        for field in FIELDS
        if count_versions(records, field) > 1
    ]
    if not trends:
        return _NONE_HERE
    return Section(
        paragraphs=tuple(
            f"Not only {trend.by} changed: {', '.join(trend.also[:_LINES])} did too; do not blame it alone."
            for trend in trends
            if trend.also
        ),
        charts=tuple(chart for trend in trends if (chart := _chart(trend)) is not None),
        tables=tuple(_table(trend) for trend in trends),
    )


def _chart(trend: Trend) -> LineChart | None:
    shown = [item for item in trend.experiments if len(item.points) > 1][:_LINES]
    if not shown:
        return None
    places = {version: number for number, version in enumerate(trend.versions, start=1)}
    return LineChart(
        alt=f"Latency over {trend.by}, relative to the first version; the table below has the steps",
        caption=f"{trend.device_name}: latency over {trend.by}, 1 is the first version",
        x_axis=trend.by,
        axis="latency / that of the first version",
        log_scale=False,
        from_zero=False,
        x_names=tuple(map(shorten_hashes, trend.versions)),
        points=tuple(
            LinePoint(line=item.label, x=places[point.version], value=point.latency_s / item.points[0].latency_s)
            for item in shown
            for point in item.points
        ),
        marks=tuple(_marks(shown, places)),
    )


def _marks(shown: Sequence[ExperimentTrend], places: Mapping[str, int]) -> Iterator[LineMark]:
    """Where a level begins that is slower or faster than the one before, with the likeliest of what changed there."""
    steps = {
        step.first_version: step
        for item in shown
        for step in item.steps
        if step.judgement.verdict in ("slower", "faster")
    }
    for version, step in steps.items():
        others = f" and {len(step.changes) - 1} more" if len(step.changes) > 1 else ""
        names = [change.field.rpartition(".")[2] for change in step.changes[:1]]
        yield LineMark(x=places[version], text=f"also {names[0]}{others}" if names else step.judgement.verdict)


def _table(trend: Trend) -> Table:
    rows = [row for item in trend.experiments for row in _rows(item)]
    rows = rows or [(None, None, "no change of level", None, None, None, None)]
    table = make_table(f"Steps over {trend.by}, margin {trend.margin:.0%}", _COLUMNS, rows)
    return limit_rows(table, _TABLE_ROWS, "sdbench trend shows the others")


def _rows(item: ExperimentTrend) -> Iterator[Row]:
    for step in item.steps:
        versions = shorten_hashes(f"{step.before} → {step.after}")
        yield (item.label, versions, *verdict_cells(step.judgement), explain(step.judgement) or None, _changes(step))
    for session in item.odd_sessions:
        version, _, change = session.partition(": ")
        yield item.label, version, cell("odd session?", "muted"), None, None, f"{change}; measure it again", None
    for reason in item.left_out:
        version, _, why = reason.partition(": ")
        yield item.label, version, cell("left out", "muted"), None, None, why, None


def _changes(step: Step) -> str | None:
    """What else changed at a step that may be one; nothing to explain where the latency is the same."""
    if step.judgement.verdict == "same":
        return None
    return shorten_hashes(describe_there(step.changes, step.moved)) or "nothing that is known"
