"""What was skipped or failed, where, why, and what to do."""

from collections.abc import Iterable, Iterator

from sdbench.report.format import Row, cell, texts
from sdbench.report.model import Detail, Section
from sdbench.report.series import Point, Source
from sdbench.schema.outcome import Failed, OutOfMemory, Skipped, Succeeded, TimedOut
from sdbench.units import format_count, format_duration

TITLE = "What was not measured, and why?"
OUT_OF_MEMORY_HINT = "use a smaller batch or image, a smaller precision, or a machine with more memory"


def build(source: Source) -> Section | str:
    """Return every skipped, failed, timed-out or out-of-memory experiment with its stage, message and hint."""
    points = [point for point in source.points if point.estimate is None and point.workload_result is None]
    if not points:
        return _describe_cut_short(source)
    columns = texts("Outcome", "Stage", "What happened", "What to do", "Finished launches")
    rows = [_row(point) for point in points]
    # Nothing that was skipped has a stage or a launch.
    kept = [place for place in range(len(columns)) if any(row[place] not in (None, "0") for row in rows)]
    shown = ((point, tuple(row[place] for place in kept)) for point, row in zip(points, rows, strict=True))
    table = source.table("Not measured", (columns[place] for place in kept), shown)
    return Section(tables=(table,), details=tuple(_errors(source, points)))


def _describe_cut_short(source: Source) -> str:
    """Whether every experiment that has a result also has the launches that were planned at least."""
    short = [point for point in source.own if len(point.launches) < point.planned.protocol.launches_min]
    if not short:
        return "Every experiment was measured, with as many launches as planned or more."
    counts = sorted({len(point.launches) for point in short})
    planned = max(point.planned.protocol.launches_min for point in short)
    some = f"{counts[0]} to {counts[-1]}" if len(counts) > 1 else str(counts[0])
    reasons = {point.outcome.stop_reason for point in short if isinstance(point.outcome, Succeeded)}
    why = "the budget ended it" if reasons == {"budget"} else "the run ended early"
    return (
        f"Every experiment has a result, but {len(short)} of {len(source.points)} had fewer launches than planned: "
        f"{why} after {some} of {planned} launches."
    )


def _row(point: Point) -> Row:
    status = cell(point.status, "muted" if point.outcome.kind == "skipped" else "bad")
    return (status, *_story(point), str(len(point.launches)))


def _story(point: Point) -> tuple[str | None, str, str | None]:
    match point.outcome:
        case Skipped() as skipped:
            return (None, skipped.reason, skipped.hint)
        case OutOfMemory() as memory if point.machine.record.origin == "imported":
            return (memory.stage, f"reference result: out of memory: {memory.message}", None)
        case OutOfMemory() as memory:
            return (memory.stage, f"the {memory.where} had too little memory: {memory.message}", OUT_OF_MEMORY_HINT)
        case TimedOut() as late:
            hint = "raise protocol.launch_timeout_s, or make the experiment smaller"
            return (late.stage, f"killed after {format_duration(late.limit_s)}", hint)
        case Failed() as failed:
            hint = f"see the end of its error output below; run it alone with --only {point.planned.experiment_id}"
            return (failed.stage, f"{failed.error_type}: {failed.message}", hint)
        case _:
            return (None, "no launch has a usable latency sample", "see the record, and run it again")


def _errors(source: Source, points: Iterable[Point]) -> Iterator[Detail]:
    for point in points:
        if isinstance(point.outcome, Failed | TimedOut) and (text := point.outcome.stderr_tail):
            lines = format_count(len(text.splitlines()), "line")
            yield Detail(title=f"{source.name(point)}: end of the error output, {lines}", text=text)
