"""Where the time of a call goes by operator, as a profiler saw it in a further call."""

from itertools import groupby
from operator import attrgetter

from sdbench.report.format import Row, format_percent, numbers, texts
from sdbench.report.grouping import group_by
from sdbench.report.model import Detail, Section
from sdbench.report.series import Measured, Source
from sdbench.schema.base import Known, Unknown
from sdbench.schema.operators import (
    ATTENTION,
    CONVOLUTION,
    GEMM,
    GEMM_PRECISION,
    OUTSIDE,
    REST,
    OperatorRow,
    OperatorTable,
)
from sdbench.units import format_duration

TITLE = "Where the time goes, by operator"
_NOTE = (
    "Shares of a further call under a profiler, which makes it longer (last column): they are no latency. "
    "Outside operators is what no operator covers: Python and dispatch, on a GPU every moment without a kernel."
)
_COLUMNS = (*texts("longest operators"), *numbers("outside operators", "profiled call", "profiled / timed"))
_RAN_COLUMNS = texts("attention", "convolution", "matrix products", "their precision")
_RAN = (ATTENTION, CONVOLUTION, GEMM, GEMM_PRECISION)
_RAN_CAPTION = "What really ran in it"
# A row takes about 80 bytes of the page, and a page of 40 experiments has 150 KiB for them.
_ROWS_SHOWN, _LONGEST, _NAME_CHARACTERS = 16, 3, 60


def build(source: Source) -> Section | str:
    """Return the operators of each experiment that profiled a call (shares and seconds), by phase."""
    tables = [(point, table) for point in source.own if (table := find_table(point))]
    if not tables:
        return _reason(source)
    rows = ((point, _row(point, table)) for point, table in tables)
    ran = ((point, tuple(map(table.ran.get, _RAN))) for point, table in tables if table.ran)
    return Section(
        paragraphs=(_NOTE,),
        tables=(
            source.table("Where the time of a call goes", _COLUMNS, rows),
            source.table(_RAN_CAPTION, _RAN_COLUMNS, ran),
        ),
        details=tuple(
            Detail(title=f"{source.name(point)}: {table.profiler}", text=_describe(table)) for point, table in tables
        ),
    )


def find_table(point: Measured) -> OperatorTable | None:
    """Return the table of the first launch that has one."""
    readings = (launch.operators for launch in point.launches)
    return next((reading.value for reading in readings if isinstance(reading, Known)), None)


def _reason(source: Source) -> str:
    readings = (launch.operators for launch in source.launches)
    reasons = dict.fromkeys(reading.reason for reading in readings if isinstance(reading, Unknown))
    return f"No call was profiled: {next(iter(reasons))}." if reasons else "No call was profiled."


def _row(point: Measured, table: OperatorTable) -> Row:
    by_name = group_by((row for row in table.rows if row.operator not in (OUTSIDE, REST)), _name)
    sums_s = {name: sum(row.self_s for row in rows) for name, rows in by_name.items()}
    longest = sorted(sums_s, key=lambda name: -sums_s[name])[:_LONGEST]
    outside_s = sum(row.self_s for row in table.rows if row.operator == OUTSIDE)
    return (
        ", ".join(f"{name} {format_percent(sums_s[name] / table.call_s)}" for name in longest),
        format_percent(outside_s / table.call_s),
        format_duration(table.call_s),
        f"{table.call_s / point.estimate.value:.2f}",
    )


def _describe(table: OperatorTable) -> str:
    """Return the longest rows by phase, and what is outside operators, as aligned lines."""
    outside = [row for row in table.rows if row.operator == OUTSIDE]
    shown = [row for row in table.rows if row.operator != OUTSIDE][:_ROWS_SHOWN]
    others = len(table.rows) - len(outside) - len(shown)
    lines = []
    for phase, rows in groupby(sorted([*shown, *outside], key=attrgetter("phase")), key=attrgetter("phase")):
        lines.append(phase.replace("_", " "))
        lines += [_line(row, table.call_s) for row in rows]
    lines += [f"{others} more rows are in the record"] if others else []
    if table.host_wait_count is not None and table.host_wait_s is not None:
        lines.append(
            f"the host waited {table.host_wait_count:,} times for the GPU, {format_duration(table.host_wait_s)}"
        )
    return "\n".join(lines)


def _line(row: OperatorRow, call_s: float) -> str:
    calls = f"{row.calls:,} x" if row.calls else ""
    return f"{format_percent(row.self_s / call_s):>8} {format_duration(row.self_s):>8} {calls:>9} {_name(row)}"


def _name(row: OperatorRow) -> str:
    operator = row.operator.removeprefix("aten::")
    if row.kernel is None:
        return operator[:_NAME_CHARACTERS]
    kernel = row.kernel if len(row.kernel) <= _NAME_CHARACTERS else f"{row.kernel[:_NAME_CHARACTERS]}…"
    return f"{kernel} ({operator[:_NAME_CHARACTERS]})"
