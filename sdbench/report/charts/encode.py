"""What the charts share: axes, scales and colours. Altair is passed in by the one function that imports it."""

from collections.abc import Mapping, Sequence
from itertools import cycle
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
# An interval that is not known has no ends: arrows to both sides.
_OPEN_ENDS = "M-1,0L-.4,0M-.8,-.2L-1,0L-.8,.2M.4,0L1,0M.8,-.2L1,0L.8,.2"
_OPEN_SIZE_PX2 = 1_300
OPEN_LOOK: Row = {"shape": _OPEN_ENDS, "size": _OPEN_SIZE_PX2, "strokeWidth": 1.5, "filled": False}
# So far from the point is the text next to it, and next to open ends.
TEXT_GAP_PX, OPEN_GAP_PX = 9, 24
# Two names of so many characters stand next to each other over the plot.
_NARROW_CHARACTERS = 45
# Below this share of filled places a chart is mostly empty rows.
_DENSE_RATIO = 0.5
# Parts what makes a row its own from what its label shows: the machine's name stands next to the value.
_SEPARATOR = " § "
_DECADES_WITH_ALL_TICKS = 4


def number_looks(alt: Altair, ends: Sequence[float], *, log_scale: bool) -> dict[str, Drawing]:
    """Return the scale, which holds ``ends`` and starts at zero when it is linear, and the axis with round numbers."""
    if not log_scale:
        scale = alt.Scale(type="linear", domain=[0, max(ends) * _LINEAR_ROOM], nice=False)
        return {"scale": scale, "axis": alt.Axis(format="~r", tickCount=6)}
    low, high = min(ends) * _LOG_ROOM_LOW, max(ends) * _LOG_ROOM_HIGH
    # Exponents only where there would be more zeros than one can count.
    axis = alt.Axis(format="~e" if min(ends) < _EXPONENTS_BELOW else "~g", values=log_ticks(low, high))
    return {"scale": alt.Scale(type="log", domain=[low, high], nice=False), "axis": axis}


def log_ticks(low: float, high: float) -> list[float]:
    """Return the numbers 1, 2, 5, 10, ... between ``low`` and ``high``; over four decades, powers of ten only."""
    first, last = floor(log10(low)), ceil(log10(high))
    factors = (1, 2, 5) if last - first <= _DECADES_WITH_ALL_TICKS else (1,)
    ticks = [factor * 10.0**power for power in range(first, last + 1) for factor in factors]
    return [tick for tick in ticks if low <= tick <= high]


def plot(alt: Altair, rows: Sequence[Row]) -> Drawing:
    """Return a drawing of rows, without marks."""
    return alt.Chart(alt.Data(values=rows))


def plot_rows(alt: Altair, machines: tuple[str, ...], rows: list[Row]) -> Drawing:
    """Return a drawing with one row per experiment; several machines lie below each other within it.

    Where few machines have an experiment each pair has a row of its own, because Vega keeps room for every machine.
    """
    pairs = {(row["label"], row["machine"]) for row in rows}
    if len(machines) > 1 and len(pairs) < _DENSE_RATIO * len({label for label, _ in pairs}) * len(machines):
        named = [row | {"row": f"{row['label']}{_SEPARATOR}{row['machine']}"} for row in rows]
        axis = alt.Axis(labelExpr=f"split(datum.label, '{_SEPARATOR}')[0]")
        return plot(alt, named).encode(y=alt.Y("row:N", title=None, sort=None, axis=axis))
    drawing = plot(alt, rows).encode(y=alt.Y("label:N", title=None, sort=None))
    if len(machines) == 1:
        return drawing
    return drawing.encode(yOffset=alt.YOffset("machine:N", sort=list(machines)))


def rows_size(alt: Altair) -> dict[str, Any]:
    """Return the width and the height per row (px)."""
    return {"width": PLOT_WIDTH_PX, "height": alt.Step(ROW_STEP_PX)}


def name_looks(alt: Altair, field: str, names: Sequence[str], *, legend: bool = True) -> dict[str, Drawing]:
    """Return the colour and the shape of each machine's or line's marks: colour is not all that distinguishes them."""
    # Long names below each other: side by side they would make the chart wider than its plot, and so smaller.
    columns = 1 if max(map(len, names), default=0) > _NARROW_CHARACTERS else 2
    shown = alt.Legend(orient="top", columns=columns, rowPadding=6) if legend else None
    colours = dict(zip(names, cycle(mark_variables()), strict=False))
    shapes = dict(zip(names, shapes_of(names), strict=True))
    return {"color": look(alt.Color, field, colours, shown), "shape": look(alt.Shape, field, shapes, shown)}


def look(channel: Drawing, field: str, looks: Mapping[Any, str], legend: Drawing = None) -> Drawing:
    """Return an encoding of names by their colours or shapes."""
    scale = {"domain": list(looks), "range": list(looks.values())}
    return channel(f"{field}:N", sort=None, scale=scale, legend=legend)


def machine_looks(alt: Altair, machines: tuple[str, ...], *, legend: bool = True) -> dict[str, Drawing]:
    """Return the colour and the shape of each machine's marks; a legend only when there are several."""
    return name_looks(alt, "machine", machines, legend=legend and len(machines) > 1)


def shapes_of(names: Sequence[str]) -> list[str]:
    """Return the shape of each machine or line: where the colours start over, the shapes are shifted by one."""
    count = len(SHAPES)
    return [SHAPES[(index + index // count) % count] for index in range(len(names))]


def mark_variables() -> tuple[str, ...]:
    """Return the colours of marks as CSS variables."""
    return tuple(map(css_variable, MACHINE_MARKS))
