"""What was skipped or failed, where, why, and what to do."""

from sdbench.report.model import Detail, FoldedSection
from sdbench.report.points import Point, Source
from sdbench.report.text import NONE, cell, format_count, make_table
from sdbench.schema.outcome import Failed, OutOfMemory, Skipped, TimedOut
from sdbench.units import format_duration

TITLE = "What was not measured, and why?"


def build(source: Source) -> FoldedSection:
    """Return every skipped, failed, timed-out or out-of-memory experiment with its stage, message and remedy."""
    points = [point for point in source.points if point.estimate is None and point.study is None]
    if not points:
        return FoldedSection(name="unmeasured", title=TITLE, paragraphs=("Everything was measured.",), details=())
    table = make_table(
        "Not measured",
        f"{source.row_columns}|Outcome|Stage|What happened|What to do|Finished launches",
        (
            (
                *source.row_names(point),
                cell(point.status, "muted" if point.outcome.kind == "skipped" else "bad"),
                *_story(point),
                str(len(point.launches)),
            )
            for point in points
        ),
    )
    details = tuple(detail for point in points if (detail := _stderr(source, point)))
    return FoldedSection(name="unmeasured", title=TITLE, tables=(table,), details=details)


def _story(point: Point) -> tuple[str, str, str]:
    """The stage, what happened, and what to do."""
    match point.outcome:
        case Skipped() as skipped:
            return (NONE, skipped.reason, skipped.remedy)
        case OutOfMemory() as full if point.machine.record.origin == "imported":
            return (full.stage, f"published as out of memory: {full.message}", NONE)
        case OutOfMemory() as full:
            remedy = "take a smaller batch or image, a smaller precision, or a machine with more memory"
            return (full.stage, f"the {full.where} had too little memory: {full.message}", remedy)
        case TimedOut() as late:
            remedy = "raise protocol.launch_timeout_s, or make the experiment smaller"
            return (late.stage, f"killed after {format_duration(late.limit_s)} without an end", remedy)
        case Failed() as failed:
            remedy = f"see the end of its error output below; run it alone with --only {point.planned.experiment_id}"
            return (failed.stage, f"{failed.error_type}: {failed.message}", remedy)
        case _:
            return (NONE, "no launch has a usable latency sample", "see the record, and run it again")


def _stderr(source: Source, point: Point) -> Detail | None:
    if not isinstance(point.outcome, Failed | TimedOut) or not point.outcome.stderr_tail:
        return None
    line_count = len(point.outcome.stderr_tail.splitlines())
    title = f"{', '.join(source.row_names(point))}: end of the error output, {format_count(line_count, 'line')}"
    return Detail(title=title, text=point.outcome.stderr_tail)
