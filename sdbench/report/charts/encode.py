"""What the charts share: axes, scales and colours. Altair is passed in by the one function that imports it."""

from collections.abc import Sequence
from math import ceil, floor, log10
from typing import Any

from sdbench.report.theme import MACHINE_MARKS, SHAPES, css_variable

# Altair's classes are not checked by mypy (see pyproject.toml).
Altair = Any
Drawing = Any
Row = dict[str, Any]

ROW_STEP_PX = 22
PLOT_WIDTH_PX = 560
POINT_SIZE_PX2 = 55
# A log axis has no zero: these leave room for the outermost whiskers.
_LOG_ROOM_LOW, _LOG_ROOM_HIGH = 0.8, 1.15
_LINEAR_ROOM = 1.05
_EXPONENTS_BELOW = 1e-4
# Two names of so many characters stand beside each other over the plot.
_NARROW_CHARACTERS = 45
# Below this share of filled places a chart is mostly empty rows.
_DENSE_RATIO = 0.5
# Parts what makes a row its own from what its label shows: the machine's name stands beside the value.
_SEPARATOR = " § "
_DECADES_WITH_ALL_TICKS = 4


def number_scale(alt: Altair, ends: Sequence[float], *, log_scale: bool) -> Drawing:
    """Return a scale that holds ``ends``, from zero when it is linear."""
    if log_scale:
        return alt.Scale(type="log", domain=list(_log_domain(ends)), nice=False)
    return alt.Scale(type="linear", domain=[0, max(ends) * _LINEAR_ROOM], nice=False)


def number_axis(alt: Altair, ends: Sequence[float], *, log_scale: bool) -> Drawing:
    """Return an axis with round numbers, in exponent form only where there would be more zeros than one can count."""
    if log_scale:
        return alt.Axis(format="~e" if min(ends) < _EXPONENTS_BELOW else "~g", values=log_ticks(*_log_domain(ends)))
    return alt.Axis(format="~r", tickCount=6)


def log_ticks(low: float, high: float) -> list[float]:
    """Return the numbers 1, 2, 5, 10, ... between ``low`` and ``high``; over four decades, powers of ten only."""
    first, last = floor(log10(low)), ceil(log10(high))
    factors = (1, 2, 5) if last - first <= _DECADES_WITH_ALL_TICKS else (1,)
    ticks = [factor * 10.0**power for power in range(first, last + 1) for factor in factors]
    return [tick for tick in ticks if low <= tick <= high]


def rows_drawing(alt: Altair, machines: tuple[str, ...], rows: list[Row]) -> Drawing:
    """Return a drawing with one row per experiment; several machines lie below each other within it.

    Where few machines have an experiment each pair has a row of its own, because Vega keeps room for every machine.
    """
    if len(machines) == 1:
        return alt.Chart(alt.Data(values=rows)).encode(y=alt.Y("label:N", title=None, sort=None))
    if _is_sparse(machines, rows):
        named = [row | {"row": f"{row['label']}{_SEPARATOR}{row['machine']}"} for row in rows]
        axis = alt.Axis(labelExpr=f"split(datum.label, '{_SEPARATOR}')[0]")
        return alt.Chart(alt.Data(values=named)).encode(y=alt.Y("row:N", title=None, sort=None, axis=axis))
    drawing = alt.Chart(alt.Data(values=rows)).encode(y=alt.Y("label:N", title=None, sort=None))
    return drawing.encode(yOffset=alt.YOffset("machine:N", sort=list(machines)))


def _is_sparse(machines: tuple[str, ...], rows: list[Row]) -> bool:
    pairs = {(row["label"], row["machine"]) for row in rows}
    return len(pairs) < _DENSE_RATIO * len({label for label, _ in pairs}) * len(machines)


def rows_size(alt: Altair) -> dict[str, Any]:
    """Return the width and the height per row (px)."""
    return {"width": PLOT_WIDTH_PX, "height": alt.Step(ROW_STEP_PX)}


def machine_colour(alt: Altair, machines: tuple[str, ...], *, legend: bool = True) -> Drawing:
    """Return the colour of a machine's marks; the first colour when there is but one machine."""
    if len(machines) == 1:
        return alt.value(css_variable(MACHINE_MARKS[0]))
    shown = _top_legend(alt, machines) if legend else None
    return alt.Color("machine:N", sort=None, scale=_scale(alt, machines, mark_variables()), legend=shown)


def machine_shape(alt: Altair, machines: tuple[str, ...], *, legend: bool = True) -> Drawing:
    """Return the shape of a machine's points, so that colour is not all that tells them apart."""
    if len(machines) == 1:
        return alt.value(SHAPES[0])
    shown = _top_legend(alt, machines) if legend else None
    return alt.Shape("machine:N", sort=None, scale=_scale(alt, machines, shapes_of(machines)), legend=shown)


def line_colour(alt: Altair, names: Sequence[str]) -> Drawing:
    """Return the colour of each line."""
    return alt.Color("line:N", sort=None, scale=_scale(alt, names, mark_variables()), legend=_top_legend(alt, names))


def line_shape(alt: Altair, names: Sequence[str]) -> Drawing:
    """Return the shape of each line's points."""
    return alt.Shape("line:N", sort=None, scale=_scale(alt, names, shapes_of(names)), legend=_top_legend(alt, names))


def shapes_of(names: Sequence[str]) -> tuple[str, ...]:
    """Return the shape of each machine or line: where the colours begin anew, the shapes are shifted by one."""
    count = len(SHAPES)
    return tuple(SHAPES[(index + index // count) % count] for index in range(len(names)))


def mark_variables() -> tuple[str, ...]:
    """Return the colours of marks as CSS variables."""
    return tuple(css_variable(name) for name in MACHINE_MARKS)


def _scale(alt: Altair, names: Sequence[str], looks: Sequence[str]) -> Drawing:
    return alt.Scale(domain=list(names), range=[looks[index % len(looks)] for index in range(len(names))])


def _top_legend(alt: Altair, names: Sequence[str]) -> Drawing:
    """Long names below each other: side by side they would make the chart wider than its plot, and so smaller."""
    is_wide = max(map(len, names), default=0) > _NARROW_CHARACTERS
    return alt.Legend(orient="top", columns=1 if is_wide else 2, rowPadding=6)


def _log_domain(ends: Sequence[float]) -> tuple[float, float]:
    return (min(ends) * _LOG_ROOM_LOW, max(ends) * _LOG_ROOM_HIGH)
