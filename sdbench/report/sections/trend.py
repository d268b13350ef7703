"""How the latencies of a machine changed over the versions of its driver, of torch, of the image, or of sdbench."""

from collections.abc import Iterator

from sdbench.compare.trends import ExperimentTrend, Trend, count_versions, find_trend
from sdbench.compare.verdicts import MARGIN
from sdbench.compare.wording import explain, format_change, format_interval, name_verdict
from sdbench.report.chart_model import LineChart, LinePoint
from sdbench.report.model import Cell, Section, Table
from sdbench.report.points import Source
from sdbench.report.text import NONE, TONES, cell, format_count, make_table, shorten_hashes
from sdbench.schema.record import Record

TITLE = "Over the versions"
# What people update, the likeliest first.
FIELDS = ("driver", "torch", "cuda", "onnxruntime", "diffusers", "image", "sdbench")
# More lines than these hide each other; the table has all.
_LINES = 6
_TABLE_ROWS = 100
_NONE_HERE = "No machine on this page has runs of two versions of its driver, torch, CUDA, image or sdbench."


def build(source: Source) -> Section:
    """Return a chart and a table per machine and field that has two versions or more."""
    machines: dict[tuple[str, str, str], list[Record]] = {}
    for machine in source.machines:
        record = machine.record
        if record.origin != "imported":
            key = record.origin, record.fingerprint.hardware_sha256, record.device
            machines.setdefault(key, []).append(record)
    trends = [
        find_trend(records, field, MARGIN)
        for records in machines.values()
        for field in FIELDS
        if count_versions(records, field) > 1
    ]
    if not trends:
        return Section(name="trend", title=TITLE, paragraphs=(_NONE_HERE,))
    labels = {point.planned.experiment_id: point.label for point in source.points}
    trends = [_relabel(trend, labels) for trend in trends]
    return Section(
        name="trend",
        title=TITLE,
        paragraphs=tuple(text for trend in trends for text in _companions(trend)),
        charts=tuple(chart for trend in trends if (chart := _chart(trend)) is not None),
        tables=tuple(_table(trend) for trend in trends),
    )


def _relabel(trend: Trend, labels: dict[str, str]) -> Trend:
    """The trend with the page's labels, which tell apart what the plan's do not."""
    named = tuple(item.model_copy(update={"label": labels[item.experiment_id]}) for item in trend.experiments)
    return trend.model_copy(update={"experiments": named})


def _companions(trend: Trend) -> Iterator[str]:
    if trend.also:
        yield f"Not only {trend.by} changed: {', '.join(trend.also[:_LINES])} did too; do not blame it alone."


def _chart(trend: Trend) -> LineChart | None:
    shown = [item for item in trend.experiments if len(item.points) > 1][:_LINES]
    if not shown:
        return None
    places = {version: number for number, version in enumerate(trend.versions, start=1)}
    return LineChart(
        alt=f"Latency over {trend.by}, relative to the first version; the table below has the steps",
        caption=f"{trend.device_name}: latency over {trend.by}, 1 is the first version",
        x_axis=trend.by,
        doubling=False,
        axis="latency / that of the first version",
        log_scale=False,
        from_zero=False,
        x_names=tuple(map(shorten_hashes, trend.versions)),
        points=tuple(
            LinePoint(
                line=item.label,
                x=places[point.version],
                value=point.latency_s / item.points[0].latency_s,
                low=None,
                high=None,
            )
            for item in shown
            for point in item.points
        ),
    )


def _table(trend: Trend) -> Table:
    rows = [row for item in trend.experiments for row in _rows(item)]
    caption = f"Steps over {trend.by}, margin {trend.margin:.0%}"
    if not rows:
        rows = [(NONE, NONE, "no change of level was found", NONE, NONE, NONE)]
    table = make_table(caption, "Experiment|Step|Verdict|#Change|#Interval|Why", rows[:_TABLE_ROWS])
    if len(rows) <= _TABLE_ROWS:
        return table
    note = f"{format_count(len(rows) - _TABLE_ROWS, 'step')} more: sdbench trend shows all of them."
    return Table(caption=table.caption, columns=table.columns, rows=table.rows, notes=(note,))


def _rows(item: ExperimentTrend) -> Iterator[tuple[Cell | str, ...]]:
    for step in item.steps:
        judgement, word = step.judgement, name_verdict(step.judgement)
        yield (
            item.label,
            shorten_hashes(f"{step.before} → {step.after}"),
            cell(word, TONES.get(word, "plain")),
            NONE if judgement.ratio is None else format_change(judgement.ratio),
            NONE if judgement.low is None else format_interval(judgement),
            explain(judgement) or NONE,
        )
    for reason in item.left_out:
        yield item.label, reason.partition(":")[0], cell("left out", "muted"), NONE, NONE, reason.partition(": ")[2]
